"""Draw the README's pictures, each as one SVG for light pages and one for dark: the network with what trains in each
phase, and, where runs/bert_phase2 is there, the course of that run, by matplotlib.

What trains is read from the experiment file, so the picture says what the run does.
"""

import json
import re
from pathlib import Path
from xml.sax.saxutils import escape

from experiments.records import read_records
from experiments.report.charts import curves
from experiments.report.run import Run

EXPERIMENT = Path(__file__).parents[1] / "bert_phase2.json"
FOLDER = Path(__file__).parents[1] / "reports"
RUN = Path("runs/bert_phase2")
SHARES = (0.65, 47.5)  # per cent of the parameters that train in each phase, as `eval.py summary` prints them
LAYERS = 6  # of all-MiniLM-L6-v2

# In units of the canvas, which is about 600 wide: shown at 400 pixels, text of size 19 is still 13 pixels high.
MARGIN, COLUMN, GUTTER = 12, 274, 28
BOX, GAP, ARROW = 33, 6, 26  # heights: of a box, between boxes that belong together, of a long arrow
PAD, THIN = 10, 9  # between a layer's frame and its boxes; height of a layer that is only hinted at
# A row of attention, (distance from its left, width): a weight matrix, LoRA's A and B close to it, another matrix.
CELLS = ((0, 88), (92, 30), (126, 30), (170, 84))

# Strong against pale, not only orange against grey: the two can be told apart without seeing colours.
THEMES = {
    "light": dict(on="#c24e00", on_text="#ffffff", off="#d9dee4", off_text="#444c56", ink="#1f2328", soft="#59636e"),
    "dark": dict(on="#ff9d45", on_text="#1c0d00", off="#353c46", off_text="#c3cbd5", ink="#f0f6fc", soft="#9aa4af"),
}
STYLE = """
text {{ font: 19px -apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif; fill: {ink} }}
text.soft {{ fill: {soft} }} text.big, text.share {{ font-size: 27px; font-weight: 700 }} text.share {{ fill: {on} }}
rect.on {{ fill: {on} }} text.on {{ fill: {on_text}; font-weight: 700 }}
rect.off {{ fill: {off} }} text.off {{ fill: {off_text} }}
rect.frame {{ fill: none; stroke: {soft}; stroke-width: 1.5; opacity: .7 }}
path {{ fill: none; stroke: {soft}; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round }}
"""


def label(x: float, y: float, text: str, kind: str = "ink", anchor: str = "start") -> str:
    """Text whose small letters are centred on the height y."""
    return f'<text x="{x:g}" y="{y + 6:g}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, text: str = "") -> str:
    """A rounded box with text in its middle. kind: "on" where it trains, "off" where it is frozen, or "frame"."""
    shape = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5" class="{kind}"/>'
    return shape + (label(x + width / 2, y + height / 2, text, kind, "middle") if text else "")


def arrow(x: float, y: float, length: float) -> str:
    """An arrow from (x, y) down."""
    return f'<path d="M{x:g} {y:g}v{length:g}m-5 -5l5 5l5 -5"/>'


def state(train: list[str], part: str) -> str:
    """The kind of box for a part (head, lora, embeddings, layers.N): "on" if a phase's `train` list names it."""
    unknown = [entry for entry in train if not re.fullmatch(r"head|lora|embeddings|layers(\.\d+)?|all", entry)]
    if unknown:  # drawn as frozen, it would be a lie
        raise ValueError(f"train: the picture has no part {unknown[0]!r}")
    return "on" if set(train) & {part, part.split(".")[0], "all"} else "off"


def row(x: float, y: float, height: float, layer: str, lora: str, texts: tuple[str, str, str, str]) -> str:
    """A row of attention: two weight matrices, the first with LoRA beside it. layer, lora: their kinds of box."""
    cells = zip(CELLS, (layer, lora, lora, layer), texts, strict=True)
    return "".join(box(x + left, y, width, height, kind, text) for (left, width), kind, text in cells)


