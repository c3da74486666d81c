"""What can go wrong in a way that the user can repair: one class for each thing to mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class SpinesimError(Exception):
    """A refusal: one sentence with the place, the rule, the value that came and the remedy."""


class ScanError(SpinesimError):
    """The image cannot be read or is no CT volume."""


class LabelError(SpinesimError):
    """The label map cannot be read, or lacks what the work needs."""


class GeometryError(SpinesimError):
    """A grid, an affine or a transform is not what space allows."""


class PathologyError(SpinesimError):
    """The deformity asked for is one that this spine cannot take."""


class OutOfReachError(PathologyError):
    """A deformity of this size is more than a spine can take: the ``reason``, and the ``nearest`` size to aim at."""

    def __init__(self, reason: str, nearest: float, unit: str) -> None:
        super().__init__(f"{reason}; the nearest possible value on this spine is {nearest:.0f} {unit}")
        self.reason, self.nearest, self.unit = reason, nearest, unit


class CrowdedError(PathologyError):
    """What was placed before left no room; another draw of the places may."""


class ConfigError(SpinesimError):
    """A parameter or a configuration key is out of its range or unknown."""


class OutputError(SpinesimError):
    """The result cannot be written where it was asked to go."""


class ScanWarning(UserWarning):
    """The data can be used, but something in it looks other than a CT with labels should."""


def first_refusal(error: ValidationError) -> tuple[str, str]:
    """Say the first thing that a model refuses: the field, and the rule with the value that came."""
    first, *others = error.errors()
    place = ".".join(map(str, first["loc"]))
    more = f" (and {len(others)} more)" if others else ""
    if first["type"] == "extra_forbidden":
        return place, f"expected a known parameter of {error.title}, got {place!r}{more}"
    if first["type"] == "value_error":
        return place, f"{first['msg'].removeprefix('Value error, ')}{more}"
    rule = first["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
    return place, f"expected {rule[:1].lower()}{rule[1:]}, got {first['input']!r}{more}"
