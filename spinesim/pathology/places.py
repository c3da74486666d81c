"""Levels and discs as parameters say them (a validator knows only ValueError), and whole ones in a scan."""

from __future__ import annotations

from spinesim.anatomy.levels import Level, levels_between, parse_level
from spinesim.anatomy.vertebra import Spine, Vertebra
from spinesim.errors import LabelError, PathologyError


def read_level(text: str) -> Level:
    """Read a level.

    Raises
    ------
    ValueError
        When there is none of this name.
    """
    try:
        return parse_level(text)
    except LabelError as error:
        raise ValueError(str(error)) from None


def read_body_level(text: str) -> Level:
    """Read a level that has a body and two end plates.

    Raises
    ------
    ValueError
        When it has none, or there is none of this name.
    """
    level = read_level(text)
    if not Level.C3 <= level < Level.S:
        raise ValueError(f"expected a level with a body from C3 to L6, got {level.name}")
    return level


def read_neighbours(text: str) -> tuple[Level, ...]:
    """Read ``T8/T9`` as the levels above and below a disc; nothing where they are no neighbours.

    Raises
    ------
    ValueError
        When there is no level of a name.
    """
    levels = tuple(read_level(name) for name in text.split("/"))
    return levels if len(levels) == 2 and levels[0] < levels[1] and not levels_between(*levels) else ()


def require_whole(what: str, level: Level, spine: Spine) -> Vertebra:
    """The vertebra of a level that a scan holds whole; ``what`` names the pathology for the message.

    Raises
    ------
    PathologyError
        When the scan does not hold it whole.
    """
    whole = {v.level: v for v in spine.whole}
    if level not in whole:
        raise PathologyError(
            f"{what}: expected a whole vertebra of the scan ({spine.whole[0].level.name} to "
            f"{spine.whole[-1].level.name}), got {level.name}; choose one of them"
        )
    return whole[level]
