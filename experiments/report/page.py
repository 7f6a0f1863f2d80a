"""A report as one HTML page: self-contained, light and dark, its text as on a terminal, then charts (charts.py)."""

import html

from data.files import one_line
from experiments.report.charts import COLOURS, for_page
from experiments.report.render import Block, terminal
from experiments.report.run import Run

WIDTH = 140  # of the text, in letters
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1b; --paper: #ffffff; --line: #d9d9d9 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e6e6; --paper: #16181b; --line: #3a3d42 } }
body { font: 15px/1.45 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       padding: 1rem; max-width: 1100px }
pre { font-size: .8rem } pre, .wide { overflow-x: auto }
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
    parts = [f"<pre>{html.escape(terminal(blocks, width=WIDTH))}</pre>"]
    if len(runs) > 1:
        parts.append("<fieldset><legend>Runs</legend>")
        for i, run in enumerate(runs):
            swatch = f'<span class="swatch" style="background:{COLOURS[i % len(COLOURS)]}"></span>'
            name = html.escape(one_line(run.spec["name"]))
            parts.append(f'<label><input type="checkbox" checked data-run="{i}"> {swatch} {name}</label>')
        parts.append("</fieldset>")
    parts.append(f'<div class="wide">{for_page(runs)}</div>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head><body>"
        f"{''.join(parts)}<script>{SCRIPT}</script></body></html>\n"
    )
