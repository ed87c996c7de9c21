"""Learning-rate schedules against PyTorch's, and by hand."""

import pytest

import allgrad as ag
from allgrad import optim
from allgrad.optim import Constant, Cosine, Linear, OneCycle, Polynomial, Scheduler, StepDecay, WarmUp

TORCH = [
    (StepDecay(every=3, gamma=0.5), "StepLR", {"step_size": 3, "gamma": 0.5}),
    (Cosine(20, final=0.0), "CosineAnnealingLR", {"T_max": 20}),
    (Cosine(20, final=0.1), "CosineAnnealingLR", {"T_max": 20, "eta_min": 0.05}),
    (Linear(20, final=0.25), "LinearLR", {"start_factor": 1.0, "end_factor": 0.25, "total_iters": 20}),
    (WarmUp(8, Constant(), start=0.25), "LinearLR", {"start_factor": 0.25, "total_iters": 8}),
    (Polynomial(20, power=2.0), "PolynomialLR", {"total_iters": 20, "power": 2.0}),
    (OneCycle(20, peak=0.3), "OneCycleLR", {"max_lr": 0.5, "total_steps": 20, "cycle_momentum": False}),
    (
        OneCycle(21, peak=0.5, divide=5, final_divide=10),
        "OneCycleLR",
        {
            "max_lr": 0.5,
            "total_steps": 21,
            "pct_start": 0.5,
            "div_factor": 5,
            "final_div_factor": 10,
            "cycle_momentum": False,
        },
    ),
]


@pytest.mark.parametrize(("schedule", "name", "options"), TORCH)
def test_equals_torch(schedule, name, options):
    torch = pytest.importorskip("torch", reason="the comparison is with PyTorch")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    theirs = getattr(torch.optim.lr_scheduler, name)(optimizer, **options)
    for step in range(20):
        assert 0.5 * schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12), step
        optimizer.step()
        theirs.step() if step < 19 else None


@pytest.mark.parametrize(
    ("schedule", "last"), [(Cosine(9, final=0.1), 0.1), (Linear(9, final=0.2), 0.2), (Polynomial(9), 0.0)]
)
def test_ends_and_stays(schedule, last):
    assert schedule(0) == 1
    assert schedule(9) == schedule(1000) == pytest.approx(last)
    assert OneCycle(9)(1000) == pytest.approx(OneCycle(9)(8))


def test_warm_up_in_front_of_any():
    schedule = WarmUp(4, Cosine(10))
    assert [schedule(s) for s in range(4)] == pytest.approx([0.25, 0.4375, 0.625, 0.8125])
    assert [schedule(4 + s) for s in range(12)] == [Cosine(10)(s) for s in range(12)]
    assert WarmUp(0, Cosine(10))(3) == Cosine(10)(3)


def test_scheduler_keeps_each_groups_base():
    a, b = (ag.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b]}], lr=0.1)
    scheduler = Scheduler(optimizer, Linear(10))
    scheduler.set(5)
    scheduler.set(5)
    assert [g.lr for g in optimizer.groups] == [0.5, 0.05]
    state = scheduler.state_dict()
    resumed = Scheduler(optimizer, Linear(10))  # built while the rate is halfway down: its base would be wrong
    resumed.load_state_dict(state)
    resumed.set(0)
    assert [g.lr for g in optimizer.groups] == [1.0, 0.1]
    with pytest.raises(ValueError, match=r"expected 2 groups. Got 1"):
        resumed.load_state_dict({"base": [1.0]})


def test_refusals():
    for wrong in (lambda: Cosine(0), lambda: StepDecay(every=0), lambda: Linear(-1)):
        with pytest.raises(optim.SettingError, match="must be an integer at least 1"):
            wrong()
    with pytest.raises(optim.SettingError, match="divide must be a number above 0"):
        OneCycle(10, divide=0)
    with pytest.raises(optim.SettingError, match="peak must be a number at least 0 and at most 1"):
        OneCycle(10, peak=2)
    with pytest.raises(optim.SettingError, match="steps must be an integer at least 0"):
        WarmUp(-1, Constant())
    with pytest.raises(ValueError, match="batch sizes"):
        optim.scaled_lr(0.1, batch=0, reference_batch=1)
