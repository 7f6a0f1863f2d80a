"""Between a run and the person at its terminal: what is shown (the banner, a line per evaluation, the last screen), and
the signals that stop it."""

import shlex
import signal
import sys
from dataclasses import asdict

from data.files import one_line
from experiments.terminal import amount, clock_line, duration, number, say
from experiments.training.build import unused_tensors
from experiments.training.phases import phase_table
from experiments.training.state import Run


def banner(run: Run, remark: str | None) -> None:
    """One screen: what trains, how much of it, on what. remark: how it begins, where that is worth saying."""
    spec, config, pretrained = run.spec, run.model.encoder.config, run.pretrained
    total = sum(parameter.numel() for parameter in run.model.parameters())
    kinds = dict.fromkeys(task.task for task in spec.task_specs().values())
    say(f"{spec.name}: {' and '.join(kinds)}, seed {spec.seed}")
    say(
        f"  model    {pretrained.name}: {config.num_layers} layers, {config.hidden_size} wide, "
        f"{amount(total)} parameters with its head"
    )
    unused = unused_tensors(run.model, pretrained)
    if unused:
        say(f"           not used from the checkpoint: {', '.join(unused)}")
    for split, counts in run.task.splits.items():
        notes = [text.format(f"{counts[key]:,}") for key, text in NOTES.items() if counts.get(key)]
        say(f"  {split:8} " + ", ".join([f"{counts['examples']:,} {counts['kind']}", *notes, *leaks(counts)]))
    for text in run.task.remarks:
        say(f"           {one_line(text)}")
    say(f"  machine  {run.device}, {run.precision.name} ({run.precision.reason})")
    for index, phase in enumerate(spec.phases):
        rows = phase_table(run.model, run.groups, phase, index)
        trained = sum(row["parameters"] for row in rows)
        say(
            f"  phase    {phase.name}: {phase.epochs:g} epochs, {run.phase_steps(index)} steps, "
            f"trains {amount(trained)} parameters ({100 * trained / total:.2f} %)"
        )
        say("           " + ", ".join(f"{row['part']} {amount(row['parameters'])} at {row['lr']:.2g}" for row in rows))
    say(f"  folder   {run.folder}")
    if remark:
        say(f"  {remark}")


NOTES = {
    "windows": "{} windows",
    "answers_misplaced": "{} answers left out (not where they say)",
    "questions_cut": "{} questions cut to max_query_length",
    "answers_widened": "{} answers that begin or end inside a token",
    "answers_lost": "{} answers without a token (labelled as no answer)",
    "labels": "{} labels",
    "texts_cut": "{} cut to max_length",
    "contradictions": "{} texts with different labels in different places",
}


def leaks(counts: dict) -> list[str]:
    """Which of the development examples are training examples too; said as well where none is."""
    if "near_duplicates" not in counts:
        return []
    exact, near = counts["duplicates"], counts["near_duplicates"] - counts["duplicates"]
    return [f"{exact:,} of them in the training set too, {near:,} more but for case, accents, punctuation and spaces"]


IN_A_LINE = ("loss", "mean", "exact", "accuracy", "macro_f1", "f1", "micro_f1", "rmse", "mae", "pearson")


def metrics_line(metrics: dict[str, float]) -> str:
    """The metrics that fit a line: "loss 1.234  exact 56.7  f1 65.4"; `eval.py summary` shows all."""
    return "  ".join(f"{key} {number(metrics[key], key)}" for key in IN_A_LINE if key in metrics)


def ending(run: Run, reason: str) -> None:
    """One screen: how it ended, the best evaluation and where it is, what to type next."""
    progress, clock = run.progress, run.progress.clock
    say(f"{run.spec.name}: {reason} after {progress.step} steps, {run.epoch:.2f} epochs, {duration(run.log.seconds)}")
    say("  time     " + clock_line(asdict(clock)))
    if progress.best:
        best = progress.best
        say(f"  best     {metrics_line(best.metrics)}  (step {best.step}, epoch {best.epoch:.2f})")
        say(f"           in {run.folder / 'best'}")
    elif reason != "diverged":
        say(f"  best     none: {run.spec.eval.metric} was no finite number at any evaluation, so there is no best/")
    say(f"  next     python eval.py summary {run.folder}")


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


NOT_REPEATED = ("--overwrite", "--resume", "--resume-anyway")


def resume_command(argv: list[str] | None) -> str:
    """What to type to continue this run."""
    words = [word for word in (sys.argv[1:] if argv is None else argv) if word not in NOT_REPEATED]
    return shlex.join(["python", "train.py", *words, "--resume"])
