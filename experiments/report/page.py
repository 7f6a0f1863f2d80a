"""A report as one HTML page: self-contained, light and dark, tables first, then charts (charts.py)."""

import html
import re

from data.files import one_line
from experiments.repetitions import REPEATED, flat
from experiments.report.charts import MARKERS, Settings, for_page, look_of
from experiments.report.render import Block
from experiments.report.run import Run
from experiments.terminal import fitting

# By its first bytes a page is known again, so that only a page is ever replaced by one.
BEGINNING = '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="generator" content="eval.py">'
PAGE = re.compile(re.escape(BEGINNING.encode()))
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --line: #d9d9d9; --best: #e8f4ea }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181b; --line: #3a3d42; --best: #1d3324 } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       padding: 1rem; max-width: 1100px }
h1 { font-size: 1.35rem } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem } .wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem; margin-bottom: .8rem }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
tr.best td { background: var(--best) } td.leads { font-weight: 700 }
dl { display: grid; grid-template-columns: fit-content(30%) 1fr; gap: .15rem .9rem } dd { margin: 0 }
dt:empty { display: none } dt:empty + dd { grid-column: 1 / -1 }
.charts { display: flex; flex-wrap: wrap; gap: 1rem } svg { width: 100%; max-width: 460px; height: auto }
fieldset { border: 1px solid var(--line); position: sticky; top: 0; max-height: 25vh; overflow: auto;
           background: var(--paper) } label { margin-right: 1rem; display: inline-block }
"""
# A part of a chart is hidden while a box is empty whose name is in its id.
SCRIPT = """
const boxes = [...document.querySelectorAll("input[data-part]")];
const draw = () => {
  const hidden = boxes.filter(box => !box.checked).map(box => box.dataset.part);
  for (const part of document.querySelectorAll('[id*="-set"]'))
    part.style.display = hidden.some(name => part.id.includes(name)) ? "none" : "";
};
boxes.forEach(box => box.addEventListener("change", draw)); draw();
"""


def as_page(blocks: list[Block], settings: Settings) -> str:
    """The whole page. settings: what is drawn, see charts.py."""
    count = sum(map(len, settings.values()))
    title = html.escape(blocks[0].title if count == 1 else f"{count} runs")
    parts = [block_html(block, "h2" if i else "h1") for i, block in enumerate(blocks)]
    if count > 1:
        boxes = "".join(boxes_of(k, label, runs) for k, (label, runs) in enumerate(settings.items()))
        parts.append(f"<fieldset><legend>Shown</legend>{boxes}</fieldset>")
    parts.append(f'<div class="charts">{for_page(settings)}</div>')
    head = f'{BEGINNING}<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>'
    return f"{head}<style>{STYLE}</style></head><body>{''.join(parts)}<script>{SCRIPT}</script></body></html>\n"


def boxes_of(k: int, label: str, runs: list[Run]) -> str:
    """A box for setting number k, and where it has several runs, one for each, called by its seed and fold."""
    look, label = look_of(k), html.escape(one_line(label))
    boxes = {f"-set{k}-": f'<span style="color:{look["color"]}">{MARKERS[look["marker"]]}</span> <b>{label}</b>'}
    for i, run in enumerate(runs if len(runs) > 1 else []):
        told = [(key.split(".")[-1], value) for key, value in flat(run.spec).items() if REPEATED.fullmatch(key)]
        name = ", ".join(f"{key} {value}" for key, value in told if value is not None)
        boxes[f"-set{k}-run{i}-"] = html.escape(one_line(name))
    made = [f'<label><input type="checkbox" checked data-part="{part}"> {text}</label>' for part, text in boxes.items()]
    return f"<div>{''.join(made)}</div>"


def block_html(block: Block, heading: str) -> str:
    """A block as a heading, a table and a list of its lines."""
    out = [f"<{heading}>{html.escape(block.title)}</{heading}>"]
    for columns in fitting(block.rows, block.columns, leads=block.leads) if block.rows else []:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        out.append(f'<div class="wide"><table><tr>{head}</tr>')
        for i, row in enumerate(block.rows):
            leads = {column: " class=leads" if (i, column) in block.leads else "" for column in columns}
            cells = [f"<td{leads[column]}>{html.escape(row.get(column, '-'))}</td>" for column in columns]
            out.append(f"<tr{' class=best' if i == block.best else ''}>{''.join(cells)}</tr>")
        out.append("</table></div>")
    if block.lines:
        items = [f"<dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd>" for label, text in block.lines]
        out.append(f"<dl>{''.join(items)}</dl>")
    return "".join(out)
