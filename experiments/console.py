"""What a person sees while a run goes on: the banner at its start, a line per evaluation, the last screen."""

import sys
from dataclasses import asdict

from experiments.report import amount, clock_line, duration, number
from experiments.run import Run
from inputs import one_line


def banner(run: Run, tables: list[list[dict]], remark: str | None) -> None:
    """One screen: what trains, how much of it, on what. tables: the rows of `train.phase_table` for each phase."""
    spec, config, pretrained = run.spec, run.model.encoder.config, run.pretrained
    total = sum(parameter.numel() for parameter in run.model.parameters())
    counts = run.task.counts
    print(f"{spec.name}: {spec.model.task}, seed {spec.seed}")
    print(
        f"  model    {pretrained.name}: {config.num_layers} layers, {config.hidden_size} wide, "
        f"{amount(total)} parameters with its head"
    )
    if pretrained.unused:
        print(f"           not used from the checkpoint: {', '.join(pretrained.unused)}")
    for split in ("train", "dev"):
        c = counts[split]
        notes = [f"{c[key]} {text}" for key, text in NOTES.items() if c[key]]
        print("; ".join([f"  {split:8} {c['questions']:,} questions in {c['windows']:,} windows", *notes]))
    for misplaced in run.task.misplaced[:3]:
        print(f"           left out, for example: {one_line(misplaced)}")
    print(f"  machine  {run.device}, {run.precision.name} ({run.precision.reason})")
    for index, (phase, rows) in enumerate(zip(spec.phases, tables, strict=True)):
        trained = sum(row["parameters"] for row in rows)
        print(
            f"  phase    {phase.name}: {phase.epochs:g} epochs, {run.phase_steps(index)} steps, "
            f"trains {amount(trained)} parameters ({100 * trained / total:.2f} %)"
        )
        print(
            "           " + ", ".join(f"{row['part']} {amount(row['parameters'])} at {row['lr']:.2g}" for row in rows)
        )
    print(f"  folder   {run.folder}")
    if remark:
        print(f"  {remark}")
    sys.stdout.flush()


NOTES = {
    "answers_misplaced": "answers left out (not where they say)",
    "questions_cut": "questions cut to max_query_length",
    "answers_widened": "answers that begin or end inside a token",
    "answers_lost": "answers without a token (labelled as no answer)",
}


def metrics_line(metrics: dict[str, float]) -> str:
    """The metrics that fit a line: "loss 1.234  exact 56.7  f1 65.4"; `eval.py summary` shows all."""
    return "  ".join(f"{key} {number(metrics[key], key)}" for key in ("loss", "exact", "f1") if key in metrics)


def ending(run: Run, reason: str) -> None:
    """One screen: how it ended, the best evaluation and where it is, what to type next."""
    progress, clock = run.progress, run.progress.clock
    print(f"{run.spec.name}: {reason} after {progress.step} steps, {run.epoch:.2f} epochs, {duration(run.log.seconds)}")
    print("  time     " + clock_line(asdict(clock)))
    if progress.best:
        best = progress.best
        print(f"  best     {metrics_line(best.metrics)}  (step {best.step}, epoch {best.epoch:.2f})")
        print(f"           in {run.folder / 'best'}")
    print(f"  next     python eval.py summary {run.folder}")
    sys.stdout.flush()
