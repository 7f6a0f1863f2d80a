"""One experiment, from its JSON to its run folder. Read it top to bottom: set up, one step, the loop, the command.

    python train.py --exp exp/bert_phase2.json

The run folder (experiments/training/folder.py) gets spec.json (the resolved experiment), metrics.jsonl (a record a
line), last/ (to resume from) and best/ (to use). What trains, at which rate, on which examples is a function of the
spec and of `Progress`, a dozen numbers that every checkpoint holds. So a run that was killed and resumed writes what it
would have written anyway.
"""

import argparse
import contextlib
import math
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from data.batching import TrainingOrder
from data.files import InputError, one_line, reason
from experiments.config.check import read_spec
from experiments.config.spec import OptimSpec, Spec, direction
from experiments.tasks.several import make_head, make_task
from experiments.terminal import ArgumentParser, refuse, tolerate_any_text
from experiments.training import console
from experiments.training.build import build_model, load_base
from experiments.training.checkpoint import checkpoint_due, save_best, save_last
from experiments.training.folder import check_folder, claim, open_folder
from experiments.training.phases import Group, l1_parameters, parameter_groups, phase_table, rate_factor, set_trainable
from experiments.training.state import Best, Run, Sums
from experiments.training.sweep import run_sweep
from model import machine

HERE = Path(__file__).resolve().parent

# ---- set up ----------------------------------------------------------------------------------------------------------


def make_optimizer(spec: OptimSpec, groups: list[Group], model: nn.Module) -> torch.optim.Optimizer:
    """One optimizer for the whole run, with every group that any phase trains. Rates are set before each step."""
    parameters = dict(model.named_parameters())
    settings = [
        {"params": [parameters[name] for name in group.names], "weight_decay": group.weight_decay} for group in groups
    ]
    # The fused kernels update a tensor in one pass; on a CPU that is five times as fast as the default.
    if spec.name == "sgd":
        return torch.optim.SGD(settings, lr=spec.lr, momentum=spec.momentum, fused=True)
    if spec.name == "rmsprop":
        return torch.optim.RMSprop(settings, lr=spec.lr, alpha=spec.beta2, eps=spec.eps)
    adam = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[spec.name]
    return adam(settings, lr=spec.lr, betas=(spec.beta1, spec.beta2), eps=spec.eps, fused=True)


def set_up(spec: Spec, folder: Path, data_root: Path) -> Run:
    """Everything a run needs, in memory; nothing is written yet. Raises InputError for whatever is wrong."""
    machine.keep_freed_memory()
    if spec.runtime.threads:
        torch.set_num_threads(spec.runtime.threads)
    if spec.runtime.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
    torch.use_deterministic_algorithms(spec.runtime.deterministic)
    device = machine.choose_device(spec.runtime.device)
    precision = machine.choose_precision(spec.amp, device)

    base = load_base(spec)
    task = make_task(spec, base.tokenizer, data_root)
    torch.manual_seed(spec.seed)  # before the model is built: its new weights depend on it
    model = build_model(spec, base, lambda base: make_head(spec, task.outputs, base)).to(device).train()
    layers = model.encoder.config.num_layers
    groups = parameter_groups(model, spec.phases, spec.optim.lr, spec.optim.weight_decay, layers)

    ends = [sum(phase.epochs for phase in spec.phases[: i + 1]) for i in range(len(spec.phases))]  # in epochs
    order = TrainingOrder(task.parts, ends[-1], spec.seed, spec.optim.accumulate)
    phase_ends = [order.position(end) for end in ends]
    for phase, begin, end in zip(spec.phases, [0, *phase_ends], phase_ends, strict=False):
        if begin == end:
            raise InputError(f"phases: {phase.name!r}, {phase.epochs:g} epochs long, is shorter than one step")
    if spec.eval.every_steps:
        regular = range(spec.eval.every_steps, len(order) + 1, spec.eval.every_steps)
    else:
        every = spec.eval.every_epochs or 1.0
        regular = [order.position(k * every) for k in range(1, int(ends[-1] / every + 1e-9) + 1)]
    return Run(
        spec=spec,
        folder=folder,
        device=device,
        precision=precision,
        model=model,
        pretrained=base.pretrained,
        task=task,
        order=order,
        phase_ends=phase_ends,
        evaluate_at={*regular, *phase_ends} - {0},
        groups=groups,
        optimizer=make_optimizer(spec.optim, groups, model),
        l1=l1_parameters(spec.optim, model),
        scaler=torch.amp.GradScaler(device.type, enabled=precision.dtype == torch.float16),
    )


