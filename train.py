"""One experiment, from its JSON to its run folder. Read it top to bottom: set up, phases, one step, evaluation, the
loop, the command.

    python train.py --exp exp/bert_phase2.json

The run folder (experiments/training/folder.py) gets spec.json (the resolved experiment), metrics.jsonl (a record a
line), last/ (to resume from) and best/ (to use). What trains, at which rate, on which examples is a function of the
spec and of `Progress`, some twenty numbers that every checkpoint holds. So a run that was killed and resumed writes
what it would have written anyway.
"""

import argparse
import contextlib
import math
import signal
import sys
from pathlib import Path

if __name__ == "__main__":  # before the imports that take seconds
    from experiments.terminal import begin

    begin()

import numpy as np
import torch
from torch import nn

from experiments.config.check import as_options, naming, read_spec
from experiments.config.spec import Spec
from experiments.tasks.several import Tasks
from experiments.terminal import ArgumentParser
from experiments.training import console, phases
from experiments.training.base import prepare_machine
from experiments.training.build import build_model, make_optimizer
from experiments.training.checkpoint import checkpoint_due, save_best, save_last
from experiments.training.folder import check_free, claim, open_folder
from experiments.training.start import load_start
from experiments.training.state import Run
from experiments.training.sweep import run_sweep
from experiments.training.trunk import check_memory

HERE = Path(__file__).resolve().parent

# ---- set up ----------------------------------------------------------------------------------------------------------


def set_up(spec: Spec, folder: Path, data_root: Path) -> Run:
    """Everything a run needs, in memory; nothing is written yet. Raises InputError for whatever is wrong."""
    machine = prepare_machine(spec, spec.runtime.device)
    base = load_start(spec, folder)
    tasks = Tasks(spec, base.tokenizer, data_root)
    torch.manual_seed(spec.seed)  # before the model is built: its new weights depend on it
    model = build_model(spec, base, tasks.outputs).to(machine.device).train()
    check_memory(spec, model, tasks)
    groups = phases.parameter_groups(model, spec.phases, spec.optim, spec.lora.b_rate if spec.lora else 1.0)
    return Run(
        spec=spec,
        folder=folder,
        machine=machine,
        model=model,
        pretrained=base.pretrained,
        start=base.start,
        tasks=tasks,
        plan=phases.make_plan(spec, tasks.parts),
        groups=groups,
        optimizer=make_optimizer(spec.optim, groups, model),
        scaler=torch.amp.GradScaler(machine.device.type, enabled=machine.dtype == torch.float16),
    )


# ---- phases ----------------------------------------------------------------------------------------------------------


def enter_phase(run: Run, index: int) -> None:
    """Freeze and unfreeze for a phase. Its beginning is recorded once, even if the run was resumed inside it."""
    progress, phase = run.progress, run.spec.phases[index]
    phases.set_trainable(run.model, phase)
    run.keep_trunk(phase)
    if index != progress.phase:
        progress.phase, progress.phase_step = index, progress.step
        progress.furthest = max(progress.furthest, index)
        trains = phases.phase_table(run.model, run.groups, index)
        kept = run.trunk.depth if run.trunk else 0
        run.record("phase", name=phase.name, index=index, steps=run.plan.steps(index), trains=trains, kept_layers=kept)


# ---- one step --------------------------------------------------------------------------------------------------------


def compute_gradients(run: Run, batches: list[np.ndarray]) -> tuple[float, float]:
    """Gradients of the mean loss over all examples of all batches. Returns (that loss, gradient norm before clipping).

    Each batch's losses are divided by the number of examples in the whole step: batches of 16, 16 and 3 examples give
    the gradient of one batch of 35, not the mean of three means.
    """
    optim, progress, sums = run.spec.optim, run.progress, run.progress.sums
    count = sum(len(rows) for rows in batches)
    total = torch.zeros((), device=run.machine.device)
    random = np.random.default_rng([run.spec.seed, progress.position])  # of the place alone: nothing to save
    for rows in batches:
        with progress.clock.timing("data"):
            batch = run.batch(rows, random)
        with run.machine.autocast():
            logits = run.model(batch)
        loss = run.tasks.losses(run.model, logits, batch).sum() / count
        if loss.requires_grad:  # in a run with several tasks, this one may be frozen
            run.scaler.scale(loss).backward()
        total += loss.detach()
        sums.tokens += int(run.tasks.lengths[rows].sum())
        sums.padded_tokens += run.tasks.padded_tokens(batch)
    phases.add_l1_gradient(optim, run.model, run.scaler)  # the loss that is recorded is that of the examples alone
    run.scaler.unscale_(run.optimizer)  # before clipping: the limit is meant for the true gradient
    trained = [p for p in run.model.parameters() if p.requires_grad]
    norm = nn.utils.clip_grad_norm_(trained, math.inf if optim.clip is None else optim.clip)
    return total.item(), norm.item()


def take_step(run: Run, batches: list[np.ndarray]) -> None:
    """One optimizer step, or, where loss or gradient are not finite, a record of why there was none."""
    progress = run.progress
    loss, norm = compute_gradients(run, batches)
    if progress.step == progress.phase_step:  # the first step of a phase
        run.check_gradients(batches)
    if math.isfinite(loss) and math.isfinite(norm):
        run.optimizer.step()
        progress.step += 1
        progress.nonfinite = 0
        progress.sums.add_step(sum(len(rows) for rows in batches), loss, norm, run.spec.optim.clip)
    else:
        skip_step(run, batches, loss, norm)
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    progress.position += 1


