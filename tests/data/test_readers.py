"""data/readers.py: CSV, TSV and JSONL to rows. (What is wrong with files: tests/malformed/tables.py.)"""

from pathlib import Path

from data.readers import Columns, read_table


def rows(name: str, content: str, **columns) -> list[tuple]:
    return [(row.text, row.pair, row.label) for row in read_table(Path(name), content.encode(), Columns(**columns))]


def test_csv_fields_may_be_quoted_and_hold_commas_quotes_and_line_breaks():
    text = 'id,text,label\r\n1,"one, two",a\r\n2,"say ""hi""\r\nand go",b\r\n'
    assert rows("x.csv", text) == [("one, two", None, "a"), ('say "hi"\r\nand go', None, "b")]


def test_in_tsv_nothing_but_tabs_is_special():
    assert rows("x.tsv", 'text\tlabel\n"half a quote\t1\nit\'s, "so"\t0\n') == [
        ('"half a quote', None, "1"),
        ('it\'s, "so"', None, "0"),
    ]


def test_without_a_header_columns_are_numbers():
    assert rows("x.tsv", "good\t1\nbad\t0\n", text="0", label="1", header=False) == [
        ("good", None, "1"),
        ("bad", None, "0"),
    ]


def test_a_json_object_a_line_with_labels_of_any_kind():
    text = '{"a": "x", "b": "y", "label": ["p", "q"]}\n\n{"label": 3, "a": "z", "b": "w", "more": null}\n'
    assert rows("x.jsonl", text, text="a", pair="b") == [("x", "y", ["p", "q"]), ("z", "w", 3)]


def test_rows_know_the_line_where_they_begin():
    found = read_table(Path("x.csv"), b'text,label\n"a\nb",1\n\nc,2\n', Columns())
    assert [row.where for row in found] == ["x.csv line 2", "x.csv line 5"]


def test_a_byte_order_mark_is_no_part_of_the_first_column():
    assert rows("x.csv", "\ufefftext,label\nx,1\n") == [("x", None, "1")]


def test_labels_are_not_needed_where_none_are_read():
    assert rows("x.csv", "text,other\nx,1\n", label=None) == [("x", None, None)]
