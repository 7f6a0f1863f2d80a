"""Progress bars on a terminal, and leaving them out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
_QUIET = ContextVar("quiet", default=False)  # of a thread, not of the process: others may want their bars


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, no `progress` is shown."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def progress(steps: Sequence[T], what: str, delay: float = 0.0) -> Iterator[T]:
    """The steps one by one, with a bar on a terminal if they take longer than `delay` seconds."""
    # Not tqdm's disable: even a bar that is not shown starts a thread.
    return iter(steps if _QUIET.get() else tqdm(steps, desc=what, leave=False, disable=None, delay=delay))