# ---- phases ----------------------------------------------------------------------------------------------------------


def enter_phase(run: Run, index: int) -> None:
    """Freeze and unfreeze for a phase. Its beginning is written down once, also if the run was resumed inside it."""
    progress, phase = run.progress, run.spec.phases[index]
    set_trainable(run.model, phase)
    if index != progress.phase:
        progress.phase, progress.phase_step = index, progress.step
        progress.furthest = max(progress.furthest, index)
        table = phase_table(run.model, run.groups, phase, index)
        run.record("phase", name=phase.name, index=index, steps=run.phase_steps(index), trains=table)


def set_rates(run: Run) -> dict[str, float]:
    """Give every group its learning rate for the coming step. Returns {part: rate} of what trains."""
    progress = run.progress
    # Counted in steps taken: one that was skipped leaves the schedule where it was.
    step, steps = progress.step - progress.phase_step, run.phase_steps(progress.phase)
    factor = rate_factor(run.spec.phases[progress.phase], step, steps)
    rates: dict[str, float] = {}
    for group, settings in zip(run.groups, run.optimizer.param_groups, strict=True):
        peak = group.peaks[progress.phase]
        settings["lr"] = 0.0 if peak is None else peak * factor
        if peak is not None:
            rates[group.label] = max(rates.get(group.label, 0.0), settings["lr"])
    return rates


# ---- one step --------------------------------------------------------------------------------------------------------


def backward(run: Run, batches: list[np.ndarray]) -> tuple[float, float]:
    """Gradients of the mean loss over all examples of all batches. Returns (that loss, gradient norm before clipping).

    Each batch's losses are divided by the number of examples in the whole step: batches of 16, 16 and 3 examples give
    the gradient of one batch of 35, not the mean of three means.
    """
    optim, progress, sums = run.spec.optim, run.progress, run.progress.sums
    count = sum(len(rows) for rows in batches)
    total = torch.zeros((), device=run.device)
    random = np.random.default_rng([run.spec.seed, progress.position])  # of the place alone: nothing to save
    for rows in batches:
        started = time.perf_counter()
        batch = machine.to_device(run.task.batch(rows, random), run.device)
        progress.clock.data += time.perf_counter() - started
        with run.precision.autocast(run.device):
            logits = run.model(batch)
        loss = run.task.losses(run.model.head, logits, batch).sum() / count
        if loss.requires_grad:  # of several tasks, this one may not train in this phase
            run.scaler.scale(loss).backward()
        total += loss.detach()
        sums.tokens += int(run.task.lengths[rows].sum())
        sums.padded_tokens += batch["tokens"].numel()
    if run.l1:
        penalised = [parameter for parameter in run.l1 if parameter.requires_grad]
        penalty = sum(parameter.abs().sum() for parameter in penalised)
        if penalised:  # the loss that is logged is that of the examples alone
            run.scaler.scale(optim.l1 * penalty).backward()
    run.scaler.unscale_(run.optimizer)  # before clipping: the limit is meant for the true gradient
    trained = [p for p in run.model.parameters() if p.requires_grad]
    norm = nn.utils.clip_grad_norm_(trained, math.inf if optim.clip is None else optim.clip)
    return total.item(), norm.item()


def take_step(run: Run, batches: list[np.ndarray]) -> None:
    """One optimizer step, or, where loss or gradient are not finite, a record of why there was none."""
    progress, sums, clip = run.progress, run.progress.sums, run.spec.optim.clip
    loss, norm = backward(run, batches)
    if progress.step == progress.phase_step:
        active = run.task.parameters_of(run.model, batches)  # of several tasks, a step may be of some: other heads rest
        silent = [name for name, p in active.items() if p.requires_grad and p.grad is None]
        if silent:
            raise RuntimeError(f"no gradient reached {', '.join(silent)}: they would never train")
    if math.isfinite(loss) and math.isfinite(norm):
        run.optimizer.step()
        count = sum(len(rows) for rows in batches)
        progress.step += 1
        progress.nonfinite = 0
        sums.loss += loss * count
        sums.examples += count
        sums.steps += 1
        sums.norm += norm
        sums.norm_max = max(sums.norm_max, norm)
        sums.clipped += clip is not None and norm > clip
    else:
        # With fp16, gradients overflow now and then, and the scaler answers with a smaller factor. Anything else that
        # is not finite is a fault of the data, the learning rate or the code.
        overflow = run.scaler.is_enabled() and math.isfinite(loss)
        ids = [identifier for rows in batches for identifier in run.task.example_ids(rows)]
        event, message = "overflow" if overflow else "nonfinite", f"loss {loss:g}, gradient norm {norm:g}"
        run.record("event", event=event, message=message, loss=loss, grad_norm=norm, examples=ids)
        progress.nonfinite += not overflow or run.scaler.get_scale() < 1  # a scale below 1 no longer helps
    run.scaler.update()
    run.optimizer.zero_grad(set_to_none=True)
    progress.position += 1


