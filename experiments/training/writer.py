"""The writer of metrics.jsonl, and what it takes to continue a file that a killed run has left."""

import hashlib
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path

from data.files import InputError, read_bytes
from experiments.records import FILE, json_safe


class Writer:
    """Appends records to a run folder's metrics.jsonl. One line is one write, so a reader sees whole lines only."""

    def __init__(self, folder: Path, offset: int = 0, seconds: float = 0.0):
        """offset: bytes to keep of an existing file (0: none); seconds: how long the run had taken by then."""
        self._path = folder / FILE
        self._file = self._path.open("r+b" if offset else "x+b", buffering=0)
        if os.fstat(self._file.fileno()).st_nlink > 1:  # `cp -al` makes such copies
            raise InputError(f"{self._path}: is one file with another name elsewhere (a hard link); copy it")
        self._digest = hashlib.sha256(self._file.read(offset))
        self._file.truncate(offset)
        self._file.seek(offset)
        self._started = time.monotonic() - seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def offset(self) -> int:
        """Bytes written so far, all of them on disk when this returns."""
        os.fsync(self._file.fileno())
        return self._file.tell()

    @property
    def sha256(self) -> str:
        """The sha256 of what has been written so far."""
        return self._digest.hexdigest()

    def write(self, kind: str, step: int, epoch: float, **fields) -> dict:
        """Append one record and return it. Raises OSError, naming the file, where it cannot be written whole."""
        record = {
            "kind": kind,
            "step": step,
            "epoch": round(epoch, 6),
            "seconds": round(self.seconds, 3),
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            **json_safe(fields, digits=9 if kind == "train" else 17),  # there are many, of sums in fp32
        }
        line = (json.dumps(record, allow_nan=False) + "\n").encode()
        rest = memoryview(line)
        try:
            while rest:  # a disk that fills up takes the part that still fits, and only the next write is an error
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        self._digest.update(line)
        return record

    def close(self) -> None:
        self._file.close()


def beyond(path: Path, size: int, sha256: str) -> tuple[int, bool]:
    """The number of whole records after the first `size` bytes of a metrics file, and whether its last line is torn.
    Raises InputError where those bytes are missing or are not what was written."""
    data = read_bytes(path)
    if not 0 < size <= len(data):
        raise InputError(f"{path}: is shorter than the {size} bytes that the checkpoint goes with; restore it")
    if hashlib.sha256(data[:size]).hexdigest() != sha256:
        raise InputError(f"{path}: has been edited before its byte {size}, up to which the run wrote it; restore it")
    return data.count(b"\n", size), not data.endswith(b"\n")