def whole_layer(x: float, y: float, layer: str, lora: str) -> tuple[str, float]:
    """A layer with its attention and MLP, and where it ends."""
    top = y + PAD + 24
    out = label(x + PAD, y + PAD + 9, "attention", "soft")
    for texts in (("query", "A", "B", "key"), ("value", "A", "B", "output")):
        out += row(x + PAD, top, BOX, layer, lora, texts)
        top += BOX + GAP
    out += box(x + PAD, top + GAP, COLUMN - 2 * PAD, BOX, layer, "MLP")
    end = top + GAP + BOX + PAD
    return box(x, y, COLUMN, end - y, "frame") + out, end


def column(x: float, title: str, phase: dict, share: float) -> tuple[str, float]:
    """The network in one phase, from the tokens down to the head, and where it ends."""
    middle, train = x + COLUMN / 2, phase["train"]
    out = label(x, 16, title, "soft") + label(x + COLUMN, 16, "trained parameters", "soft", "end")
    out += label(x, 44, phase["name"], "big") + label(x + COLUMN, 44, f"{share:g} %", "share", "end")
    out += box(x, 64, COLUMN, 10, "off") + box(x, 64, max(4, COLUMN * share / 100), 10, "on")  # 4: can still be seen
    out += label(middle, 102, "tokens", anchor="middle") + arrow(middle, 117, ARROW - 6)
    out += box(x, 141, COLUMN, BOX, state(train, "embeddings"), "embeddings")
    y: float = 141 + BOX
    lora = state(train, "lora")
    for i in range(LAYERS):
        layer, between = state(train, f"layers.{i}"), 0 < i < LAYERS - 1
        if i <= 1 or not between:  # the layers between are one stack, with one arrow and one name
            name = f"layers 1 to {LAYERS - 2}" if between else f"layer {i}"
            out += arrow(middle, y + 4, ARROW) + label(x, y + 17, name)
            y += ARROW + 8
        if between:
            out += row(x + PAD, y, THIN, layer, lora, ("",) * 4)
            y += THIN + (THIN / 2 if i < LAYERS - 2 else 0)
        else:
            drawn, y = whole_layer(x, y, layer, lora)
            out += drawn
    out += arrow(middle, y + 4, ARROW - 6) + box(x, y + ARROW + 2, COLUMN, BOX, state(train, "head"), "head")
    return out, y + ARROW + 2 + BOX


def legend(x: float, y: float) -> str:
    """What the two colours and the letters mean, in a line 452 long."""
    out = box(x, y, 36, 26, "on") + label(x + 46, y + 13, "trains")
    out += box(x + 138, y, 36, 26, "off") + label(x + 184, y + 13, "frozen")
    out += box(x + 280, y, 26, 26, "frame", "A") + box(x + 310, y, 26, 26, "frame", "B")
    return out + label(x + 346, y + 13, "LoRA adapter")


def network(phases: list[dict], shares: tuple[float, ...] = SHARES, theme: str = "light") -> str:
    """The picture. phases: as in an experiment file; shares: per cent of the parameters that train in each."""
    out, end, x = "", 0.0, MARGIN
    for number, (phase, share) in enumerate(zip(phases, shares, strict=True), start=1):
        drawn, end = column(x, f"phase {number}", phase, share)
        out, x = out + drawn, x + COLUMN + GUTTER
    width, height = x - GUTTER + MARGIN, end + 52 + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img">'
    style = f"<title>What trains in each phase</title><style>{STYLE.format(**THEMES[theme])}</style>"
    return f"{head}{style}{out}{legend((width - 452) / 2, end + 26)}</svg>\n"


def main() -> None:
    """Write network-light.svg and network-dark.svg, and of a run run-light.svg and run-dark.svg."""
    phases = json.loads(EXPERIMENT.read_text(encoding="utf-8"))["phases"]
    for theme, colours in THEMES.items():
        (FOLDER / f"network-{theme}.svg").write_text(network(phases, SHARES, theme), encoding="utf-8")
        if RUN.is_dir():  # legible at 400 pixels
            drawn = curves({"": [Run(read_records(RUN))]}, ["loss", "metric"], colours["ink"], (4.4, 2.2))
            (FOLDER / f"run-{theme}.svg").write_bytes(drawn)
    if not RUN.is_dir():
        print(f"{RUN}: no such run, so its chart was not drawn; `make run` trains it")


if __name__ == "__main__":
    main()
