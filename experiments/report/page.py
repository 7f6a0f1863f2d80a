"""A report as one HTML page: self-contained, light and dark, charts by experiments/report/charts.py."""

import html

from data.files import one_line
from experiments.report.blocks import Block
from experiments.report.charts import CHARTS, COLOURS, chart
from experiments.report.run import Run

STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --soft: #6a6a6a; --line: #d9d9d9; --best: #e8f4ea }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --paper: #16181b; --soft: #a0a0a0; --line: #3a3d42; --best: #1d3324 }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       padding: 1rem; max-width: 1100px }
h1 { font-size: 1.35rem } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th { color: var(--soft); font-weight: 600 } tr.best td { background: var(--best) } td.leads { font-weight: 700 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; margin: .4rem 0 }
dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
.note, summary { color: var(--soft); font-size: .82rem; max-width: 75ch }
svg { min-width: 560px; width: 100%; height: auto; display: block }
fieldset { margin: 1.4rem 0; border: 1px solid var(--line); border-radius: .4rem; position: sticky; top: 0;
           background: var(--paper) }
label { margin-right: 1rem; white-space: nowrap } .swatch { display: inline-block; width: .8em; height: .8em }
"""
# A box hides and shows everything that is drawn of its run.
SCRIPT = """
for (const box of document.querySelectorAll("input[data-run]"))
  box.addEventListener("change", () => {
    for (const part of document.querySelectorAll(`[id*="-run${box.dataset.run}-"]`))
      part.style.display = box.checked ? "" : "none";
  });
"""


def as_page(blocks: list[Block], runs: list[Run]) -> str:
    """The whole page. runs: what is drawn of each run."""
    title = blocks[0].title if len(runs) == 1 else f"{len(runs)} runs"
    parts = [f"<h1>{html.escape(title)}</h1>"]
    parts += [block_html(block, heading=i > 0 or len(runs) > 1) for i, block in enumerate(blocks)]
    if len(runs) > 1:
        boxes = [legend_box(i, one_line(run.spec["name"])) for i, run in enumerate(runs)]
        parts.append(f"<fieldset><legend>Runs</legend>{''.join(boxes)}</fieldset>")
    for name, caption in CHARTS.items():
        svg = chart(name, runs)
        if svg:
            parts.append(f'<h2>{html.escape(caption)}</h2><div class="wide">{svg}</div>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"{''.join(parts)}<script>{SCRIPT}</script></body></html>\n"
    )


def legend_box(i: int, name: str) -> str:
    swatch = f'<span class="swatch" style="background:{COLOURS[i % len(COLOURS)]}"></span>'
    return f'<label><input type="checkbox" checked data-run="{i}"> {swatch} {html.escape(name)}</label>'


def block_html(block: Block, heading: bool) -> str:
    out = [f"<h2>{html.escape(block.title)}</h2>"] if heading else []
    if block.rows:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in block.columns)
        rows = []
        for i, row in enumerate(block.rows):
            cells = "".join(cell(row.get(column, "-"), (i, column) in block.leads) for column in block.columns)
            rows.append(f"<tr{' class=best' if i == block.best else ''}>{cells}</tr>")
        out.append(f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>')
    if block.lines:
        out.append(f"<dl>{pairs(block.lines)}</dl>")
    if block.notes:
        out.append(f'<details><summary>Meaning</summary><dl class="note">{pairs(block.notes)}</dl></details>')
    return "".join(out)


def pairs(found: list[tuple[str, str]]) -> str:
    return "".join(f"<dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd>" for label, text in found)


def cell(text: str, leads: bool) -> str:
    return f"<td{' class=leads' if leads else ''}>{html.escape(text)}</td>"
