"""Charts: what is drawn of runs and of settings, on the page, in the PNG and in the README's pictures."""

import io
import re
import sys

import numpy as np
import pytest

import eval as eval_py
from experiments.records import read_records
from experiments.report.charts import COLOURS, curves, for_page, look_of, mean_of
from experiments.report.page import BEGINNING
from experiments.report.run import Run
from tests.experiments.report.made import SPEC, records, training, write

pytest.importorskip("matplotlib")


def made(folder, score: float = 40.0, **spec) -> str:
    """The folder of a run with another score at its best evaluation and other settings."""
    given = records()
    given[0]["spec"] = SPEC | {"name": folder.name} | spec
    given[8]["metrics"]["f1"] = score
    return str(write(folder, given))


def pixels(png: bytes) -> np.ndarray:
    """The colours of a PNG's pixels, from 0 to 255 [height, width, 3]. All of them are opaque."""
    import matplotlib.image

    found = np.rint(255 * matplotlib.image.imread(io.BytesIO(png), format="png")).astype(int)
    assert (found[..., 3:] == 255).all()
    return found[..., :3]


def rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def four_runs(tmp_path) -> list[str]:
    """Two settings, two seeds each; the second setting is the better one."""
    return [
        made(tmp_path / f"folder-{lr}-{seed}", 40.0 + 10 * lr, seed=seed, optim={"lr": lr})
        for lr in (1, 2)
        for seed in (0, 1)
    ]


# ---- settings and their seeds ----------------------------------------------------------------------------------------


def test_seeds_have_the_colour_of_their_setting_and_their_mean_is_the_strong_line(tmp_path):
    runs = [Run(read_records(tmp_path / folder)) for folder in four_runs(tmp_path)]
    svg = for_page({"a": runs[:2], "b": runs[2:]})
    for k in range(2):
        styles = {
            who: re.search(rf'id="loss-set{k}-{who}-0">.*?stroke: (#\w+).*?stroke-width: ([\d.]+)', svg, re.DOTALL)
            for who in ("run0", "run1", "mean")
        }
        assert {found[1] for found in styles.values()} == {COLOURS[k]}
        assert float(styles["mean"][2]) > 2 * float(styles["run0"][2]) == 2 * float(styles["run1"][2])


def test_a_single_run_is_a_strong_line_without_a_mean(tmp_path):
    made(tmp_path / "r")
    svg = for_page({"": [Run(read_records(tmp_path / "r"))]})
    assert "-set0-run0-" in svg and "-mean-" not in svg


def test_a_mean_goes_as_far_as_all_runs_went_and_knows_the_points_between():
    long = [("training", np.array([1.0, 2.0, 4.0]), np.array([10.0, 20.0, 40.0])), ("best", [4.0], [40.0])]
    short = [("training", np.array([1.0, 3.0]), np.array([0.0, 0.0])), ("best", [3.0], [0.0])]
    ((label, epochs, values),) = mean_of([long, short])
    assert (label, list(epochs), list(values)) == ("training", [1.0, 3.0], [5.0, 15.0])


def test_curves_that_coincide_are_all_seen(tmp_path):
    """Eight settings with the same learning rates: some of each colour shows."""
    given = [records()[0], *training([1.0] * 200, lr={"head": 1e-3})]
    run = Run(read_records(write(tmp_path / "r", given)))
    png = curves({str(k): [run] for k in range(len(COLOURS))}, ["lr"], "#000000", (8, 8), "png")
    plot = pixels(png)[300:]  # below the legend
    for colour in COLOURS:
        assert (plot == rgb(colour)).all(-1).sum() > 20, colour


def test_sixty_four_settings_differ_in_colour_or_marker():
    assert len({(look["color"], look["marker"]) for look in map(look_of, range(64))}) == 64


def test_colours_can_be_read_on_the_light_page_and_on_the_dark_one():
    def luminance(colour: str) -> float:  # as WCAG 2 defines it
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb(colour)) / 255]
        return float(np.dot(parts, (0.2126, 0.7152, 0.0722)))

    for paper in ("#ffffff", "#16181b"):
        for colour in COLOURS:
            darker, lighter = sorted((luminance(paper), luminance(colour)))
            assert (lighter + 0.05) / (darker + 0.05) >= 3, (paper, colour)


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_in_itself_and_all_that_is_drawn_can_be_hidden(tmp_path, capsys):
    folders = [*four_runs(tmp_path), made(tmp_path / "b<script>", 99.0, optim={"lr": 3})]
    for runs, page in ((folders, tmp_path / "five.html"), (folders[:1], tmp_path / "one.html")):
        assert eval_py.main(["summary", *runs, "--html", str(page)]) == 0
        text = page.read_text()
        assert text.count("<svg") == text.count("</svg>") > 0
        assert not re.search(r'(src|href)="(?!#)|@import|url\((?!#)', text), "something would be fetched"
        assert "b<script>" not in text and text.count("<script>") == 1
        assert "currentColor" in text and "prefers-color-scheme: dark" in text
        assert text.count("<table") == text.count('<div class="wide"><table')  # what is too wide scrolls by itself
        boxes, ids = re.findall(r'data-part="([^"]+)"', text), re.findall(r'\bid="([^"]+-set[^"]+)"', text)
        assert all(any(box in each for each in ids) for box in boxes)
        assert not boxes or all(any(box in each for box in boxes) for each in ids)
        # The mean goes with its setting; a setting of one run has one box.
        expected = ["-set0-", *(f"-set{k}{end}" for k in (1, 2) for end in ("-", "-run0-", "-run1-"))]
        assert boxes == (expected if len(runs) > 1 else [])
    capsys.readouterr()


