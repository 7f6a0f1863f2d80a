"""Curves of one or more runs as inline SVG, drawn by matplotlib (extra `plots`).

Every line and marker of run number i is in a group whose id contains "-run{i}-", so that a page can show and hide it.
Text and axes have the page's own colour (currentColor).
"""

import io
import re

import numpy as np

from data.files import InputError
from experiments.report.analysis import evaluations
from experiments.report.diary import Diary

MOST_POINTS = 400  # of a curve; longer ones are drawn as means over equal stretches
INK = "#010203"  # becomes currentColor
# Readable on white and on black, and told apart by people who see red and green alike (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08a00", "#3b9ddd", "#7a5fc0", "#8c8c8c")
CHARTS = {
    "loss": "Loss: training (line) and development (points), phases shaded where all runs share them, best ringed",
    "metric": "The metric that decides which evaluation is best",
    "lr": "Learning rates, of each part of the model",
    "grad_norm": "Gradient norm before clipping",
    "tokens_per_second": "Real tokens per second in training",
}


def thinned(x: np.ndarray, y: np.ndarray) -> tuple[list[float], list[float]]:
    """At most MOST_POINTS points: means over equal stretches of the known values."""
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) > MOST_POINTS:
        edges = np.linspace(0, len(x), MOST_POINTS + 1).astype(int)[:-1]
        counts = np.diff(np.append(edges, len(x)))
        x, y = np.add.reduceat(x, edges) / counts, np.add.reduceat(y, edges) / counts
    return x.tolist(), y.tolist()


def curves(diary: Diary) -> dict:
    """What is drawn of a run, as plain values: {chart: [(label, epochs, values)]}, its phases and evaluations."""
    epoch, train = diary.train["epoch"], diary.train
    names = ("loss", "grad_norm", "tokens_per_second")
    lines = {name: [("", *thinned(epoch, train[name]))] for name in names}
    lines["lr"] = [(part, *thinned(epoch, values)) for part, values in diary.rates.items()]
    phases = [(record["name"], record["epoch"]) for record in diary.of_kind("phase")]
    points = [(record["epoch"], record["metrics"]) for record in evaluations(diary)]
    return {"lines": lines, "phases": phases, "evaluations": points, "end": float(epoch[-1]) if len(epoch) else 0.0}


def matplotlib_figure():
    """matplotlib's Figure class and settings. Raises InputError where it is not installed."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("--html draws with matplotlib, which is not installed; pip install matplotlib") from None
    return matplotlib, Figure


def chart(name: str, runs: list[tuple[dict, dict]]) -> str | None:
    """One chart as an <svg> element. runs: (summary, curves) of each. None where there is nothing to draw."""
    matplotlib, figure_class = matplotlib_figure()
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings | dict.fromkeys(ink, INK)):
        figure = figure_class(figsize=(7.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        if name == "loss" and all(found["phases"] == runs[0][1]["phases"] for _, found in runs):
            shade(axes, runs[0][1])
        drawn = [draw(axes, name, i, summary, found, len(runs) == 1) for i, (summary, found) in enumerate(runs)]
        if not any(drawn):
            return None
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        if name in ("lr", "grad_norm"):
            axes.set_yscale("log")
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return inline(out.getvalue(), name)


def shade(axes, found: dict) -> None:
    """Name the phases, and shade every other one."""
    if not found["phases"]:  # the run has only just begun
        return
    ends = [begin for _, begin in found["phases"][1:]] + [found["end"]]
    for k, ((label, begin), end) in enumerate(zip(found["phases"], ends, strict=True)):
        if k % 2:
            axes.axvspan(begin, end, color="#888888", alpha=0.12, linewidth=0)
        axes.annotate(label, (begin, 1.0), xycoords=("data", "axes fraction"), fontsize=8, va="bottom")


def draw(axes, name: str, i: int, summary: dict, found: dict, alone: bool) -> bool:
    """Draw run number i. alone: there is no other. Returns whether there was anything to draw."""
    colour = COLOURS[i % len(COLOURS)]
    lines = [(label, x, y) for label, x, y in found["lines"].get(name, []) if y]
    for k, (_, x, y) in enumerate(lines):
        fade = 1.0 if len(lines) == 1 else 1.0 - 0.7 * k / len(lines)
        axes.plot(x, y, color=colour, linewidth=1.3, alpha=fade, gid=f"run{i}-line{k}")
    if name == "lr" and alone and len(lines) > 1:
        for label, x, y in lines:
            axes.annotate(label, (x[-1], y[-1]), fontsize=7)
    key = {"loss": "loss", "metric": summary["metric"]}.get(name)
    points = [(epoch, metrics[key]) for epoch, metrics in found["evaluations"] if key and metrics.get(key) is not None]
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, "o--", color=colour, markersize=4, linewidth=0.8, gid=f"run{i}-points")
        best = summary["best"]
        if best and best.get(key) is not None:
            axes.plot(best["epoch"], best[key], "o", color=colour, markersize=10, fillstyle="none", gid=f"run{i}-best")
    return bool(lines or points)


def inline(svg: str, name: str) -> str:
    """matplotlib's file as an element of a page that has others: no prologue, ids of its own, the page's colour."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    return svg.strip()
