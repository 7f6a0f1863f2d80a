"""Curves of one or more runs, drawn by matplotlib: on a page, in a PNG, in the README's pictures.

What is drawn is {what a setting is called: its runs, which repeat one another}. A setting has one colour; where it has
several runs, they are thin, and their mean is the strong line over them. Everything drawn of run i of setting k is in a
group whose id contains "-set{k}-run{i}-", and of their mean "-set{k}-mean-", so that a page can hide it.
"""

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from data.writing import replace_file
from experiments.report.render import short
from experiments.report.run import Run

Settings = dict[str, list[Run]]
Line = tuple[str, np.ndarray, np.ndarray]  # a key of LINES, epochs, values

MOST_POINTS = 400  # of a line of training; longer ones are drawn as means over equal stretches
PAGE = "#010203"  # the ink of a page's charts, which becomes the page's own colour
# Of each setting: its colour, which can be read on white and on black, and its marker, by which those tell it apart who
# see red and green alike: {as matplotlib calls it: as a letter}.
COLOURS = ("#2a86cf", "#d55e00", "#009e73", "#8a6fd1", "#b08a00", "#c86a9e", "#848484", "#a8623a")
MARKERS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼", "P": "✚", "X": "✖", "*": "★"}
LINES: dict[str, dict] = {
    "training": {"marker": "none", "linewidth": 1.6},
    "development": {"markersize": 5, "linewidth": 0.8},
    "best": {"marker": "o", "markersize": 10, "fillstyle": "none", "linestyle": "none"},
}
THIN = {"markersize": 3, "linewidth": 0.5, "linestyle": "-", "zorder": 1.9}  # zorder: below all that is strong
PANELS = {"loss": "loss", "metric": "", "lr": "learning rates", "grad_norm": "gradient norm"}
PNG = re.compile(rb"\x89PNG\r\n\x1a\n.{29}tEXtSoftware\0eval\.py", re.DOTALL)  # how one that is ours begins