def record_training(run: Run, rates: dict[str, float]) -> dict:
    """Write a train record: means over everything since the last one. Returns it."""
    progress, sums = run.progress, run.progress.sums
    seconds = max(1e-9, progress.clock.train - run.recorded_at)
    record = run.record(
        "train",
        loss=sums.loss / sums.examples if sums.examples else None,
        examples=sums.examples,
        tokens=sums.tokens,
        lr=rates,
        grad_norm=sums.norm / sums.steps if sums.steps else None,
        grad_norm_max=sums.norm_max,
        clipped=sums.clipped / sums.steps if sums.steps else None,
        examples_per_second=sums.examples / seconds,
        tokens_per_second=sums.tokens / seconds,
        padding=1 - sums.tokens / sums.padded_tokens,
        peak_memory_mb=machine.peak_memory_mb(run.device),
    )
    progress.sums, run.recorded_at = Sums(), progress.clock.train
    return record


def evaluate(run: Run) -> bool:
    """An eval record. Returns whether this is the best evaluation so far. A metric that is not finite never is."""
    progress, metric = run.progress, run.spec.eval.metric
    started = time.perf_counter()
    found = run.task.evaluate(run.model, run.device, run.precision)
    metrics, intervals = found.metrics, found.intervals()
    seconds = time.perf_counter() - started
    progress.clock.eval += seconds
    sign = direction(metric)
    value = sign * metrics[metric]
    best = math.isfinite(value) and (progress.best is None or value > sign * progress.best.metrics[metric])
    name = run.spec.phases[progress.phase].name
    record = run.record(
        "eval",
        split="dev",
        phase=name,
        metrics=metrics,
        intervals=intervals,
        best=best,
        eval_seconds=seconds,
        clock=progress.clock,
    )
    console.say(f"  epoch {run.epoch:5.2f}  {name:12} {console.metrics_line(metrics)}{'  best' if best else ''}")
    if run.spec.eval.train_sample:
        evaluate_training(run, name)
    if best:
        run.best_scores = {key: torch.from_numpy(scores).float() for key, scores in found.scores.items()}
        progress.best = Best(progress.step, record["epoch"], name, record["metrics"])
        progress.since_best = 0
    else:
        progress.since_best += 1
        patience = run.spec.eval.patience
        if patience is not None and progress.since_best >= patience:
            progress.stopped_early = True
            run.record("event", event="early_stop", message=f"{patience} evaluations without a better {metric}")
    return best


def evaluate_training(run: Run, phase: str) -> None:
    """An eval record of the sample of the training set, in evaluation mode like that of the development set."""
    started = time.perf_counter()
    metrics = run.task.evaluate(run.model, run.device, run.precision, "train").metrics
    seconds = time.perf_counter() - started
    run.progress.clock.eval += seconds
    clock = run.progress.clock
    run.record("eval", split="train", phase=phase, metrics=metrics, best=False, eval_seconds=seconds, clock=clock)


# ---- the loop --------------------------------------------------------------------------------------------------------


def train(run: Run) -> tuple[str, int]:
    """Take every step that is left. Returns how it ended and the exit code that says so."""
    progress, order = run.progress, run.order
    phase = None
    with (
        console.Signals() as signals,
        tqdm(total=len(order), initial=progress.position, unit="step", disable=None) as bar,
    ):
        while progress.position < len(order) and not progress.stopped_early:
            index = next(i for i, end in enumerate(run.phase_ends) if progress.position < end)
            if index != phase:
                phase = index
                enter_phase(run, phase)

            started = time.perf_counter()
            rates = set_rates(run)
            take_step(run, order[progress.position])
            progress.clock.train += time.perf_counter() - started
            bar.update()

            evaluation_due = progress.position in run.evaluate_at
            if evaluation_due or progress.position % run.spec.runtime.log_every == 0:
                record = record_training(run, rates)
                bar.set_postfix(loss=record["loss"], refresh=False)
            if progress.nonfinite >= run.spec.optim.nonfinite_limit:
                return "diverged", 1
            best = evaluation_due and evaluate(run)
            caught = signals.caught  # read once: what is acted on below must be what was saved for
            if caught:
                run.record("event", event="interrupted", message=signal.Signals(caught).name)
            if evaluation_due or caught or checkpoint_due(run):
                save_last(run)
            if best:
                save_best(run)  # after last/, which holds the same model: whenever the process dies, one of them has it
            if caught:
                return "interrupted", 128 + caught
    return "stopped early" if progress.position < len(order) else "finished", 0


