"""Local updates against a plain statement of DiLoCo's algorithm, in which every replica is a model of its own."""

import numpy as np
import pytest

from allgrad import comm, nn, optim, parallel
from allgrad.parallel.exchanges import ExchangeError, LocalExchange
from allgrad.parallel.exchanges.fragments import cut_into_fragments

ROWS = 24


def data():
    rng = np.random.default_rng(3)
    return rng.standard_normal((ROWS, 5)), rng.standard_normal((ROWS, 2))


def model():
    return nn.Sequential(nn.Linear(5, 6, rng=0, dtype=np.float64), nn.Tanh(), nn.Linear(6, 2, rng=1, dtype=np.float64))


def squares(net, part):
    return nn.MSELoss()(net(part[0]), part[1])


def plain(
    steps,
    replicas,
    *,
    inner_steps,
    nesterov,
    lr,
    momentum,
    fragments=1,
    warmup_steps=0,
    make=optim.AdamW,
    clip=None,
    skipped=None,
):
    """Algorithm 1 of the paper, with whole models and optimizers for every replica; with fragments, that of streaming DiLoCo.

    During the warm-up, every replica makes the steps of the one model that sees all samples.
    """
    outer = {name: p.value.copy() for name, p in model().named_parameters()}
    velocity = {name: np.zeros_like(value) for name, value in outer.items()}
    nets = [model() for _ in range(replicas)]
    inner = [make(net.parameters(), lr=0.05) for net in nets]
    cuts = [set(outer)]
    if fragments > 1:
        layout = inner[0].flat.layout
        spans = [next(iter(each.values())) for each in cut_into_fragments(layout, fragments)]
        names = dict(zip(inner[0].flat.leaves, outer, strict=True))
        cuts = [{names[s.name] for s in layout.slots if span.start <= s.offset < span.stop} for span in spans]
    x, y = data()
    for step in range(steps):
        for i, (net, optimizer) in enumerate([] if step == skipped else zip(nets, inner, strict=True)):
            rows = slice(i * ROWS // replicas, (i + 1) * ROWS // replicas) if step >= warmup_steps else slice(ROWS)
            optimizer.zero_grad()
            squares(net, (x[rows], y[rows])).backward()
            if clip:
                optim.clip_norm(net, clip)
            optimizer.step()
        if step < warmup_steps:
            outer = {name: p.value.copy() for name, p in nets[0].named_parameters()}
            continue
        for f, names in enumerate(cuts):
            if (step + 1 - warmup_steps - f * inner_steps // fragments) % inner_steps:
                continue
            for name in names:
                values = [dict(net.named_parameters())[name] for net in nets]
                gradient = np.mean([outer[name] - value.value for value in values], axis=0)
                velocity[name] = momentum * velocity[name] + gradient
                outer[name] -= lr * (gradient + momentum * velocity[name] if nesterov else velocity[name])
                for value in values:
                    value.assign(outer[name])
    return outer


def ours(steps, options, *, virtual_workers, make=optim.AdamW, clip=None, skipped=None):
    net = model()
    replica = parallel.DataParallel(
        net, comm.World(), virtual_workers=virtual_workers, reduction={"name": "local", **options}, bucket_mb=1e-4
    )
    replica.attach(make(net.parameters(), lr=0.05))
    for step in range(steps):
        replica.step(lambda part: squares(net, part), replica.split(data()), step)
        if step == skipped:
            replica.skip()
        else:
            replica.update(clip_norm=clip)
    return {name: p.value.copy() for name, p in net.named_parameters()}


@pytest.mark.parametrize(
    ("options", "virtual_workers", "others"),
    [
        ({"inner_steps": 3}, 4, {}),
        ({"inner_steps": 3, "replicas": 2}, 4, {"clip": 0.3}),
        ({"inner_steps": 2, "replicas": 2}, 6, {"make": lambda p, lr: optim.SGD(p, lr=lr, momentum=0.9)}),
        ({"inner_steps": 4, "outer": "sgd", "outer_lr": 1.0, "outer_momentum": 0.0}, 3, {}),
        ({"inner_steps": 4, "fragments": 2}, 4, {}),
        ({"inner_steps": 3, "replicas": 2}, 4, {"skipped": 2}),  # a step at whose end the replicas are averaged
        ({"inner_steps": 3, "fragments": 3, "outer": "sgd", "outer_momentum": 0.5}, 4, {"make": optim.Adafactor}),
        ({"inner_steps": 3, "replicas": 2, "warmup_steps": 3}, 4, {"clip": 0.3, "skipped": 1}),
        ({"inner_steps": 4, "fragments": 2, "warmup_steps": 1}, 3, {}),
    ],
)
def test_equals_the_paper(options, virtual_workers, others):
    found = ours(9, options, virtual_workers=virtual_workers, **others)
    expected = plain(
        9,
        options.get("replicas", virtual_workers),
        inner_steps=options["inner_steps"],
        nesterov=options.get("outer", "nesterov") == "nesterov",
        lr=options.get("outer_lr", 0.7),
        momentum=options.get("outer_momentum", 0.9),
        fragments=options.get("fragments", 1),
        warmup_steps=options.get("warmup_steps", 0),
        **others,
    )
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-7, atol=1e-9, err_msg=name)


def test_between_steps_the_model_has_the_outer_weights():
    net = model()
    replica = parallel.DataParallel(net, comm.World(), virtual_workers=2, reduction={"name": "local", "inner_steps": 2})
    replica.attach(optim.SGD(net.parameters(), lr=0.1))
    before = {name: p.value.copy() for name, p in net.named_parameters()}
    for step in range(2):
        assert all(np.array_equal(p.value, before[name]) for name, p in net.named_parameters())
        replica.step(lambda part: squares(net, part), replica.split(data()), step)
        assert all(np.array_equal(p.value, before[name]) and p.grad is None for name, p in net.named_parameters())
        replica.update()
    assert all(not np.array_equal(p.value, before[name]) for name, p in net.named_parameters())


def test_after_a_step_that_fails_too():
    net = model()
    replica = parallel.DataParallel(net, comm.World(), virtual_workers=2, reduction={"name": "local", "inner_steps": 9})
    replica.attach(optim.SGD(net.parameters(), lr=0.1))
    before = {name: p.value.copy() for name, p in net.named_parameters()}
    replica.step(lambda part: squares(net, part), replica.split(data()), 0)
    replica.update()
    with pytest.raises(ZeroDivisionError):
        replica.step(lambda part: squares(net, part) / (1 // 0), replica.split(data()), 1)
    assert all(np.array_equal(p.value, before[name]) for name, p in net.named_parameters())


def test_what_it_cannot_do_is_said_at_the_start():
    def refused(match, net=None, workers=4, **options):
        with pytest.raises(ExchangeError, match=match):
            parallel.DataParallel(
                net or model(), comm.World(), virtual_workers=workers, reduction={"name": "local", **options}
            )

    for ranks, fitting in ((3, "1, 2 or 4"), (8, "1, 2 or 4")):
        world = comm.World()
        world.size = ranks
        with pytest.raises(ExchangeError, match=f"do not fit on {ranks} ranks.*Start {fitting} ranks"):
            LocalExchange(replicas=2).check(model(), world, 4)
    refused("3 replicas cannot share 4 virtual workers equally", replicas=3)
    refused(
        "layer '1' computes over all virtual workers", net=nn.Sequential(nn.Linear(5, 3, rng=0), nn.SyncBatchNorm(3))
    )
    refused("4 parameters cannot be cut into 5 fragments", fragments=5)
    refused("fragments must be between 1 and inner_steps", inner_steps=2, fragments=3)
    for wrong in (
        {"outer": "adam"},
        {"inner_steps": 0},
        {"outer_lr": 0.0},
        {"outer_momentum": 1.0},
        {"warmup_steps": -1},
    ):
        with pytest.raises(ExchangeError, match=next(iter(wrong))):
            LocalExchange(**wrong)
    net = model()
    replica = parallel.DataParallel(net, comm.World(), virtual_workers=2, reduction="local")
    with pytest.raises(ExchangeError, match=r"call replica\.attach"):
        replica.step(lambda part: squares(net, part), replica.split(data()), 0)
    with pytest.raises(ExchangeError, match="no_sync cannot be combined with LocalExchange"), replica.no_sync():
        pass
