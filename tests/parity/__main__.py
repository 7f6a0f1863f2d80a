"""Print the parity matrix as Markdown. The encoders are of the published shapes, everything else is small."""

import contextlib
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import peft
import torch
import transformers

from tests.parity import Row
from tests.parity.adapters import adapters
from tests.parity.exports import exports, round_trip
from tests.parity.families import hidden_states, tokenizers


def difference(row: Row) -> str:
    if not row.limit:
        return f"{row.difference:.0f} differ"
    return f"{row.difference:.1e}" if row.difference else "0"


def table(rows: Iterable[Row]) -> str:
    lines = ["| family | direction | compared | largest difference |", "|---|---|---|---|"]
    lines += [f"| {row.family} | {row.direction} | {row.compared} | {difference(row)} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(sys.stderr):
        folder = Path(name)
        rows = [*hidden_states(folder, {}, (17, 512)), *tokenizers(folder), *adapters(folder)]
        for number, part in enumerate((exports, round_trip)):
            (folder / f"part{number}").mkdir()
            rows += part(folder / f"part{number}")
    print(table(rows))
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
    print(f"\nMade by `make parity` with {versions}.")
    failed = [row for row in rows if not row.holds]
    print(*failed, sep="\n", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