def test_boxes_are_called_as_rows_are_and_a_run_that_counts_in_none_has_its_own(tmp_path, capsys):
    folders, page = four_runs(tmp_path), tmp_path / "page.html"
    given = records()[:-1]
    given[0]["spec"] = SPEC | {"name": "going", "seed": 2, "optim": {"lr": 1}}
    folders.append(str(write(tmp_path / "going", given)))
    assert eval_py.main(["summary", *folders, "--html", str(page)]) == 0
    boxes = re.findall(r"<b>(.*?)</b>", page.read_text())
    assert boxes == ["1 lr 2", "2 lr 1", f"not counted: {folders[-1]}"]
    capsys.readouterr()


def test_a_page_that_cannot_be_made_leaves_the_old_one(tmp_path, capsys, monkeypatch):
    page, folder = tmp_path / "page.html", made(tmp_path / "r")
    old = BEGINNING + "the old one"
    page.write_text(old)
    monkeypatch.setattr("experiments.report.page.for_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        eval_py.main(["summary", folder, "--html", str(page)])
    assert page.read_text() == old and sorted(tmp_path.iterdir()) == [page, tmp_path / "r"]


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--html", "--png"])
def test_without_matplotlib_a_line_says_what_to_install(tmp_path, capsys, monkeypatch, option):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    file = tmp_path / "file"
    assert eval_py.main(["summary", made(tmp_path / "r"), option, str(file)]) == 2
    said = capsys.readouterr()
    assert "pip install matplotlib" in said.err and len(said.err.splitlines()) == 1
    assert not said.out and not file.exists()


def a_picture() -> bytes:
    """A PNG that somebody else has drawn with matplotlib."""
    import matplotlib.figure

    out = io.BytesIO()
    matplotlib.figure.Figure().savefig(out, format="png")
    return out.getvalue()


@pytest.mark.parametrize("option", ["--html", "--png"])
@pytest.mark.parametrize("theirs", ["metrics", "picture", "empty"])
def test_nothing_but_a_file_of_ours_is_replaced(tmp_path, capsys, option, theirs):
    """Of `--html runs/a/metrics.jsonl`, nothing is left of the run."""
    folder, file = made(tmp_path / "r"), tmp_path / "file"
    records_of_it = (tmp_path / "r" / "metrics.jsonl").read_bytes()
    file.write_bytes({"metrics": records_of_it, "picture": a_picture(), "empty": b""}[theirs])
    before = file.read_bytes()
    assert eval_py.main(["summary", folder, option, str(file)]) == 2
    error = capsys.readouterr().err
    assert "is there already and is no p" in error and len(error.splitlines()) == 1
    assert file.read_bytes() == before
    for _ in range(2):
        assert eval_py.main(["summary", folder, option, str(tmp_path / "ours")]) == 0


def test_a_page_is_no_picture_and_a_picture_no_page(tmp_path, capsys):
    folder, page, picture = made(tmp_path / "r"), tmp_path / "page", tmp_path / "picture"
    assert eval_py.main(["summary", folder, "--html", str(page), "--png", str(picture)]) == 0
    assert capsys.readouterr().err == f"written: {page}\nwritten: {picture}\n"
    assert eval_py.main(["summary", folder, "--html", str(picture)]) == 2
    assert eval_py.main(["summary", folder, "--png", str(page)]) == 2


def test_the_png_is_on_white_with_each_setting_in_its_colour(tmp_path, capsys):
    picture = tmp_path / "charts.png"
    assert eval_py.main(["summary", *four_runs(tmp_path), "--png", str(picture)]) == 0
    drawn = pixels(picture.read_bytes())
    assert (drawn[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    legend = drawn[:45]  # above the first panel
    assert all((legend == rgb(colour)).all(-1).any() for colour in COLOURS[:2])
    assert not (legend == rgb(COLOURS[2])).all(-1).any()


@pytest.mark.parametrize("name", ["cost $_$ 5", "漢字😀", "x" * 9000, "_a"])
def test_names_are_drawn_letter_by_letter_and_without_complaint(tmp_path, capsys, name):
    given, page = records(), tmp_path / "page.html"
    for record in given:
        if record["kind"] == "phase":
            record["name"] = name
    assert eval_py.main(["summary", str(write(tmp_path / "r", given)), "--html", str(page)]) == 0
    assert name[:18] in page.read_text()
    assert capsys.readouterr().err == f"written: {page}\n"


def test_a_picture_has_a_legend(tmp_path):
    made(tmp_path / "r")
    svg = curves({"": [Run(read_records(tmp_path / "r"))]}, ["loss", "metric"], "#e6e6e6", (4.4, 2.2)).decode()
    assert "#e6e6e6" in svg and all(f">{word}</text>" in svg for word in ("training", "development", "best", "one"))
