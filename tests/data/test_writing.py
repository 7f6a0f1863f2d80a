import os
import stat

import pytest

from data.files import InputError
from data.writing import is_aside, plain_folder, recover, surviving, write_json, write_text, write_whole

OLD, NEW = ".last.0123456789abcdef.old", ".last.0123456789abcdef.new"


def content(folder) -> str:
    return (folder / "a").read_text()


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "last"
    write_whole(target, lambda folder: (folder / "a").write_text("one"))
    write_whole(target, lambda folder: (folder / "a").write_text("two"))
    assert content(target) == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_writer_that_fails_leaves_the_previous_folder(tmp_path):
    target = tmp_path / "last"
    write_whole(target, lambda folder: (folder / "a").write_text("one"))

    def fail(folder):
        (folder / "a").write_text("tw")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(target, fail)
    assert content(target) == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_death_between_the_two_renames_leaves_the_previous_folder(tmp_path):
    target = tmp_path / "last"
    write_whole(target, lambda folder: (folder / "a").write_text("one"))
    target.rename(tmp_path / OLD)
    recover(target)
    assert content(target) == "one"
    target.rename(tmp_path / OLD)
    write_whole(target, lambda folder: (folder / "a").write_text("two"))
    assert content(target) == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_complete_folder_is_not_replaced_by_an_older_one(tmp_path):
    target = tmp_path / "last"
    write_whole(target, lambda folder: (folder / "a").write_text("two"))
    (tmp_path / OLD).mkdir()
    recover(target)
    assert content(target) == "two"


def test_somebodys_folder_beside_the_target_is_left_alone(tmp_path):
    """Before the names were random, `.last.new` and `.last.old` were removed whoever had made them."""
    names = [".last.old", ".last.new", ".last.old.0123456789abcdef", ".last.0123456789ABCDEF.old", ".other" + OLD[5:]]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis.tex").write_text("years of work")
    target = tmp_path / "last"
    for text in ("one", "two"):
        write_whole(target, lambda folder, text=text: (folder / "a").write_text(text))
    recover(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "last"])
    assert all((tmp_path / name / "thesis.tex").exists() for name in names)


def test_what_a_process_that_died_has_left_goes_with_the_next_write(tmp_path):
    target = tmp_path / "last"
    for name in (OLD, NEW):
        assert is_aside(name)
        (tmp_path / name).mkdir()
    assert surviving(target) == tmp_path / OLD
    write_whole(target, lambda folder: (folder / "a").write_text("two"))
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_a_link_with_the_name_of_a_leftover_is_not_followed(tmp_path):
    (tmp_path / "behind").mkdir()
    (tmp_path / "behind" / "thesis.tex").write_text("years of work")
    (tmp_path / OLD).symlink_to(tmp_path / "behind")
    target = tmp_path / "last"
    assert surviving(target) is None
    recover(target)
    write_whole(target, lambda folder: (folder / "a").write_text("one"))
    assert (tmp_path / "behind" / "thesis.tex").exists()


def test_a_file_is_never_written_through_a_link(tmp_path):
    behind = tmp_path / "behind.txt"
    behind.write_text("years of work")
    for name, target in (("page.html", behind), ("null", "/dev/null"), ("nothing", tmp_path / "not there")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(InputError, match="is a link, and a plain file is to be written there"):
            write_text(tmp_path / name, "<html>")
    assert behind.read_text() == "years of work"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a pipe"):
        write_text(tmp_path / "pipe", "<html>")  # and does not wait for a reader
    with pytest.raises(InputError, match="is a folder"):
        write_text(tmp_path, "<html>")


def test_folders_below_the_one_that_was_named_are_not_followed_elsewhere(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").mkdir()
    assert plain_folder(tmp_path / "run", "predictions", "dev.json").is_dir()
    (tmp_path / "run" / "other").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link, and a plain folder"):
        plain_folder(tmp_path / "run", "other", "dev.json")


def test_a_file_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path):
    page = tmp_path / "page.json"
    write_json(page, {"a": 1})
    with pytest.raises(ValueError):
        write_json(page, {"a": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(page, "half of a character: \ud800")
    assert page.read_text() == '{\n  "a": 1\n}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["page.json"]


def test_files_have_the_mode_that_the_person_wants(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
