"""Strict JSON -> frozen dataclasses: unknown keys, wrong types and out-of-range values are errors that name the key.

The dataclasses say everything (type, default, range, choices, meaning) where a field is declared; see `setting`.
"""

import dataclasses
import difflib
import json
import math
import re
import types
import typing

from data.files import InputError, parse_json, require_utf8, shown

REQUIRED = dataclasses.MISSING  # the default of a setting that has none


def setting(default, help: str, low=None, high=None, above=None, choices=None):
    """A dataclass field with its documentation and its range.

    low, high: inclusive bounds; above: exclusive lower bound; for containers they hold for each element.
    """
    checks = {"help": help, "low": low, "high": high, "above": above, "choices": choices}
    if default is dataclasses.MISSING or not callable(default):
        return dataclasses.field(default=default, metadata=checks)
    return dataclasses.field(default_factory=default, metadata=checks)


# ---- overrides -------------------------------------------------------------------------------------------------------


def override(raw: dict, assignment: str) -> None:
    """Apply one `--set key.path=value` to a raw object, in place. The value is JSON, or else a plain string.

    "optim.lr=3e-4", "phases.1.epochs=2" (list items by number), "lora=null", "name=try2".
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise InputError(f"--set {assignment}: expected key=value, for example --set optim.lr=3e-4")
    require_utf8(assignment, f"--set {assignment}")
    try:
        value = parse_json(text)
    except ValueError as error:
        if text[:1] in ("[", "{"):
            kept = """to keep its quotes from the shell, put all of it in single ones: 'data.train=["a.json"]'"""
            raise InputError(f"--set {assignment}: cannot be read as JSON: {error}; {kept}") from None
        value = text
    *parents, last = path.split(".")
    node: typing.Any = raw
    for part in parents:
        key = _key(node, part, assignment)
        if isinstance(node, dict) and node.get(key) is None:
            node[key] = {}
        node = node[key]
    node[_key(node, last, assignment)] = value


def _key(node: object, part: str, assignment: str) -> typing.Any:
    """The key under which an object, or the position at which a list, has a part of a path."""
    if isinstance(node, dict):
        return part
    if not isinstance(node, list):
        raise InputError(f"--set {assignment}: {shown(node)} has no field {shown(part)}")
    if part not in map(str, range(len(node))):
        by_number = f"is not a position from 0 to {len(node) - 1}; items of a list go by number: phases.0.epochs"
        raise InputError(f"--set {assignment}: {shown(part)} {by_number}")
    return int(part)


# ---- raw object to dataclass -----------------------------------------------------------------------------------------


def build(cls: type, raw: object, path: str = ""):
    """A dataclass from a raw JSON value. path: the dotted key of `raw`, for the messages. Raises InputError."""
    fields, hints = {field.name: field for field in dataclasses.fields(cls)}, typing.get_type_hints(cls)
    if not isinstance(raw, dict):
        first = next(iter(fields))
        told = f"write {json.dumps({first: raw})}" if type(raw) is hints[first] else f"its keys: {', '.join(fields)}"
        raise InputError(f"{path or 'the experiment'}: expected an object, found {shown(raw)}; {told}")
    for key in raw:
        if key not in fields:
            near = settings_called(cls, key) or difflib.get_close_matches(key, fields, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(fields)}"
            raise InputError(f"{_join(path, key)}: unknown key; {hint}")
    values = {}
    for name, field in fields.items():
        if name in raw:
            values[name] = _convert(hints[name], raw[name], _join(path, name), field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{_join(path, name)}: is required{_meaning(field.metadata)}")
    return cls(**values)


def settings_called(cls: type, key: str) -> list[str]:
    """The settings that a key may mean which the class has not, the nearest first: lr -> optim.lr, epochs ->
    phases.0.epochs, model -> model.pretrained, warmup -> phases.0.warmup_ratio; learning_rate -> optim.lr, by what that
    means."""
    rows = [(re.sub(r"^tasks\.NAME\.(?!weight)", "", name), *more) for name, *more in reference(cls)]
    meanings = {name.replace(".N.", ".0."): meaning for name, default, meaning in rows if default}  # a group has none
    names = sorted(meanings, key=lambda name: name.count("."))
    return [name for name in names if f".{key}." in f".{name}." or f".{key}_" in f".{name}"] or [
        name for name in names if "_" in key and key.replace("_", " ") in meanings[name]
    ]


def _meaning(checks: typing.Mapping) -> str:
    return f" ({checks['help']})" if "help" in checks else ""


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _convert(kind: typing.Any, value: typing.Any, path: str, checks: typing.Mapping):
    """`value` as type `kind`, or InputError. Handles the types that the spec uses, and no others."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is types.UnionType:
        options = [option for option in arguments if option is not types.NoneType]
        if value is None and len(options) < len(arguments):
            return None
        return _convert(options[0] if len(options) == 1 else _chosen(options, value, path), value, path, checks)
    if origin is tuple:
        if isinstance(value, str) and arguments[0] is str:
            value = [value]  # "data.train": "train.json", a list of one text
        if not isinstance(value, list):
            hint = f"; write {json.dumps([value])}" if isinstance(value, str | dict) else ""
            raise InputError(f"{path}: expected a list, found {shown(value)}{hint}")
        return tuple(_convert(arguments[0], item, f"{path}.{i}", checks) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{path}: expected an object, found {shown(value)}{_meaning(checks)}")
        return {key: _convert(arguments[1], item, _join(path, key), checks) for key, item in value.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return build(kind, value, path)
    return value if kind is typing.Any else _scalar(kind, value, path, checks)


def _chosen(options: list[type], value, path: str) -> type:
    """The option whose first field has the value that the object gives it."""
    tag = dataclasses.fields(options[0])[0].name
    by_tag = {str(dataclasses.fields(option)[0].default): option for option in options}
    if not isinstance(value, dict):
        return options[0]  # `build` says what is wrong with it
    if tag not in value:
        raise InputError(f"{_join(path, tag)}: is required; one of {', '.join(by_tag)}")
    if not isinstance(value[tag], str) or value[tag] not in by_tag:
        raise InputError(f"{_join(path, tag)}: {shown(value[tag])} is not one of {', '.join(by_tag)}")
    return by_tag[value[tag]]


TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "an object"}
SMALLEST = 1e-30
LARGEST = {bool: 1, int: 2**53, float: 1e30}  # beyond 2^53, JSON readers disagree about which whole number was meant


def _scalar(kind: type, value: typing.Any, path: str, checks: typing.Mapping) -> typing.Any:
    low, high, above, choices = (checks.get(key) for key in ("low", "high", "above", "choices"))
    if choices is not None and value not in choices:
        raise InputError(f"{path}: {shown(value)} is not one of {', '.join(choices)}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 1e300 else math.inf
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{path}: expected {TYPE_NAMES[kind]}, found {shown(value)}")
    if isinstance(value, int | float) and value and not SMALLEST < abs(value) <= LARGEST[kind]:
        raise InputError(f"{path}: {shown(value)} is out of range")
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    ):
        raise InputError(f"{path}: {shown(value)} is out of range ({describe_range(checks)})")
    return value


# ---- dataclass to reference text -------------------------------------------------------------------------------------


def describe_range(checks: typing.Mapping) -> str:
    """ "0 to 1", "above 0", "at least 1", "a | b | c", or ""."""
    low, high, above, choices = (checks.get(key) for key in ("low", "high", "above", "choices"))
    if choices is not None:
        return " | ".join(choices)
    lower = f"above {above:,}" if above is not None else f"at least {low:,}" if low is not None else ""
    if low is not None and high is not None:
        return f"{low:,} to {high:,}"
    return ", ".join(part for part in (lower, f"at most {high:,}" if high is not None else "") if part)


def reference(cls: type, path: str = "") -> typing.Iterator[tuple[str, str, str]]:
    """(key, default and range, meaning) of each setting, depth first; of the kinds of a task, one after the other."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind, key = hints[field.name], _join(path, field.name)
        inner = [each for each in _flat(kind) if isinstance(each, type) and dataclasses.is_dataclass(each)]
        if inner:
            yield key, "", field.metadata.get("help", "")
            part = {tuple: ".N", dict: ".NAME"}.get(typing.get_origin(kind), "")
            for option in inner:
                yield from reference(option, key + part)
            continue
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        text = "required" if default is dataclasses.MISSING else json.dumps(default)
        allowed = describe_range(field.metadata)
        yield key, f"{text}  ({allowed})" if allowed else text, field.metadata.get("help", "")


def print_reference(cls: type) -> None:
    """Print every setting, a line each."""
    rows = list(reference(cls))
    width = max(len(key) for key, _, _ in rows)
    for key, default, meaning in rows:
        print(f"{key:{width}} {default:44} {meaning}" if default else f"\n{key:{width}} {meaning}")


def _flat(kind) -> list:
    """A type and all types inside it: tuple[A | B, ...] -> that, A | B, A, B."""
    return [kind, *(inner for argument in typing.get_args(kind) for inner in _flat(argument))]