def curves(settings: Settings, panels: list[str], ink: str, size: tuple[float, float], form: str = "svg") -> bytes:
    """An SVG or PNG file with one panel below the other. ink: of texts and axes. size: of a panel, in inches. With one
    run, or several that have the same phases, phases are named."""
    import matplotlib.figure

    runs = [run for members in settings.values() for run in members]
    phases = [[(short(phase["name"]), phase["epoch"]) for phase in run.records.of_kind("phase")] for run in runs]
    inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    off = ("axes.spines.top", "axes.spines.right", "legend.frameon", "text.parse_math")  # parse_math: a $ is a $
    fixed: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "curves", "axes.facecolor": "none"}
    fixed |= dict.fromkeys(inked, ink) | dict.fromkeys(off, False)
    with matplotlib.rc_context(fixed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about letters that its font lacks, which the reader's may have; about no data
        figure = matplotlib.figure.Figure(figsize=(size[0], size[1] * len(panels)), layout="constrained")
        for axes, name in zip(np.ravel(figure.subplots(len(panels), sharex=True)), panels, strict=True):
            for label, begin in phases[0] if all(each == phases[0] for each in phases) else ():
                axes.axvline(begin, color="#888888", linewidth=0.8)
                axes.annotate(label, (begin, 1.0), xycoords=("data", "axes fraction"), va="bottom")
            for k, members in enumerate(settings.values()):
                draw(axes, name, k, members)
            metrics = ", ".join(dict.fromkeys(short(run.metric) for run in runs))
            axes.set_ylabel(PANELS[name] or metrics)
            axes.grid(alpha=0.25, linewidth=0.6)
            if name in ("lr", "grad_norm"):
                axes.set_yscale("log")
                axes.yaxis.set_major_formatter(matplotlib.ticker.LogFormatter())
                axes.yaxis.set_minor_formatter(matplotlib.ticker.LogFormatter(labelOnlyBase=False))
        axes.set_xlabel("epoch")
        axes.set_xlim(left=0)
        if panels[0] == "loss":
            single = {"single runs": THIN} if len(runs) > len(settings) else {}
            for label, look in (LINES | single).items():
                figure.axes[0].plot([], [], **{"color": ink, "marker": "o", "label": label} | look)
            figure.axes[0].legend()
        if form == "png" and len(runs) > 1:
            handles = [axes.plot([], [], **look_of(k))[0] for k in range(len(settings))]
            labels = [short(label) for label in settings]
            columns = max(1, 90 // (8 + max(map(len, labels))))
            figure.legend(handles, labels, loc="outside upper left", ncols=columns)
        out, paper = io.BytesIO(), "white" if form == "png" else "none"
        metadata = {"Software": "eval.py"} if form == "png" else {"Date": None, "Creator": None}
        figure.savefig(out, format=form, dpi=150, facecolor=paper, metadata=metadata)
        return out.getvalue()


def lines_of(run: Run, name: str) -> list[Line]:
    """What is drawn of a run in a panel."""
    found: list[Line] = []
    for y in run.rates.values() if name == "lr" else [run.train[name]] if name in run.train else []:
        known = np.isfinite(y)
        x, y = run.train["epoch"][known], y[known]
        if len(x) > MOST_POINTS:
            x, y = (np.array([piece.mean() for piece in np.array_split(values, MOST_POINTS)]) for values in (x, y))
        found += [("training", x, y)] if len(x) else []
    key = {"loss": "loss", "metric": run.metric}.get(name)
    rows = [row for row in run.evaluations if key and row["metrics"].get(key) is not None]
    for label, chosen in (("development", rows), ("best", [row for row in rows if row["best"]])):
        points = np.array([(row["epoch"], row["metrics"][key]) for row in chosen])
        found += [(label, *points.T)] if len(points) else []
    return found


def mean_of(runs: list[list[Line]]) -> list[Line]:
    """The mean of each line that all runs have, as far as all of them went. The best evaluations have none."""
    found = []
    for lines in zip(*runs, strict=False):
        label, epochs, _ = min(lines, key=lambda line: line[1][-1])
        if label != "best" and {line[0] for line in lines} == {label}:
            values = [np.interp(epochs, *line[1:]) for line in lines]
            found.append((label, epochs, np.mean(values, axis=0)))
    return found


def look_of(k: int) -> dict:
    """How setting number k looks. Each has longer gaps than the one before, so where curves coincide, those that were
    drawn first are seen through the gaps of the others."""
    lap, k = divmod(k, len(COLOURS))
    marker, dash = [*MARKERS][(k + lap) % len(MARKERS)], 16 * 0.7**k
    return {"color": COLOURS[k], "marker": marker, "linestyle": (0, (dash, 16 - dash))}


def draw(axes, name: str, k: int, runs: list[Run]) -> None:
    """Draw setting number k: its runs, and their mean where there are several."""
    drawn = {f"run{i}": lines_of(run, name) for i, run in enumerate(runs)}
    if len(runs) > 1:
        drawn["mean"] = mean_of(list(drawn.values()))
    for who, lines in drawn.items():
        for n, (label, x, y) in enumerate(lines):
            thin = THIN if len(runs) > 1 and who != "mean" and label != "best" else {}
            axes.plot(x, y, gid=f"{name}-set{k}-{who}-{n}", **look_of(k) | LINES[label] | thin)


def panels_of(settings: Settings) -> list[str]:
    """The panels for which there are records."""
    runs = [run for members in settings.values() for run in members]
    return [name for name in PANELS if name == "metric" or any(lines_of(run, name) for run in runs)]


def for_page(settings: Settings) -> str:
    """An <svg> element for each panel, in the page's own colour, with no ids but our own."""
    panels = [curves(settings, [name], PAGE, (4.2, 2.8)).decode() for name in panels_of(settings)]
    left_out = re.compile(r'<metadata>.*?</metadata>|(?<=<g) id="[\w.]+"', re.DOTALL)
    return "".join(left_out.sub("", svg[svg.index("<svg") :]).replace(PAGE, "currentColor").strip() for svg in panels)


def write_png(path: Path, settings: Settings) -> None:
    """Write all panels as a PNG on white, with a legend of the settings where there are several."""
    replace_file(path, lambda new: new.write_bytes(curves(settings, panels_of(settings), "#1b1b1b", (8, 2.4), "png")))
