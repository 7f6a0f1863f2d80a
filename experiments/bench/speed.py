"""Worth of each choice made for speed: training steps as shipped, beside the same steps with one choice undone.

    python -m experiments.bench.speed --exp exp/bert_phase2.json --steps 40

All variants take turns on the same batches, in an order shuffled for each batch, and are compared batch by batch: the
ratios hold although the machine's speed drifts. Peak memory is that of a process of its own, over as many steps. Where
transformers and peft are installed (extra `peers`), their steps take part. Nothing is written.
"""

import argparse
import contextlib
import math
import multiprocessing
import random
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, patch

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import data.batching
import model.bert
import train
from data.files import InputError
from experiments.bench.peers import check, through_peers
from experiments.config.check import read_spec
from experiments.config.spec import Spec
from experiments.terminal import refuse
from experiments.training.state import Run
from model import machine

Undo = contextlib.AbstractContextManager


@contextlib.contextmanager
def save_memory(run: Run):
    """runtime.save_memory, for the steps inside."""
    own = [module for module in run.model.modules() if isinstance(module, model.bert.SelfAttention | model.bert.MLP)]
    for module in own:
        module.recompute = True
    machine.keep_freed_memory(False)
    yield
    machine.keep_freed_memory()
    for module in own:
        module.recompute = False


VARIANTS: dict[str, Callable[[Run], Undo]] = {
    "as shipped": lambda run: contextlib.nullcontext(),
    "spelled-out attention": lambda run: patch.object(model.bert, "sdpa_attention", model.bert.eager_attention),
    "SDPA": lambda run: patch.object(model.bert, "eager_attention", model.bert.sdpa_attention),
    "F.dropout instead of random bytes": lambda run: patch.object(model.bert, "random_byte_dropout", F.dropout),
    "no padding to a multiple of 4 or 8": lambda run: patch.object(data.batching, "PAD_MULTIPLES", ((math.inf, 1),)),
    "a cast in each of query, key, value": lambda run: patch.object(model.bert, "cast_once", lambda x: x),
    "runtime.save_memory": save_memory,
    "fp32": lambda run: patch.object(run, "machine", replace(run.machine, dtype=None)),
}


def measure(ours: Run, theirs: dict[str, Run], steps: int, phase: int) -> dict[str, np.ndarray]:
    """{variant: seconds of each step [steps]}. The first three batches warm up and do not count."""
    variants = {name: (ours, undo) for name, undo in VARIANTS.items()}
    variants |= {name: (run, VARIANTS["as shipped"]) for name, run in theirs.items()}
    for run in (ours, *theirs.values()):
        begin_phase(run, phase)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    first, end = ours.plan.span(phase)
    for position in tqdm(range(first, min(first + steps + 3, end)), disable=None):
        for name in random.sample(list(variants), len(variants)):
            run, undo = variants[name]
            with undo(run):
                started = time.perf_counter()
                take_step(run, position)
                if run.machine.device.type == "cuda":
                    torch.cuda.synchronize()
                seconds[name].append(time.perf_counter() - started)
    return {name: np.array(values[3:]) for name, values in seconds.items()}


def begin_phase(run: Run, phase: int) -> None:
    run.writer = Mock()  # records go nowhere
    train.enter_phase(run, phase)
    run.set_rates()


def take_step(run: Run, position: int) -> None:
    train.compute_gradients(run, run.plan.order[position])
    run.optimizer.step()
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)


def peak_memory(spec: Spec, root: Path, peers: bool, steps: int, phase: int) -> int:
    """The most memory that this process has used, in MiB, after the steps of a run that is set up for them."""
    run = train.set_up(spec, Path("unused"), root)
    run = through_peers(run, "sdpa") if peers else run
    begin_phase(run, phase)
    first, end = run.plan.span(phase)
    for position in range(first, min(first + steps, end)):
        take_step(run, position)
    return machine.peak_memory_mb(run.machine.device)


def memory_table(spec: Spec, peers: bool, arguments: argparse.Namespace) -> list[tuple[str, int]]:
    """(variant, peak in MiB), each measured in a new process."""
    sparing = replace(spec, runtime=replace(spec.runtime, save_memory=True))
    variants = [("as shipped", spec, False), ("runtime.save_memory", sparing, False)]
    variants += [("transformers and peft", spec, True)] if peers else []
    new, rows = multiprocessing.get_context("spawn"), []
    for name, own, theirs in variants:
        with ProcessPoolExecutor(1, mp_context=new) as pool:
            more = (own, arguments.data_root, theirs, arguments.steps, arguments.phase)
            rows.append((name, pool.submit(peak_memory, *more).result()))
    return rows


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="What each choice made for speed is worth.")
    parser.add_argument("--exp", type=Path, default=Path("exp/bert_phase2.json"))
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data-root", type=Path, default=train.HERE / "data")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--phase", type=int, default=0, help="which phase of the experiment, from 0")
    arguments = parser.parse_args(argv)
    try:
        spec = read_spec(arguments.exp, arguments.set)

        def fresh() -> Run:
            return train.set_up(spec, Path("unused"), arguments.data_root)

        ours, theirs = fresh(), {}
        with contextlib.suppress(InputError):  # the libraries are not there, or do not know such an experiment
            check(spec)
            theirs["transformers and peft (sdpa, their default)"] = through_peers(fresh(), "sdpa")
            theirs["transformers and peft (eager)"] = through_peers(fresh(), "eager")
    except InputError as error:
        return refuse("bench", error)
    seconds = measure(ours, theirs, arguments.steps, arguments.phase)
    base = seconds["as shipped"]
    first, _ = ours.plan.span(arguments.phase)
    steps = (ours.plan.order[first + 3 + i] for i in range(len(base)))
    tokens = np.array([sum(int(ours.tasks.lengths[rows].sum()) for rows in batches) for batches in steps])
    print(f"{spec.name}, phase {arguments.phase}, {len(base)} steps, {ours.machine.device}, {ours.machine.precision}")
    print(f"{'':44} {'real tokens/s':>14}   time against as shipped, median [quartiles]")
    for name, values in seconds.items():
        low, middle, high = np.percentile(values / base, [25, 50, 75])
        print(f"{name:44} {np.median(tokens / values):14,.0f}   {middle:.3f} [{low:.3f}, {high:.3f}]")
    print(f"{'':44} {'peak MiB':>14}")
    for name, peak in memory_table(spec, bool(theirs), arguments):
        print(f"{name:44} {peak:14,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
