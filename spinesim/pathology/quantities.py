"""Quantities as people write them: levels, angles, lengths, shares, durations."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from spinesim.anatomy.levels import USUAL, Level, parse_level

_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
GRADES = {
    said: grade
    for row in ("12345", ("i", "ii", "iii", "iv", "v"), ("one", "two", "three", "four", "five"))
    for grade, said in enumerate(row, start=1)
}
"""What grades of slips, discs and fractures are called."""

_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
ORDINALS = [
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"),
    "twelfth",
]
_UNITS_WORD = "|".join(_SMALL[1:10])

NUMBER = rf"(?:\d+(?:\.\d+)?(?!\.?\d)|(?:{'|'.join(_TENS)})(?:[\s-](?:{_UNITS_WORD}))?|(?:{'|'.join(_SMALL[::-1])}))"

ANGLES = {r"degrees?|deg\.?|°": 1.0}
SHARES = {r"%|percent|per cent|pct": 1.0}
LENGTHS = {r"mm|millimet(?:er|re)s?": 1.0, r"cm|centimet(?:er|re)s?": 10.0}
VOLUMES = {r"ml|millilit(?:er|re)s?|cc|cm3|cm³|cubic centimet(?:er|re)s?": 1.0, r"mm3|mm³": 1e-3}
DURATIONS = {
    r"days?": 12 / 365.25,
    r"weeks?|wks?": 7 * 12 / 365.25,
    r"months?|mo": 1.0,
    r"years?|yrs?": 12.0,
}
"""What a unit is worth: degrees, percent, mm, ml and months."""


@dataclass(frozen=True)
class Quantity:
    """How a quantity is written (a regular expression of lower-case text), and its value."""

    pattern: str
    read: Callable[[str], Any]


def read_number(text: str) -> float:
    """Read digits or words (``thirty-five``), ``a`` as one and ``half a`` as a half."""
    text = text.strip()
    if text in ("a", "an"):
        return 1.0
    if text.startswith("half"):
        return 0.5
    if text[0].isdigit():
        return float(text)
    return float(sum(_SMALL.index(w) if w in _SMALL else 10 * (_TENS.index(w) + 2) for w in re.split(r"[\s-]", text)))


def _measured(units: Mapping[str, float], number: str = NUMBER) -> Quantity:
    """A number with a unit."""
    parts = re.compile(rf"(?P<number>{number})[\s-]*(?P<unit>\D.*)", re.DOTALL)

    def read(text: str) -> float:
        said = parts.fullmatch(text)
        if said is None:
            raise ValueError(f"expected a number and a unit, got {text!r}")
        (worth,) = [worth for unit, worth in units.items() if re.fullmatch(unit, said["unit"])]
        return round(read_number(said["number"]) * worth, 3)

    return Quantity(rf"{number}[\s-]*(?:{'|'.join(units)})", read)


_ORDINAL = "|".join((*ORDINALS[::-1], r"\d+(?:st|nd|rd|th)"))
_REGIONS = {"cervical": "C", "thoracic": "T", "dorsal": "T", "lumbar": "L"}


def _counted(letters: str, most: int) -> str:
    """Levels of a region, by digits and by words."""
    numbers = "|".join((*map(str, range(most, 0, -1)), *_SMALL[most:0:-1]))
    return rf"(?:{letters})\.?[\s-]?(?:{numbers})"


_LEVEL = "|".join(
    (
        _counted("th|t|d", 13),
        _counted("l", 6),
        _counted("c", 7),
        "s1|sacrum",
        rf"(?:{_ORDINAL})[\s-](?:{'|'.join(_REGIONS)})(?:[\s-](?:vertebra|body|level))?",
    )
)
LEVEL = rf"(?:(?:{_LEVEL})(?![a-z0-9]))"
_SECOND = rf"(?:{LEVEL}|(?:1[0-3]|[1-9])(?![a-z0-9.]))"
_DISC = r"(?:inter)?(?:vertebral[\s-])?dis[ck](?:[\s-](?:space|level))?|interspace"
PAIR = rf"(?:{LEVEL}\s*[/-]\s*{_SECOND})"
RANGE = rf"(?:{LEVEL}\s(?:down\s)?(?:to|through|thru|until)\s{LEVEL})"
DISC = rf"(?:{PAIR}\s(?:{_DISC})|(?:{_DISC})\s(?:at\s|of\s)?{PAIR}|(?:{_DISC})\sbetween\s{LEVEL}\sand\s{LEVEL})"


def read_level(text: str) -> str:
    """Read a level: ``T9``, ``Th9``, ``D 9``, ``T nine``, ``ninth thoracic vertebra``.

    Raises
    ------
    LabelError
        When there is no such level.
    """
    if text in ("s1", "sacrum"):
        return "S"
    first, *rest = re.split(r"[\s-]+", text)
    if rest and rest[0] in _REGIONS:
        number = ORDINALS.index(first) + 1 if first in ORDINALS else int(first[:-2])
        return parse_level(f"{_REGIONS[rest[0]]}{number}").name
    letter, number_said = "T" if text[0] in "td" else text[0].upper(), re.sub(r"^(?:th?|d|l|c)[.\s-]*", "", text)
    digits = number_said if number_said.isdigit() else str(_SMALL.index(number_said))
    return parse_level(letter + digits).name


def read_levels(text: str) -> tuple[str, str]:
    """Read two levels out of ``T8/T9``, ``T8-9``, ``T5 to T11``, ``disc between T8 and T9``; the upper one first."""
    places = re.search(rf"({LEVEL})\D*?\s*(?:[/-]|\s(?:to|through|thru|until|and)\s)\s*({_SECOND})", text)
    if places is None:
        raise ValueError(f"expected two levels, got {text!r}")
    upper, second = read_level(places[1]), places[2]
    lower = f"{upper[0]}{second}" if second.isdigit() else read_level(second)
    above, below = sorted((parse_level(upper), parse_level(lower)))
    return above.name, below.name


def are_neighbours(upper: str, lower: str) -> bool:
    """Whether no usual level lies between two, as on both sides of a disc."""
    return not any(parse_level(upper) < level < parse_level(lower) for level in USUAL)


def levels_from(upper: str, lower: str) -> tuple[str, ...]:
    """Name the usual levels from one to another, both with them."""
    first, last = parse_level(upper), parse_level(lower)
    return tuple(level.name for level in Level if first <= level <= last and (level in USUAL or level in (first, last)))


_DURATION_NUMBER = rf"(?:{NUMBER}|half\san?\s|an?\s)"

QUANTITIES: Mapping[str, Quantity] = {
    "number": Quantity(NUMBER, read_number),
    "whole": Quantity(r"\d+(?![.\d])", int),
    "angle": _measured(ANGLES),
    "percent": _measured(SHARES),
    "length": _measured(LENGTHS),
    "volume": _measured(VOLUMES),
    "duration": _measured(DURATIONS, _DURATION_NUMBER),
    "side": Quantity("right|left", str),
    "level": Quantity(LEVEL, read_level),
    "pair": Quantity(PAIR, read_levels),
    "range": Quantity(RANGE, read_levels),
    "disc": Quantity(DISC, read_levels),
}
"""What ``<angle>`` and the like stand for in the phrases of a vocabulary."""
