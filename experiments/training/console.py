"""The terminal of a run: the banner, a line per evaluation, the last screen, the line about what went wrong, and the
signals that stop the run."""

import shlex
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict

import torch
from tqdm import tqdm

from data.files import InputError, one_line, reason
from experiments.config.metrics import number, shown_in
from experiments.terminal import amount, clock_line, duration, refuse, say
from experiments.training.base import unused_tensors
from experiments.training.forecast import Forecast
from experiments.training.phases import phase_table
from experiments.training.state import Run
from model import machine


def banner(run: Run, remark: str | None) -> None:
    """Say in one screen what trains, how much of it, on what. remark: how the run begins, if that is worth saying."""
    spec, config, pretrained = run.spec, run.model.encoder.config, run.pretrained
    total = sum(parameter.numel() for parameter in run.model.parameters())
    kinds = dict.fromkeys(task.task for task in spec.tasks.values())
    say(f"{spec.name}: {' and '.join(kinds)}, seed {spec.seed}")
    say(
        f"  model    {pretrained.name}: {config.num_layers} layers, {config.hidden_size} wide, "
        f"{amount(total)} parameters with its head"
    )
    unused = unused_tensors(run.model, pretrained)
    if unused:
        say(f"           not used from the checkpoint: {', '.join(unused)}")
    for name, task in run.tasks.tasks.items():
        taken = run.model.head_of(name).taken
        if taken:
            say(f"           its head begins with {', '.join(taken)}")
        for split, counts in task.splits.items():
            notes = [text.format(f"{counts[key]:,}") for key, text in NOTES.items() if counts.get(key)]
            facts = [f"{counts['examples']:,} {counts['kind']}", *notes, *leaks(counts)]
            say(f"  {spec.prefix(name) + split:8} {', '.join(facts)}")
        for text in task.remarks:
            say(f"           {one_line(text)}")
    say(f"  machine  {run.machine.device}, {run.machine.precision} ({run.machine.reason})")
    threads = torch.get_num_threads()
    busy = machine.busy_cores() if run.machine.device.type == "cpu" and threads > 1 else None
    free = max(1, round(machine.cores() - (busy or 0)))
    if busy is not None and free < threads:
        kept = f"other work keeps {busy:.1f} of {machine.cores()} cores busy"
        say(f"           {kept}: with runtime.threads={free} instead of {threads} it may well be faster")
    for index, phase in enumerate(spec.phases):
        rows = phase_table(run.model, run.groups, index)
        trained = sum(row["parameters"] for row in rows)
        say(
            f"  phase    {phase.name}: {phase.epochs:g} epochs, {run.plan.steps(index)} steps, "
            f"trains {amount(trained)} parameters ({100 * trained / total:.2f} %)"
        )
        say("           " + ", ".join(f"{row['part']} {amount(row['parameters'])} at {row['lr']:.2g}" for row in rows))
    say(f"  folder   {run.folder}")
    if remark:
        say(f"  {remark}")


MEASURED, LINE_EVERY = 10, 60.0  # steps before the first forecast; seconds between two lines of a redirected output


class Display:
    """The bar of a run, with the time that all of the run still takes. Where nobody watches a terminal, a line after
    ten steps and then one a minute."""

    def __init__(self, run: Run):
        self._run, self._forecast = run, Forecast(run)
        self._done, self._said = 0, time.monotonic()
        total, done = len(run.plan.order), run.progress.position
        shape = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps [{elapsed}{postfix}]"
        self._bar = tqdm(total=total, initial=done, disable=None, bar_format=shape)
        self.loss: float | None = None  # of the last train record

    def __enter__(self) -> "Display":
        return self

    def __exit__(self, *exception) -> None:
        self._bar.close()

    def step(self) -> None:
        """Count a step that has been done."""
        self._done += 1
        left = self._forecast.remaining()
        time_left = "" if left is None else f"{duration(left)} left"
        loss = "" if self.loss is None else f"loss {self.loss:.3g}"
        self._bar.set_postfix_str(", ".join(filter(None, (loss, time_left))), refresh=False)
        self._bar.update()
        if left is None:
            return
        now, position = time.monotonic(), self._run.progress.position
        if self._done == MEASURED:
            whole = duration(self._run.writer.seconds + left)
            say(f"  time     about {whole} in all, evaluations included ({self._forecast.flops / 1e12:.3g} TFLOP)")
            self._said = now
        elif self._bar.disable and now - self._said > LINE_EVERY:
            say(f"  step {position} of {self._bar.total}, {', '.join(filter(None, (loss, time_left)))}")
            self._said = now


