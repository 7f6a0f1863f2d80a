"""Damaged records, a few hundred of them. `python -m tests.mutated_records 2000` is the long version."""

from tests.mutated_records import attempts


def test_no_metrics_file_however_damaged_breaks_a_report_or_acts_on_a_terminal(tmp_path):
    wrong = [f"mutation {number}, {' '.join(arguments)}\n{what}" for number, arguments, what in attempts(300, tmp_path)]
    assert not wrong, f"{len(wrong)} answers wrong, the first:\n{wrong[0]}"
