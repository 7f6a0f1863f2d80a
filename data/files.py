"""Files: strict reading of bytes, text and JSON, and the exception for what is wrong. Writing: data/writing.py."""

import hashlib
import io
import json
import os
import re
import reprlib
import stat
from pathlib import Path
from typing import Any


class InputError(Exception):
    """Something handed to the program is wrong: a spec, a file, a checkpoint, an option.

    The message says in a line what is wrong, where (file, line or id) and what to do. `train.py` and `eval.py` print it
    with `refuse` and exit with code 2; any other exception but OSError is a fault of the code and keeps its traceback.
    """


# ---- messages --------------------------------------------------------------------------------------------------------

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 3, 3

LONGEST_MESSAGE = 1000  # characters


def shown(value) -> str:
    """Quote a value from outside in a message: its repr, cut short."""
    return _SHORT.repr(value)


def printable(text: str) -> str:
    """Text as one line that a terminal shows and does not obey: anything but a printable character is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(text: str) -> str:
    """Make text from outside fit for a line: escape control characters, leave out the middle of a very long text."""
    text = printable(text)
    half = LONGEST_MESSAGE // 2
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:half]} ... {text[-half:]}"


def reason(error: BaseException) -> str:
    """Message of an exception; of an OSError in the form "file: what is wrong"."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


# ---- files -----------------------------------------------------------------------------------------------------------


KINDS = {stat.S_IFDIR: "folder", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}


def kind_of(mode: int) -> str:
    """The kind of something that is no plain file, by its st_mode: "folder", "link", "pipe", "device" ..."""
    return KINDS.get(stat.S_IFMT(mode), "device")


def open_file(path: Path) -> io.BufferedReader:
    """Open a file for reading: the one door for what comes from outside. A link is followed, but only to a plain file,
    because /dev/zero never ends and a pipe waits for its writer. Raises InputError naming the file where it is missing,
    not plain or not ours to read."""
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # without waiting for a pipe's writer
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; a file is needed") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode):
        file.close()
        raise InputError(f"{path}: is a {kind_of(mode)}; a file is needed")
    return file


def read_bytes(path: Path) -> bytes:
    """Read a whole file. Raises InputError as `open_file` does, or where the disk fails."""
    with open_file(path) as file:
        try:
            return file.read()
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def sha256_of(path: Path) -> str:
    """Hash a file's contents. Raises InputError where it cannot be read."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def decode_text(data: bytes, path: Path) -> str:
    """Decode a UTF-8 file and drop its byte order mark. path: for the message."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8 (byte {error.start}); save the file as UTF-8") from None


def require_utf8(text: str, where: str) -> str:
    """Return a text from the command line as it is. Raises InputError where its bytes were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where}: is not UTF-8") from None
    return text


# ---- JSON ------------------------------------------------------------------------------------------------------------


def _object(pairs: list[tuple[str, object]]) -> dict:
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(names) if key in names[:place])
        raise ValueError(f"the key {shown(twice)} is there twice")
    return result


def _constant(literal: str):
    raise ValueError(f"{literal} is not a number that JSON knows")


HALF_OF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # how JSON may smuggle in what no UTF-8 file can hold


# What people write where JSON goes on otherwise: the last character before the parser's place, and what comes there.
SLIPS = {
    r".? (#|//|/\*)": "JSON has no comments; remove this one",
    r", []}]|.? ,\s*[]}]": "a comma with nothing after it; remove it",
    r".? ['‘’“”]": 'a text stands in straight double quotes, "like this"',
    r".? (True|False|None)\b": "JSON says true, false and null",
    r".? [A-Za-z_]\w*\s*[:=]": 'a name stands in double quotes, "like_this": 1',
    r'[]}"\w] "': "a comma is missing before this",
    r".? $": "it ends too early; a bracket is missing, or everything",
}


def _in_words(error: json.JSONDecodeError) -> str:
    """What is wrong with a text that is not JSON, and where: in our words for the slips that people make."""
    before, rest = error.doc[max(0, error.pos - 99) : error.pos].rstrip(), error.doc[error.pos : error.pos + 99]
    found = (words for slip, words in SLIPS.items() if re.match(slip, f"{before[-1:]} {rest.strip()}"))
    return f"line {error.lineno} column {error.colno}: {next(found, f'{error.msg}: {shown(rest)}')}"


def parse_json(text: str):
    """Parse JSON without duplicate keys, NaN, Infinity or half characters. Raises ValueError with the place."""
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        if HALF_OF_A_PAIR.search(text):
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except json.JSONDecodeError as error:
        raise ValueError(_in_words(error)) from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a \\ud800 to \\udfff escape stands alone; it is half of a character") from None


def parse_object(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a file's bytes as a JSON object. Raises InputError with the file and the place."""
    try:
        value = parse_json(decode_text(data, path))
    except ValueError as error:  # not JSON, or a number too long to convert
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a JSON object, found {shown(value)}")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read the JSON object in a UTF-8 file. Raises InputError with the file and the place."""
    return parse_object(read_bytes(path), path)