# ---- the command -----------------------------------------------------------------------------------------------------


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog="train.py",
        description="Train one experiment. Its settings: python -m experiments.config.spec",
        allow_abbrev=False,
        epilog="example: python train.py --exp exp/squad_lora.json --data-root ~/data --set seed=1 name=squad_seed1",
    )
    add = parser.add_argument
    add("--exp", type=Path, required=True, metavar="FILE", help="the experiment, for example exp/bert_phase2.json")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override settings: optim.lr=3e-4")
    add("--data-root", type=Path, default=HERE / "data", metavar="DIR", help="where data files lie (default: data/)")
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where run folders go (default: runs/)")
    add("--sweep", action="store_true", help="train every combination under `sweep`, and every fold, one by one")
    add("--resume", action="store_true", help="continue the run from its last checkpoint, if it has one")
    add("--resume-anyway", action="store_true", help="the same, although settings or data differ (which is recorded)")
    add("--overwrite", action="store_true", help="replace a run of the same name")
    arguments = parser.parse_args(argv)
    if arguments.sweep and arguments.resume_anyway:
        parser.error("--sweep goes on with --resume; --resume-anyway is for one run")
    if arguments.overwrite and (arguments.resume or arguments.resume_anyway):
        parser.error("--resume and --overwrite exclude each other")
    return arguments


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 the run cannot go on (it diverged; disk or memory is full), 2 something handed in is wrong,
    130 and 143 interrupted. After 1, 130 and 143 there is a checkpoint to go on from."""
    arguments = parse_arguments(argv)
    resume = arguments.resume or arguments.resume_anyway
    try:
        if arguments.sweep:
            return run_sweep(arguments, Path(__file__))
        spec = read_spec(arguments.exp, arguments.set)
        folder = arguments.runs / spec.name
        check_folder(folder, resume, arguments.overwrite)
        with claim(folder) if folder.exists() else contextlib.nullcontext():
            pass  # busy? Better said now than after minutes of tokenizing
        run = set_up(spec, folder, arguments.data_root)
        with claim(folder):
            remark = open_folder(run, resume, arguments.overwrite, arguments.resume_anyway)
            return work(run, remark, console.resume_command(argv))
    except (InputError, OSError) as error:
        return refuse("train.py", error)
    except (MemoryError, RuntimeError) as error:
        if not machine.out_of_memory(error):
            raise
        console.say(f"train.py: {one_line(reason(error))}; it takes more memory to set this up", sys.stderr)
        return 1
    except KeyboardInterrupt:
        console.say("train.py: interrupted before training began", sys.stderr)
        return 130


def work(run: Run, remark: str | None, go_on: str) -> int:
    """Banner, training, last screen. go_on: the command that resumes the run. Returns the exit code."""
    trouble = None
    try:
        console.banner(run, remark)
        ended, exit_code = train(run)
        if ended == "interrupted":
            trouble = f"interrupted at step {run.progress.step}; go on: {go_on}"
        else:
            size = sum(file.stat().st_size for file in (run.folder / "best").glob("*.safetensors"))
            run.record("end", reason=ended, best=run.progress.best, clock=run.progress.clock, best_bytes=size)
            console.ending(run, ended)
        if ended == "diverged":
            trouble = (
                f"{run.progress.nonfinite} steps in a row had no finite loss or gradient; metrics.jsonl names their "
                f"examples, last/ holds step {run.saved_at[1]}. Lower optim.lr, or raise warmup_ratio"
            )
    except KeyboardInterrupt:
        trouble, exit_code = f"stopped at once; go on from the last checkpoint: {go_on}", 130
    except OSError as error:
        trouble, exit_code = (
            f"{one_line(reason(error))}; last/ is intact. Make it writable or make room, then: {go_on}",
            1,
        )
    except (MemoryError, RuntimeError) as error:
        if not machine.out_of_memory(error):
            raise
        advice = "last/ is intact. Lower data.batch_tokens and start over"
        trouble, exit_code = f"{one_line(reason(error))}; {advice}", 1
    run.log.close()
    if trouble:
        console.say(f"train.py: {trouble}", sys.stderr)
    return exit_code


if __name__ == "__main__":
    tolerate_any_text()
    sys.exit(main())