NOTES = {
    "windows": "{} windows",
    "answers_misplaced": "{} answers left out (not where they say)",
    "answers_moved": "{} answers moved to where they are",
    "questions_cut": "{} questions cut to max_query_length",
    "answers_widened": "{} answers that begin or end inside a token",
    "answers_lost": "{} answers without a token (labelled as no answer)",
    "labels": "{} labels",
    "passages": "{} passages",
    "texts_cut": "{} cut to max_length",
    "contradictions": "{} texts with different labels in different places",
}


def leaks(counts: dict) -> list[str]:
    """The number of development examples that are training examples too; told even if it is zero."""
    if "near_duplicates" not in counts:
        return []
    exact, near = counts["duplicates"], counts["near_duplicates"] - counts["duplicates"]
    return [f"{exact:,} of them in the training set too, {near:,} more but for case, accents, punctuation and spaces"]


def metrics_line(metrics: Mapping[str, float | None]) -> str:
    """The metrics that fit a line: "loss 1.234  exact 56.7  f1 65.4". `eval.py summary` shows more."""
    names = [name for name in shown_in(metrics, "line") if "." not in name]
    return "  ".join(f"{name} {number(metrics[name], name)}" for name in names)


def evaluation_line(run: Run, metrics: dict[str, float], best: bool) -> None:
    """Say how an evaluation came out."""
    say(f"  epoch {run.epoch:5.2f}  {run.phase_name:12} {metrics_line(metrics)}{'  best' if best else ''}")


def ending(run: Run, reason: str) -> None:
    """Say in one screen how the run ended, what its best evaluation was, where that is, and what to type next."""
    progress = run.progress
    seconds = duration(run.writer.seconds)
    say(f"{run.spec.name}: {reason} after {progress.step} steps, {run.epoch:.2f} epochs, {seconds}")
    say("  time     " + clock_line(asdict(progress.clock)))
    if progress.best:
        best = progress.best
        say(f"  best     {metrics_line(best.metrics)}  (step {best.step}, epoch {best.epoch:.2f})")
        say(f"           in {run.folder / 'best'}")
    elif reason != "diverged":
        say(f"  best     none: {run.spec.eval.metric} was no finite number at any evaluation, so there is no best/")
    say(f"  next     python eval.py summary {run.folder}")
    if reason == "diverged":
        complain(
            f"{progress.nonfinite} steps in a row had no finite loss or gradient; metrics.jsonl names their examples, "
            f"last/ holds step {run.saved[1]}. Lower optim.lr, or raise warmup_ratio"
        )


# ---- what went wrong -------------------------------------------------------------------------------------------------


def complain(text: str) -> None:
    """Say on stderr, in one line, what went wrong."""
    say(f"train.py: {one_line(text)}", sys.stderr)


def explain(error: BaseException, begun: bool, go_on: str) -> int:
    """Say what ended the program. Returns the exit code: 1 where the run cannot go on, 2 where something handed in is
    wrong, 130 for Ctrl-C. A fault of the code is raised again. begun: there is a run folder with a checkpoint. go_on:
    the command that resumes the run."""
    said = reason(error)
    if isinstance(error, KeyboardInterrupt):
        at_once = f"stopped at once; go on from the last checkpoint: {go_on}"
        complain(at_once if begun else "interrupted")
        return 130
    if isinstance(error, InputError) or (isinstance(error, OSError) and not begun):
        return refuse("train.py", error)
    if isinstance(error, OSError):
        complain(f"{said}; last/ is intact. Make it writable or make room, then: {go_on}")
        return 1
    if machine.out_of_memory(error):
        lower = "last/ is intact. Lower data.batch_tokens and start over"
        complain(f"{said}; {lower if begun else 'there is too little memory to set this up'}")
        return 1
    raise error


NOT_REPEATED = ("--overwrite", "--resume", "--resume-anyway")


def resume_command(argv: list[str] | None) -> str:
    """The command that continues this run."""
    words = [word for word in (sys.argv[1:] if argv is None else argv) if word not in NOT_REPEATED]
    return shlex.join(["python", "train.py", *words, "--resume"])


# ---- signals ---------------------------------------------------------------------------------------------------------


class Signals:
    """While active, the first SIGINT or SIGTERM is noted in `caught`; a second one does what it always did."""

    def __enter__(self) -> "Signals":
        self.caught: int | None = None
        # One that is ignored, as by `nohup` or for a job in the background of a script, stays ignored.
        numbers = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def _note(self, number: int, frame) -> None:
        self.caught = number
        for each, handler in self._before.items():
            signal.signal(each, handler)

    def __exit__(self, *exception) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)
