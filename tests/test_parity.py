"""The parity matrix (tests/parity) holds, on small shapes."""

import pytest

pytest.importorskip("transformers")
pytest.importorskip("peft")

from tests.parity import adapters, exports, families


def require(rows) -> None:
    rows = list(rows)
    assert rows
    assert [row for row in rows if not row.holds] == []


def test_hidden_states_of_every_family(tmp_path):
    changes = {family: families.SMALL[family] | families.FEW_LAYERS[family] for family in families.SHAPES}
    require(families.hidden_states(tmp_path, changes, (17, 96)))


def test_tokenizers_of_every_family(tmp_path):
    require(families.tokenizers(tmp_path))


def test_adapters_that_peft_made(tmp_path):
    require(adapters.adapters(tmp_path))


def test_exports_of_two_families(tmp_path, capsys):
    """`make parity` does it for all; these are the furthest apart."""
    require(exports.exports(tmp_path, ("bert", "roberta")))


def test_a_round_trip(tmp_path, capsys):
    require(exports.round_trip(tmp_path))
