"""Everything after training.

python eval.py summary runs/bert_phase2          what a run did, from its metrics.jsonl alone
python eval.py summary runs/bert_phase2 --json   the same for machines
"""

import argparse
import json
import sys
from pathlib import Path

from experiments.analysis import summarise
from experiments.console import amount, duration
from experiments.runlog import read_records
from inputs import InputError


def number(value: float | None, name: str = "") -> str:
    """Losses with three decimals, percentages with one, nothing where there is no value."""
    if value is None:
        return "-"
    return f"{value:.3f}" if "loss" in name else f"{value:.1f}"


def table(rows: list[dict], columns: list[str]) -> list[str]:
    """Lines of a text table, columns aligned to the right."""
    cells = [columns] + [[row[column] for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def print_summary(summary: dict, remarks: list[str]) -> None:
    s, best, final = summary, summary["best"], summary["final"]
    print(f"{s['name']}: {s['status']}, {s['steps']} of {s['steps_planned']} steps, seed {s['seed']}")
    print(f"{s['task']} on {s['pretrained']}, {s['device']} in {s['precision']}\n")
    if s["evaluations"]:
        metrics = [key for key in s["evaluations"][0] if key not in ("step", "phase", "seconds", "best", "epoch")]
        rows = [
            {
                "": "best" if row["best"] else "",
                "step": str(row["step"]),
                "epoch": f"{row['epoch']:.2f}",
                "phase": str(row["phase"]),
                **{key.replace("loss", "dev loss") if key == "loss" else key: number(row[key], key) for key in metrics},
            }
            for row in s["evaluations"]
        ]
        print("\n".join(table(rows, list(rows[0]))))
    else:
        print("no evaluation yet")
    print()
    if best and best is not final:
        change = ", ".join(f"{key} {number(value, key, '+')}" for key, value in s["final_minus_best"].items())
        print(f"final - best  {change}")
    if final and final["train_loss"] is not None:
        gap = final["loss"] - final["train_loss"]
        print(
            f"train vs dev  final loss {final['train_loss']:.3f} in training mode, {final['loss']:.3f} on dev ({gap:+.3f})"
        )
    for phase in s["phases"]:
        print(
            f"trainable     {phase['phase']}: {amount(phase['parameters'])} of {amount(s['parameters'])} ({phase['share']:.2%}), {phase['steps']} steps"
        )
    seconds = ", ".join(f"{key} {duration(value)}" for key, value in s["seconds"].items())
    print(f"time          {seconds}")
    speed = s["throughput"]
    if speed["tokens_per_second"]:
        print(
            f"speed         {speed['tokens_per_second']:,.0f} real tokens/s in training (quartiles {speed['low']:,.0f} to "
            f"{speed['high']:,.0f}), {speed['padding']:.1%} padding"
        )
    if s["peak_memory_mb"]:
        size = f", best checkpoint {s['best_bytes'] / 1e6:.1f} MB" if s["best_bytes"] else ""
        print(f"memory        {s['peak_memory_mb']:,} MiB at its peak{size}")
    for event in s["events"]:
        print(f"event         {event}")
    for remark in remarks:
        print(f"note          {remark}")


def command_summary(arguments: argparse.Namespace) -> None:
    records, remarks = read_records(arguments.run)
    summary = summarise(records)
    if arguments.json:
        print(json.dumps({**summary, "remarks": remarks}, indent=2))
    else:
        print_summary(summary, remarks)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Everything after training.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    summary = commands.add_parser("summary", help="what a run did, from its metrics.jsonl alone")
    summary.add_argument("run", type=Path, help="a run folder, for example runs/bert_phase2")
    summary.add_argument("--json", action="store_true", help="for machines")
    summary.set_defaults(command=command_summary)
    arguments = parser.parse_args(argv)
    try:
        arguments.command(arguments)
    except InputError as error:
        print(f"eval.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
