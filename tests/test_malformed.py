"""Each input of the corpus is refused in one line that names what is wrong, and nothing is written or deleted."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from tests.malformed.corpus import CASES, attempt, contents, needs_nobody, place_for, root_for_good, template


@pytest.fixture(scope="module")
def original():
    """Not below pytest's own folder, which it keeps to itself: some cases are tried as nobody."""
    with tempfile.TemporaryDirectory() as folder:
        yield template(Path(folder))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.category}: {case.name}"[:80])
def test_a_malformed_input_is_refused_in_one_line(case, original):
    if needs_nobody(case) and root_for_good():
        pytest.skip("root may read everything here")
    place = original.with_name("place")
    shutil.rmtree(place, ignore_errors=True)
    place_for(case, original, place)
    before = contents(place)
    code, out, errors = attempt(case, place)
    assert code == 2 and out == "", errors
    (line,) = errors.splitlines()
    assert line.startswith(("train.py: ", "eval.py: ", "eval.py score: ", "eval.py ask: ", "eval.py summary: "))
    assert len(line) < 1100
    assert case.answer in line
    assert contents(place) == before


def test_the_corpus_is_as_large_as_it_says():
    assert len(CASES) >= 300 and len(Counter(case.category for case in CASES)) >= 10