def skip_step(run: Run, batches: list[np.ndarray], loss: float, norm: float) -> None:
    """Record why a step is not taken. In fp16, gradients overflow now and then, and the scaler answers with a smaller
    factor. Anything else that is not finite is a fault of the data, the learning rate or the code."""
    overflow = run.scaler.is_enabled() and math.isfinite(loss)
    names = [name for rows in batches for name in run.tasks.names_of(rows)]
    event, message = "overflow" if overflow else "nonfinite", f"loss {loss:g}, gradient norm {norm:g}"
    run.record("event", event=event, message=message, loss=loss, grad_norm=norm, examples=names)
    run.progress.nonfinite += not overflow or run.scaler.get_scale() < 1  # a scale below 1 no longer helps


# ---- evaluation ------------------------------------------------------------------------------------------------------


def evaluate(run: Run) -> bool:
    """Evaluate the development set and, if the spec asks for it, a sample of the training set. Returns whether this is
    the best evaluation so far."""
    best, clock = False, run.progress.clock
    for split in ("dev", "train") if run.spec.eval.train_sample else ("dev",):
        before = clock.eval
        with clock.timing("eval"):
            found = run.tasks.evaluate(run.model, run.machine, split)
        best |= run.record_evaluation(found, split, seconds=clock.eval - before)
        if split == "dev":
            console.evaluation_line(run, found.metrics, best)
    return best


# ---- the loop --------------------------------------------------------------------------------------------------------


def train(run: Run) -> str:
    """Take every step that is left. Returns how it ended: finished, stopped early, diverged, or a signal's name."""
    progress, order, phase = run.progress, run.plan.order, None
    with console.Signals() as signals, console.Display(run) as display:
        while progress.position < len(order) and not run.out_of_patience:
            index = run.plan.phase_at(progress.position)
            if index != phase:
                phase = index
                enter_phase(run, phase)

            with progress.clock.timing("train"):
                rates = run.set_rates()
                take_step(run, order[progress.position])
            display.step()

            evaluation_due = progress.position in run.plan.evaluate_at
            if evaluation_due or progress.position % run.spec.runtime.log_every == 0:
                display.loss = run.record_training(rates)["loss"]
            if progress.nonfinite >= run.spec.optim.nonfinite_limit:
                return "diverged"
            best = evaluation_due and evaluate(run)
            caught = signals.caught  # read once: what is acted on below must be what was saved for
            if caught:
                run.record("event", event="interrupted", message=signal.Signals(caught).name)
            if evaluation_due or caught or checkpoint_due(run):
                save_last(run)
            if best:
                save_best(run)  # after last/, which holds the same model: whenever the process dies, one of them has it
            if caught:
                return signal.Signals(caught).name
    return "stopped early" if progress.position < len(order) else "finished"


def finish(run: Run, ended: str, go_on: str) -> int:
    """Record how the run ended and say so. Returns the exit code."""
    if ended in signal.Signals.__members__:
        console.complain(f"interrupted at step {run.progress.step}; go on: {go_on}")
        return 128 + signal.Signals[ended]
    size = sum(file.stat().st_size for file in (run.folder / "best").glob("*.safetensors"))
    run.record("end", reason=ended, best=run.progress.best, clock=run.progress.clock, best_bytes=size)
    console.ending(run, ended)
    return 1 if ended == "diverged" else 0


# ---- the command -----------------------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="train.py",
        description="Train one experiment. Its settings: python -m experiments.config.spec",
        allow_abbrev=False,
        epilog="example: python train.py --exp exp/squad_lora.json --data-root ~/data --set seed=1 name=squad_seed1",
    )
    parser.advice = as_options
    add = parser.add_argument
    add("--exp", type=Path, metavar="FILE", help="the experiment, for example exp/bert_phase2.json")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override settings: optim.lr=3e-4")
    add("--data-root", type=Path, default=HERE / "data", metavar="DIR", help="where data files lie (default: data/)")
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs/)")
    add("--sweep", action="store_true", help="train every combination under `sweep`, and every fold")
    add("--jobs", type=int, default=1, metavar="N", help="with --sweep: so many runs at a time, which share the cores")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--resume", action="store_true", help="continue the run from its last checkpoint, if it has one")
    add("--resume-anyway", action="store_true", help="the same, although settings or data differ (which is recorded)")
    add("--overwrite", action="store_true", help="replace a run of the same name")
    arguments = parser.parse_args(argv)
    if arguments.exp is None:
        parser.error("which experiment? For example --exp exp/bert_phase2.json")
    if not 1 <= arguments.jobs <= 1024 or (arguments.jobs > 1 and not arguments.sweep):
        parser.error("--jobs: a number from 1, for --sweep")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the run cannot go on (it diverged; disk or memory is full), 2 something handed in is wrong,
    130 and 143 interrupted. If the run had begun, there is a checkpoint to go on from."""
    arguments, go_on, begun = parse_arguments(argv), console.resume_command(argv), False
    try:
        if arguments.sweep:
            return run_sweep(arguments, Path(__file__))
        spec = read_spec(arguments.exp, arguments.set)
        folder = arguments.runs / spec.name
        check_free(folder, arguments.resume or arguments.resume_anyway, arguments.overwrite)
        with naming(arguments.exp):
            run = set_up(spec, folder, arguments.data_root)
        with claim(folder):
            remark = open_folder(run, arguments.resume, arguments.overwrite, arguments.resume_anyway)
            begun = True
            console.banner(run, remark)
            with contextlib.closing(run.writer):
                return finish(run, train(run), go_on)
    except (Exception, KeyboardInterrupt) as error:
        return console.explain(error, begun, go_on)


if __name__ == "__main__":
    sys.exit(main())
