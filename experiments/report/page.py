"""A report as one HTML page: self-contained, light and dark, tables first, then charts (charts.py)."""

import html

from data.files import one_line
from experiments.report.charts import COLOURS, for_page
from experiments.report.render import Block
from experiments.report.run import Run

# By its first bytes a page is known again, so that only a page is ever replaced by one.
BEGINNING = '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="generator" content="eval.py">'
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --line: #d9d9d9; --best: #e8f4ea }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181b; --line: #3a3d42; --best: #1d3324 } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       padding: 1rem; max-width: 1100px }
h1 { font-size: 1.35rem } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem } .wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
tr.best td { background: var(--best) } td.leads { font-weight: 700 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem } dd { margin: 0 }
svg { min-width: 560px; width: 100%; height: auto; display: block }
fieldset { border: 1px solid var(--line); position: sticky; top: 0; background: var(--paper) }
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
    title = html.escape(blocks[0].title if len(runs) == 1 else f"{len(runs)} runs")
    parts = [block_html(block, "h2" if i else "h1") for i, block in enumerate(blocks)]
    if len(runs) > 1:
        parts.append("<fieldset><legend>Runs</legend>")
        for i, run in enumerate(runs):
            swatch = f'<span class="swatch" style="background:{COLOURS[i % len(COLOURS)]}"></span>'
            name = html.escape(one_line(run.spec["name"]))
            parts.append(f'<label><input type="checkbox" checked data-run="{i}"> {swatch} {name}</label>')
        parts.append("</fieldset>")
    parts.append(f'<div class="wide">{for_page(runs)}</div>')
    return (
        f"{BEGINNING}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>"
        f"{''.join(parts)}<script>{SCRIPT}</script></body></html>\n"
    )


def block_html(block: Block, heading: str) -> str:
    """A block as a heading, a table and a list of its lines."""
    out = [f"<{heading}>{html.escape(block.title)}</{heading}>"]
    if block.rows:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in block.columns)
        out.append(f'<div class="wide"><table><tr>{head}</tr>')
        for i, row in enumerate(block.rows):
            leads = {column: " class=leads" if (i, column) in block.leads else "" for column in block.columns}
            cells = [f"<td{leads[column]}>{html.escape(row.get(column, '-'))}</td>" for column in block.columns]
            out.append(f"<tr{' class=best' if i == block.best else ''}>{''.join(cells)}</tr>")
        out.append("</table></div>")
    if block.lines:
        items = [f"<dt>{html.escape(label)}</dt><dd>{html.escape(text)}</dd>" for label, text in block.lines]
        out.append(f"<dl>{''.join(items)}</dl>")
    return "".join(out)
