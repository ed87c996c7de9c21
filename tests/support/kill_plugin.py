"""A plugin for tests: ranks kill themselves in chosen moments of a training.

The environment says when. KILL_PLAN: a JSON list of [phase, call, rank, action], where `call` counts from 1, `rank` is what the
launcher said (replacements: 100), and `action` is a signal's name, "os._exit", or, for an owner that has weights, "flip", which
flips a bit of them, or "tear", which writes NaN into this rank's share of them and is followed by SIGKILL. KILL_MARK: the
beginning of the paths of files that say, with the time, that it happened, that training went on ("on"), or when a rank that
reached the end had finished each of its steps, and when it went on with other ranks ("steps-PID").
KILL_SLOW: seconds by which each step takes longer.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from allgrad import optim, parallel
from allgrad.comm.replacement import Pair
from allgrad.parallel.step import StepRunner
from allgrad.train.survive import Survivor
from allgrad.train.trainer import Trainer

PLAN, MARK = json.loads(os.environ.get("KILL_PLAN", "[]")), os.environ.get("KILL_MARK", "")
RANK = 100 if "join" in sys.argv else int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "-1")))
calls = {}
finished, went_on = [], []  # moments


def act(action, owner):
    if action == "flip":
        owner.flat.params.flat[np.dtype(np.float32)].view(np.uint32)[11] ^= 1 << 3
    elif action == "tear":
        for dtype, (start, stop) in owner.flat.own_share(whole=False).items():
            owner.flat.params.flat[dtype][start:stop] = np.nan
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "os._exit":
        os._exit(0)
    else:
        os.kill(os.getpid(), getattr(signal, action))


def reached(phase, owner=None):
    calls[phase] = calls.get(phase, 0) + 1
    for number, (when, call, rank, action) in enumerate(PLAN):
        mark = Path(f"{MARK}-{number}")
        if (when, call, rank) == (phase, calls[phase], RANK) and not mark.exists():
            mark.write_text(str(time.time()))
            act(action, owner)


def around(owner, name, before=None, after=None):
    function = getattr(owner, name)

    def wrapped(*args, **keywords):
        if before:
            reached(before, args[0])
        result = function(*args, **keywords)
        if after:
            reached(after, args[0])
        return result

    setattr(owner, name, wrapped)


def note(self, **settings):
    rebuild(self, **settings)
    went_on.append(time.time())
    if self.world.rank == 0:
        with Path(f"{MARK}-on").open("a") as file:
            file.write(f"{time.time()} {self.world.size}\n")


def slowly(self):
    time.sleep(float(os.environ.get("KILL_SLOW", "0")))
    step(self)
    finished.append(time.time())


def note_steps(self, interrupted):
    result = finish(self, interrupted)
    if MARK:
        Path(f"{MARK}-steps-{os.getpid()}").write_text(json.dumps({"finished": finished, "went on": went_on}))
    return result


reached("start-up")
around(parallel.DataParallel, "step", "before a step", "after the gradients")
around(StepRunner, "_sum_up", "in a step")
around(optim.Optimizer, "step", None, "after the update")
around(optim.AdamW, "_update_run", None, "in the update")
around(optim.EMA, "_pairs", "in the average")
around(Trainer, "_save", "checkpoint")
around(Trainer, "_evaluate", "evaluation")
around(Trainer, "_finish", "end")
rebuild, step, finish = Survivor._rebuild, Trainer._train_step, Trainer._finish
Survivor._rebuild, Trainer._train_step, Trainer._finish = note, slowly, note_steps
around(Survivor, "_rebuild", "recovery")
around(Pair, "invited", None, "invited")
