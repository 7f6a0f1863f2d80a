"""Strict JSON -> frozen dataclasses: unknown keys, wrong types and out-of-range values are errors that name the key.

The dataclasses say everything (type, default, range, choices, meaning) where a field is declared; see `setting`.
"""

import dataclasses
import difflib
import json
import math
import types
import typing

from data.files import InputError, parse_json, shown


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
    try:
        assignment.encode()
    except UnicodeEncodeError:
        raise InputError(f"--set {assignment}: is not UTF-8") from None
    try:
        value = parse_json(text)
    except ValueError:
        value = text
    *parents, last = path.split(".")
    node = raw
    for depth, key in enumerate(parents):
        if isinstance(node, list):
            node = node[_index(node, key, assignment)]
        else:
            if node.get(key) is None:
                node[key] = {}
            node = node[key]
        if not isinstance(node, dict | list):
            here = ".".join(parents[: depth + 1])
            raise InputError(f"--set {assignment}: {here} is {shown(node)}, which has no fields")
    if isinstance(node, list):
        node[_index(node, last, assignment)] = value
    else:
        node[last] = value


def _index(items: list, key: str, assignment: str) -> int:
    positions = {str(i): i for i in range(len(items))}
    if key not in positions:
        raise InputError(f"--set {assignment}: {shown(key)} is not a position from 0 to {len(items) - 1}")
    return positions[key]


# ---- raw object to dataclass -----------------------------------------------------------------------------------------


def build(cls: type, raw: object, path: str = ""):
    """A dataclass from a raw JSON value. path: the dotted key of `raw`, for the messages. Raises InputError."""
    if not isinstance(raw, dict):
        raise InputError(f"{path or 'the experiment'}: expected an object, found {shown(raw)}")
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in raw:
        if key not in fields:
            near = _deeper(cls, key) or difflib.get_close_matches(key, fields, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(fields)}"
            raise InputError(f"{_join(path, key)}: unknown key; {hint}")
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in fields.items():
        if name in raw:
            values[name] = _convert(hints[name], raw[name], _join(path, name), field.metadata)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise InputError(f"{_join(path, name)}: is required{_meaning(field)}")
    return cls(**values)


def _deeper(cls: type, key: str) -> list[str]:
    """The settings called `key` in the groups of a class: lr -> optim.lr. None for a class that documents none."""
    documented = all("help" in field.metadata for field in dataclasses.fields(cls))
    return (
        [name for name, _, _ in reference(cls) if name.endswith(f".{key}") and ".N" not in name] if documented else []
    )


def _meaning(field: dataclasses.Field) -> str:
    return f" ({field.metadata['help']})" if "help" in field.metadata else ""


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
        if not isinstance(value, list):
            hint = f'; write ["{value}"]' if isinstance(value, str) and len(value) < 60 else ""
            raise InputError(f"{path}: expected a list, found {shown(value)}{hint}")
        return tuple(_convert(arguments[0], item, f"{path}.{i}", checks) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{path}: expected an object, found {shown(value)}")
        return {key: _convert(arguments[1], item, _join(path, key), checks) for key, item in value.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return build(kind, value, path)
    if kind is typing.Any:
        return value
    return _checked(_scalar(kind, value, path), path, checks)


def _chosen(options: list[type], value, path: str) -> type:
    """The option whose first field has the value that the object gives it."""
    tag = dataclasses.fields(options[0])[0].name
    by_tag = {str(dataclasses.fields(option)[0].default): option for option in options}
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected an object, found {shown(value)}")
    if tag not in value:
        raise InputError(f"{_join(path, tag)}: is required; one of {', '.join(by_tag)}")
    if not isinstance(value[tag], str) or value[tag] not in by_tag:
        raise InputError(f"{_join(path, tag)}: {shown(value[tag])} is not one of {', '.join(by_tag)}")
    return by_tag[value[tag]]


def _scalar(kind: type, value: typing.Any, path: str) -> typing.Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
    if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{path}: expected {TYPE_NAMES[kind]}, found {shown(value)}")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise InputError(f"{path}: {shown(value)} is out of range")
    return value


TYPE_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", dict: "an object"}
LARGEST = 2**53  # beyond it, JSON readers disagree about which whole number was meant


def _checked(value, path: str, checks: typing.Mapping):
    low, high, above, choices = (checks.get(key) for key in ("low", "high", "above", "choices"))
    if isinstance(value, float) and value and not 1e-30 < abs(value) < 1e30:
        raise InputError(f"{path}: {shown(value)} is out of range")
    if choices is not None and value not in choices:
        raise InputError(f"{path}: {shown(value)} is not one of {', '.join(choices)}")
    if (
        (low is not None and value < low)
        or (high is not None and value > high)
        or (above is not None and value <= above)
    ):
        raise InputError(f"{path}: {shown(value)} is out of range ({describe_range(checks)})")
    return value


# ---- dataclass to reference text -------------------------------------------------------------------------------------


def describe_range(checks: typing.Mapping) -> str:
    """ "0 to 1", "above 0", "at least 1, "a | b | c", or ""."""
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
            yield key, "", field.metadata["help"]
            part = {tuple: ".N", dict: ".NAME"}.get(typing.get_origin(kind), "")
            for option in inner:
                yield from reference(option, key + part)
            continue
        if field.default is not dataclasses.MISSING:
            default = json.dumps(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = json.dumps(field.default_factory())
        else:
            default = "required"
        allowed = describe_range(field.metadata)
        yield key, f"{default}  ({allowed})" if allowed else default, field.metadata["help"]


def _flat(kind) -> list:
    """A type and all types inside it: tuple[A | B, ...] -> that, A | B, A, B."""
    return [kind, *(inner for argument in typing.get_args(kind) for inner in _flat(argument))]
