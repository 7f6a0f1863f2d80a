"""What comes from outside: reading JSON strictly, and the one exception for when something handed in is wrong."""

import json
from pathlib import Path


class InputError(Exception):
    """Something handed to the program is wrong: a spec, a file, a checkpoint, an option.

    The message is one or two lines that say what is wrong, where (file, line or id) and what to do. `train.py` and
    `eval.py` print it to stderr and exit with code 2; any other exception is a fault of the code and keeps its
    traceback.
    """


def _object(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice")
    return result


def _constant(literal: str):
    raise ValueError(f"{literal} is not a number that JSON knows")


def parse_json(text: str):
    """JSON without duplicate keys, NaN or Infinity. Raises ValueError with the place."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> dict:
    """The JSON object in a UTF-8 file (a byte order mark is allowed). Raises InputError with the file and the place."""
    try:
        value = parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # not UTF-8, not JSON, a number too long to convert
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
