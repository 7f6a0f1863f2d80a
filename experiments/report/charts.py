"""Curves of one or more runs as SVG, drawn by matplotlib (extra `plots`).

On the page, every line and marker of run number i is in a group whose id contains "-run{i}-", so that it can be shown
and hidden. Text and axes have the page's own colour (currentColor). Names from a run are drawn letter by letter:
a $ in them begins no formula.
"""

import io
import re
from pathlib import Path

import numpy as np

from data.files import InputError, one_line, replace_file
from experiments.records import read_records
from experiments.report.run import Run

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


def lines_of(run: Run, name: str) -> list[tuple[str, list[float], list[float]]]:
    """(label, epochs, values) of each line of a chart."""
    columns = run.rates if name == "lr" else {"": run.train[name]} if name in run.train else {}
    found = [(one_line(label), *thinned(run.train["epoch"], values)) for label, values in columns.items()]
    return [(label, x, y) for label, x, y in found if y]


def phases_of(run: Run) -> list[tuple[str, float]]:
    """The name of each phase, and the epoch of its beginning."""
    return [(one_line(record["name"]), record["epoch"]) for record in run.records.of_kind("phase")]


def require_matplotlib():
    """matplotlib, with its Figure class. Raises InputError where it is not installed."""
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError:
        raise InputError("--html draws with matplotlib, which is not installed; pip install matplotlib") from None
    return matplotlib


def in_ink(colour: str, name: str) -> dict:
    """matplotlib's settings for a chart with text and axes of a colour. name: makes its ids the same every time."""
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings = {"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10, "font.family": "sans-serif"}
    return settings | dict.fromkeys(ink, colour)


def as_svg(figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return out.getvalue()


def tidy(axes) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(left=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def chart(name: str, runs: list[Run]) -> str | None:
    """One chart as an <svg> element, or None where there is nothing to draw."""
    matplotlib = require_matplotlib()
    with matplotlib.rc_context(in_ink(INK, name)):
        figure = matplotlib.figure.Figure(figsize=(7.6, 3.0), layout="constrained")
        axes = figure.add_subplot()
        if name == "loss" and all(phases_of(run) == phases_of(runs[0]) for run in runs):
            shade(axes, runs[0])
        drawn = [draw(axes, name, i, run) for i, run in enumerate(runs)]
        if not any(drawn):
            return None
        if name == "lr" and len(runs) == 1:
            for label, x, y in lines_of(runs[0], name):
                axes.annotate(label, (x[-1], y[-1]), fontsize=7, parse_math=False)
        if name in ("lr", "grad_norm"):
            axes.set_yscale("log")
        tidy(axes)
        return inline(as_svg(figure), name)


def shade(axes, run: Run) -> None:
    """Name the phases, and shade every other one."""
    phases = phases_of(run)
    ends = [*(begin for _, begin in phases[1:]), *run.train["epoch"][-1:]]
    for k, ((label, begin), end) in enumerate(zip(phases, ends, strict=False)):
        if k % 2:
            axes.axvspan(begin, end, color="#888888", alpha=0.12, linewidth=0)
        place = {"xycoords": ("data", "axes fraction"), "fontsize": 8, "va": "bottom"}
        axes.annotate(label, (begin, 1.0), parse_math=False, **place)


def draw(axes, name: str, i: int, run: Run) -> bool:
    """Draw run number i. Returns whether there was anything to draw."""
    colour = COLOURS[i % len(COLOURS)]
    lines = lines_of(run, name)
    for k, (_, x, y) in enumerate(lines):
        fade = 1.0 if len(lines) == 1 else 1.0 - 0.7 * k / len(lines)
        axes.plot(x, y, color=colour, linewidth=1.3, alpha=fade, gid=f"run{i}-line{k}", label="training")
    key = {"loss": "loss", "metric": run.metric}.get(name)
    known = [record for record in run.dev_records if key and record["metrics"].get(key) is not None]
    points = [(record["epoch"], record["metrics"][key]) for record in known]
    if points:
        look = {"color": colour, "markersize": 4, "linewidth": 0.8, "label": "development"}
        axes.plot(*zip(*points, strict=True), "o--", gid=f"run{i}-points", **look)
        if run.best_record in known:
            best = points[known.index(run.best_record)]
            look = {"color": colour, "markersize": 10, "fillstyle": "none", "linestyle": "none", "label": "best"}
            axes.plot(*best, "o", gid=f"run{i}-best", **look)
    return bool(lines or points)


def inline(svg: str, name: str) -> str:
    """matplotlib's file as an element of a page that has others: no prologue, ids of its own, the page's colour."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    return svg.strip()


def picture(folder: Path, light: Path, dark: Path) -> None:
    """Write a run's loss and deciding metric over the epochs as two SVG files, one for light and one for dark
    backgrounds. Legible at 400 pixels. Raises InputError where the folder is no run."""
    matplotlib, run = require_matplotlib(), Run(read_records(folder))
    for path, ink, colour in ((light, "#1b1b1b", 0), (dark, "#e6e6e6", 5)):
        with matplotlib.rc_context(in_ink(ink, "picture")):
            figure = matplotlib.figure.Figure(figsize=(4.4, 4.4), layout="constrained")
            loss, metric = figure.subplots(2, sharex=True)
            for axes, name in ((loss, "loss"), (metric, "metric")):
                shade(axes, run)
                draw(axes, name, colour, run)
                tidy(axes)
            loss.set_xlabel("")
            loss.set_ylabel("loss")
            metric.set_ylabel(one_line(run.metric), parse_math=False)
            loss.legend(frameon=False, fontsize=9)
            replace_file(path, as_svg(figure))
