"""Ranks that survive the death of others, as real jobs: the same weights and reports as a run that was never disturbed."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
from small_run import metrics, summary, write_config

from allgrad import comm
from allgrad.train.config import resolve
from allgrad.train.trainer import Trainer

PLUGIN = Path(__file__).parents[1] / "support" / "kill_plugin.py"
STEPS = 24


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    return write_config(
        tmp_path_factory.mktemp("survive"),
        train={"steps": STEPS, "eval_every": 8, "early_stopping": None},
        checkpoint={"every": 6},
    )


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory) -> tuple[str, list[dict]]:
    """The digest and the reports of the run in one process."""
    run = tmp_path_factory.mktemp("undisturbed")
    result = Trainer(resolve(config), comm.World()).run(run)
    return result["weights_sha256"], metrics(run)


@pytest.fixture
def survive(mpi_flavour, clean_environment, run_group, config, tmp_path):
    """survive(plan, *overrides, ranks=, slow=0) -> the run's directory, what the job printed; tests/support/kill_plugin.py."""
    if mpi_flavour[0] != "openmpi":
        pytest.skip("only Open MPI can go on without a rank (ULFM)")

    def run(plan, *overrides, ranks, slow=0.0):
        where = {"KILL_PLAN": json.dumps(plan), "KILL_MARK": str(tmp_path / "mark"), "KILL_SLOW": str(slow)}
        mca = {"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl": "self,sm,tcp"}
        words = ["train", str(config), "-n", str(ranks), "--survive", "--plugin", str(PLUGIN)]
        command = [sys.executable, "-P", "-m", "allgrad", *words, f"run.dir={tmp_path / 'run'}", *overrides]
        code, out, err = run_group(command, env=clean_environment(where | mca))
        assert code == 0, out + err
        assert all((tmp_path / f"mark-{number}").exists() for number in range(len(plan))), out + err
        return tmp_path / "run", out + err

    return run


# "tear": a rank dies in the middle of writing its share of what ranks share; where each has its own, that does not matter.
@pytest.mark.parametrize(
    ("memory", "plan"),
    [
        ("rank", [["in a step", 5, 2, "SIGKILL"]]),
        ("rank", [["after the gradients", 7, 0, "SIGKILL"], ["recovery", 1, 1, "SIGKILL"]]),
        ("rank", [["checkpoint", 2, 0, "SIGKILL"], ["checkpoint", 2, 3, "SIGSEGV"]]),
        ("rank", [["evaluation", 2, 0, "SIGKILL"]]),
        ("node", [["end", 1, 0, "SIGKILL"]]),
        ("node", [["in the update", 5, 2, "tear"], ["recovery", 1, 0, "SIGKILL"], ["in the update", 7, 1, "tear"]]),
        ("node", [["in the average", 6, 0, "tear"]]),
        ("node", [["in the average", 10, 3, "tear"]]),  # the swap with the averages before the first evaluation
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(dict.fromkeys(phase for phase, *_ in value)),
)
def test_a_job_that_loses_ranks_ends_in_the_same_weights(survive, undisturbed, memory, plan) -> None:
    run, said = survive(plan, f"parallel.memory={memory}", ranks=4)
    assert (summary(run)["weights_sha256"], metrics(run)) == undisturbed, said
    assert summary(run)["ranks"] >= 4 - len(plan)
    assert "ranks died" in said
    assert "The run was complete before the job failed" not in said


@pytest.mark.parametrize("memory", ["rank", "node"])
def test_a_replacement_joins(survive, undisturbed, memory) -> None:
    plan = [["in a step", 2, 0, "SIGKILL"]]
    run, said = survive(plan, f"parallel.memory={memory}", ranks=2, slow=1.0)
    assert (summary(run)["weights_sha256"], metrics(run)) == undisturbed, said
    assert "a replacement joined; 2 ranks go on" in said
    assert summary(run)["ranks"] == 2


def test_a_replacement_that_dies_while_the_others_let_it_in(survive, undisturbed) -> None:
    """They waited for its connection for ever. The next replacement joins, if there is time."""
    run, said = survive([["in a step", 2, 1, "SIGKILL"], ["invited", 1, 100, "SIGKILL"]], ranks=3, slow=1.0)
    assert (summary(run)["weights_sha256"], metrics(run)) == undisturbed, said
    assert said.count("1 of 3 ranks died") == 1
    assert len(summary(run)["recoveries"]) >= 2


def test_a_rank_whose_memory_is_corrupted_is_replaced(survive, undisturbed) -> None:
    """Its gradients are in everybody's sums, so the others return to a checkpoint in which all agreed; rank 0 it is, too."""
    plan = [["after the update", 9, 0, "flip"], ["recovery", 1, 1, "SIGKILL"]]
    run, said = survive(plan, "parallel.verify_every=5", ranks=4)
    assert (summary(run)["weights_sha256"], metrics(run)) == undisturbed, said
    assert "After 10 steps the ranks no longer hold the same bits:\n  weights: rank 0 on " in said
    assert "rank 0 will be ended, and the others return to the newest checkpoint" in said
    assert [one["step"] for one in summary(run)["recoveries"]] == [8]  # of the best evaluation


def test_a_rank_of_the_other_host_dies_in_an_update_and_one_joins(
    mpi_flavour, clean_environment, run_group, config, undisturbed, tmp_path
) -> None:
    if mpi_flavour[0] != "openmpi":
        pytest.skip("only Open MPI can go on without a rank (ULFM)")
    two_hosts = runpy.run_path(str(Path(__file__).parent / "netns" / "two_hosts.py"))
    if reason := two_hosts["reason_against"]():
        pytest.skip(reason)
    told = {"KILL_PLAN": json.dumps([["in the update", 2, 3, "tear"]]), "KILL_MARK": str(tmp_path / "mark")}
    environment = clean_environment(told | {"KILL_SLOW": "1.0"})
    passed = [
        word for name in (*told, "KILL_SLOW", "PYTHONPATH", "PATH") if name in environment for word in ("-x", name)
    ]
    words = ["-P", "-m", "allgrad", "train", str(config), "--survive", "--plugin", str(PLUGIN)]
    words = [sys.executable, *words, f"run.dir={tmp_path / 'run'}", "parallel.memory=node"]
    flags = ["--with-ft", "ulfm", "--mca", "pml", "ob1", "--mca", "btl", "self,sm,tcp"]
    with two_hosts["TwoHosts"](None) as hosts:
        _, out, err = run_group(hosts.open_mpi_command(2, words, *flags, *passed), env=environment)
    assert (summary(tmp_path / "run")["weights_sha256"], metrics(tmp_path / "run")) == undisturbed, out + err
    assert "1 of 4 ranks died; 3 go on" in err
    assert "a replacement joined; 4 ranks go on" in err


def test_a_library_that_cannot_do_it_is_named(mpi_flavour, clean_environment, run_group, config, tmp_path) -> None:
    if mpi_flavour[0] == "openmpi":
        pytest.skip("Open MPI can")
    words = ["-P", "-m", "allgrad", "train", str(config), "--survive", f"run.dir={tmp_path / 'run'}"]
    code, _, err = run_group([sys.executable, *words, "-n", "2"], env=clean_environment({}))
    assert code == 2
    assert "--survive needs Open MPI" in err
    assert "allgrad supervise" in err
    code, _, err = run_group([mpi_flavour[1], "-n", "2", sys.executable, *words], env=clean_environment({}))
    assert code == 2
    assert "This job cannot survive the death of a rank: MPICH" in err
    assert not (tmp_path / "run").exists()
