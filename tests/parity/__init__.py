"""What goes in and out, compared with transformers and peft: each row of the matrix is one comparison.

python -m tests.parity          prints the matrix as Markdown (needs the extra `peers`; 5 minutes)
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    family: str
    direction: str  # in, out, round trip
    compared: str
    difference: float  # the largest
    limit: float

    @property
    def holds(self) -> bool:
        return self.difference <= self.limit
