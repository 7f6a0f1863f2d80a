"""Print what the corpus gets for an answer: `python -m tests.malformed [--all]`."""

import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.malformed.corpus import CASES, attempt, place_for, template


def main() -> None:
    counts, examples = Counter(), {}
    with tempfile.TemporaryDirectory() as folder:
        original = template(Path(folder))
        for number, case in enumerate(CASES):
            place = place_for(case, original, Path(folder) / str(number))
            code, _, errors = attempt(case, place)
            counts[case.category, code] += 1
            examples.setdefault(case.category, errors.strip())
            if "--all" in sys.argv:
                print(f"{case.category} | {case.name} | {code} | {errors.strip()[:300]}")
    print("| category | inputs | exit codes | for example |\n|---|---|---|---|")
    for category, example in examples.items():
        codes = {code: count for (name, code), count in counts.items() if name == category}
        print(f"| {category} | {sum(codes.values())} | {codes} | `{example[:110]}` |")
    print(f"| all | {sum(counts.values())} | | |")


if __name__ == "__main__":
    main()
