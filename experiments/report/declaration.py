"""Declaration of a figure: its name, its meaning, its computation and its text, each said once.

figures.py assembles all declarations. `--json`, the documentation of the JSON, the terminal's text, Markdown and the
page are made from them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One figure of a report.

    name: its place in the JSON, with dots. "events[]" is a list, and "lr.<part>" an object whose names depend on the
        run.
    meaning: one line of the documentation; with `note` it is also told under the figures of a report.
    compute: its value, given what the figure is about: a run, an evaluation, an epoch, a row of runs. None: that is a
        dict, and the value is in it under the figure's name.
    text: a template for the value, or a function of (value, report), where the report holds all values. Such a function
        returns one text, a list (a line each) or a dict ({column or label: text}). None: the JSON alone has the figure.
    label: its column in a table, or its line elsewhere; figures with the same label share a line.
    parts: figures of which this one consists. `compute` then gives what they are about: a list for "rows[]", a dict for
        "lr.<part>", else one thing, or None.
    """

    name: str
    meaning: str
    compute: Callable[[Any], Any] | None = None
    text: str | Callable[[Any, dict], str | list[str] | dict[str, str]] | None = None
    label: str | None = None
    note: bool = False
    parts: tuple["Figure", ...] = ()

    @property
    def path(self) -> list[str]:
        """The keys that lead to the value: "throughput.stalled" -> ["throughput", "stalled"]"""
        return self.name.partition(".<")[0].removesuffix("[]").split(".")

    @property
    def heading(self) -> str:
        """The label, or the last part of the name."""
        return self.path[-1].replace("_", " ") if self.label is None else self.label

    def value(self, subject) -> Any:
        """The figure as plain JSON values."""
        found = self.compute(subject) if self.compute else look_up(subject, self.path)
        if not self.parts or found is None:
            return found
        if self.name.endswith("[]"):
            return [values(self.parts, each) for each in found]
        if self.name.endswith(">"):
            return {key: values(self.parts, each) for key, each in found.items()}
        return values(self.parts, found)

    def write(self, value, report: dict) -> str | list[str] | dict[str, str]:
        """The value as text. Only of a figure that has one."""
        if callable(self.text):
            return self.text(value, report)
        return (self.text or "").format(value)


@dataclass(frozen=True)
class Section:
    """Figures that are shown together: a table for those that are rows, and lines for the others."""

    title: str
    figures: tuple[Figure, ...]


def values(figures: tuple[Figure, ...], subject) -> dict:
    """All figures of one subject, nested by their names."""
    found: dict = {}
    for figure in figures:
        *groups, last = figure.path
        place = found
        for key in groups:
            place = place.setdefault(key, {})
        place[last] = figure.value(subject)
    return found


def look_up(found: dict | None, path: str | list[str]):
    """The value at a dotted path, or at its keys; None where there is none."""
    for key in path.split(".") if isinstance(path, str) else path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def names(figures: tuple[Figure, ...], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(full name, meaning) of all figures and their parts."""
    for figure in figures:
        yield prefix + figure.name, figure.meaning
        yield from names(figure.parts, f"{prefix}{figure.name}.")


# ---- texts that several figures share --------------------------------------------------------------------------------


def unless_zero(template: str) -> Callable:
    """A text that is left out where the value is zero."""
    return lambda value, _: template.format(value) if value else ""


def with_spread(template: str) -> Callable:
    """The text of a {"mean", "sd", "n"}: "0.12 ± 0.03" """

    def write(value: dict, _) -> str:
        sd = "" if value["sd"] is None else f" ± {template.format(value['sd'])}"
        return template.format(value["mean"]) + sd

    return write
