"""Curves of one or more runs as SVG, drawn by matplotlib (extra `plots`).

Every line and marker of run number i is in a group whose id contains "-run{i}-", so that a page can show and hide it.
Names from a run are drawn letter by letter: a $ in them begins no formula.
"""

import io
import re
import warnings
from pathlib import Path

import numpy as np

from data.files import InputError
from data.writing import write_text
from experiments.records import read_records
from experiments.report.render import short
from experiments.report.run import Run

MOST_POINTS = 400  # of a curve; longer ones are drawn as means over equal stretches
PAGE = "#010203"  # the ink of a page's charts, which becomes the page's own colour
# Readable on white and on black, and told apart by people who see red and green alike (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b08a00", "#3b9ddd", "#7a5fc0", "#8c8c8c")
PANELS = {"loss": "loss", "metric": "", "lr": "learning rates", "grad_norm": "gradient norm"}


def require_matplotlib():
    """matplotlib, with its Figure class. Raises InputError where it is not installed."""
    try:
        import matplotlib
        import matplotlib.figure
    except ImportError:
        raise InputError("--html draws with matplotlib, which is not installed; pip install matplotlib") from None
    return matplotlib


def curves(runs: list[Run], panels: list[str], ink: str, size: tuple[float, float], colour: int = 0) -> str:
    """An SVG file with one panel below the other. ink: of texts and axes. size: of a panel, in inches. colour: the
    number of the first run's. With one run, or several that have the same phases, phases are named and shaded."""
    matplotlib = require_matplotlib()
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    settings = {"svg.fonttype": "none", "svg.hashsalt": "curves", "font.size": 10, "font.family": "sans-serif"}
    with matplotlib.rc_context(settings | dict.fromkeys(inked, ink)), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that its font lacks, which the reader's may have; about no data
        figure = matplotlib.figure.Figure(figsize=(size[0], size[1] * len(panels)), layout="constrained")
        for axes, name in zip(np.ravel(figure.subplots(len(panels), sharex=True)), panels, strict=True):
            if all(phases_of(run) == phases_of(runs[0]) for run in runs):
                shade(axes, runs[0])
            for i, run in enumerate(runs):
                draw(axes, name, i, run, COLOURS[(colour + i) % len(COLOURS)])
            metrics = ", ".join(dict.fromkeys(short(run.metric) for run in runs))
            axes.set_ylabel(PANELS[name] or metrics, parse_math=False)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25, linewidth=0.6)
            if name in ("lr", "grad_norm"):
                axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        if len(runs) == 1 and figure.axes[0].lines:
            figure.axes[0].legend(frameon=False, fontsize=9)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return out.getvalue()


def phases_of(run: Run) -> list[tuple[str, float]]:
    """The name of each phase, and the epoch of its beginning."""
    return [(short(record["name"]), record["epoch"]) for record in run.records.of_kind("phase")]


def shade(axes, run: Run) -> None:
    """Shade every other phase, and write the names above."""
    phases = phases_of(run)
    ends = [*(begin for _, begin in phases[1:]), *run.train["epoch"][-1:]]
    for k, ((label, begin), end) in enumerate(zip(phases, ends, strict=False)):
        if k % 2:
            axes.axvspan(begin, end, color="#888888", alpha=0.12, linewidth=0)
        place = {"xycoords": ("data", "axes fraction"), "fontsize": 8, "va": "bottom"}
        axes.annotate(label, (begin, 1.0), parse_math=False, **place)


def lines_of(run: Run, name: str) -> list[tuple[list[float], list[float]]]:
    """(epochs, values) of each line of a panel: at most MOST_POINTS points, means over equal stretches."""
    found = []
    for y in run.rates.values() if name == "lr" else [run.train[name]] if name in run.train else []:
        known = np.isfinite(y)
        x, y = run.train["epoch"][known], y[known]
        if len(x) > MOST_POINTS:
            edges = np.linspace(0, len(x), MOST_POINTS + 1).astype(int)
            x, y = (np.add.reduceat(values, edges[:-1]) / np.diff(edges) for values in (x, y))
        found += [(x.tolist(), y.tolist())] if len(x) else []
    return found


def draw(axes, name: str, i: int, run: Run, colour: str) -> None:
    """Draw run number i: training as lines, development as points with the best ringed."""
    lines = lines_of(run, name)
    for k, (x, y) in enumerate(lines):
        look = {"linewidth": 1.3, "alpha": 1.0 - 0.7 * k / len(lines), "label": "training"}
        axes.plot(x, y, color=colour, gid=f"{name}-run{i}-line{k}", **look)
    key = {"loss": "loss", "metric": run.metric}.get(name)
    points = [(row["epoch"], row["metrics"][key]) for row in run.evaluations if row["metrics"].get(key) is not None]
    if points:
        look = {"markersize": 4, "linewidth": 0.8, "label": "development"}
        axes.plot(*zip(*points, strict=True), "o--", color=colour, gid=f"{name}-run{i}-points", **look)
    if run.best and key and run.best["metrics"].get(key) is not None:
        look = {"markersize": 10, "fillstyle": "none", "label": "best"}
        axes.plot(run.best["epoch"], run.best["metrics"][key], "o", color=colour, gid=f"{name}-run{i}-best", **look)


def for_page(runs: list[Run]) -> str:
    """An <svg> element for a page, in the page's own colour, with the panels for which there are records."""
    panels = [name for name in PANELS if name == "metric" or any(lines_of(run, name) for run in runs)]
    svg = curves(runs, panels, PAGE, (7.6, 2.7))
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return svg.replace(PAGE, "currentColor").strip()


def picture(folder: Path, light: Path, dark: Path) -> None:
    """Write a run's loss and deciding metric over the epochs as two SVG files, one for light and one for dark
    backgrounds. Legible at 400 pixels. Raises InputError where the folder is no run."""
    run = Run(read_records(folder))
    for path, ink, colour in ((light, "#1b1b1b", 0), (dark, "#e6e6e6", 5)):
        write_text(path, curves([run], ["loss", "metric"], ink, (4.4, 2.2), colour))
