"""The levels of the spine, in anatomical order."""

from __future__ import annotations

import difflib
from enum import IntEnum

from spinesim.errors import LabelError


class Level(IntEnum):
    """A level of the spine; the value is its rank from the head down, never a label number."""

    C1 = 1
    C2 = 2
    C3 = 3
    C4 = 4
    C5 = 5
    C6 = 6
    C7 = 7
    T1 = 8
    T2 = 9
    T3 = 10
    T4 = 11
    T5 = 12
    T6 = 13
    T7 = 14
    T8 = 15
    T9 = 16
    T10 = 17
    T11 = 18
    T12 = 19
    T13 = 20
    L1 = 21
    L2 = 22
    L3 = 23
    L4 = 24
    L5 = 25
    L6 = 26
    S = 27


RARE = (Level.T13, Level.L6)
USUAL = tuple(level for level in Level if level not in RARE)


def parse_level(text: str) -> Level:
    """Read a level from its name (``T9``, ``t9``, ``S1`` for the sacrum).

    Raises
    ------
    LabelError
        When the name is no level; the nearest known name is offered.
    """
    name = text.strip().upper()
    name = "S" if name in ("S1", "SACRUM") else name
    if name in Level.__members__:
        return Level[name]
    near = difflib.get_close_matches(name, Level.__members__, n=1, cutoff=0.0)
    raise LabelError(
        f"level: expected one of C1 to C7, T1 to T13, L1 to L6 or S, got {text!r}; did you mean {near[0]}?"
    )


def region(level: Level) -> str:
    """Give the region of a level: ``cervical``, ``thoracic``, ``lumbar`` or ``sacral``."""
    return {"C": "cervical", "T": "thoracic", "L": "lumbar", "S": "sacral"}[level.name[0]]


def levels_between(upper: Level, lower: Level) -> tuple[Level, ...]:
    """List the levels that a usual spine has strictly between two others (T13 and L6 are rare)."""
    return tuple(level for level in USUAL if upper < level < lower)
