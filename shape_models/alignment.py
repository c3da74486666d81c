"""Published angles of healthy people seen from the side: their rows, and how drawn spines are read and held to them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level, parse_level
from spinesim.anatomy.vertebra import Spine
from spinesim.shape.constraints import Posture, measure_posture

from .published import HERE, PLATE_MM, read_rows  # noqa: TID251 - relative, as it must be

Row = dict[str, str]
"""A row of ``published_alignment.csv``."""


def read_published() -> list[Row]:
    """Published angles of healthy people, a row each."""
    return read_rows(HERE / "published_alignment.csv")


def name_of(row: Row) -> str:
    """What a row is of."""
    return row["quantity"] if row["kind"] == "slope" else f"{row['quantity']} {row['upper']}-{row['lower']}"


def numbers_of(row: Row) -> tuple[float, float, float]:
    """Mean and SD (degrees) of a row and how many people they are of; NaN where it is not told."""
    mean, sd, people = (float(row[column] or "nan") for column in ("mean_deg", "sd_deg", "n"))
    return mean, sd, people


def sums_of(row: Row, mean: Spine) -> Float[np.ndarray, " j"]:
    """Weights of the joints' forward turns that sum up to the change of a published angle.

    The slope's are to first order about the mean spine, the others' are whole.
    """
    levels = mean.levels
    if row["kind"] == "slope":  # what the sacrum leans, less what the line to C7 does, which is held upright
        line = _line_to_the_sacrum(mean)
        return -(line @ np.triu(np.ones((len(line), len(line) - 1))))
    upper, lower = (levels.index(parse_level(row[end])) for end in ("upper", "lower"))
    ranks = np.arange(len(levels) - 1)
    return _sign(row) * ((ranks >= upper) & (ranks < lower))


def _sign(row: Row) -> float:
    """A lordosis is told as positive: less forward turn from the head down."""
    return -1.0 if row["quantity"] == "lordosis" else 1.0


def _line_to_the_sacrum(mean: Spine) -> Float[np.ndarray, " n"]:
    """Share that each level's lean has in the lean of the line from the sacrum to C7."""
    centres = np.array([mean[Level.S].superior.centre if v.level == Level.S else v.centre for v in mean])
    below = np.arange(len(mean) - 1) >= mean.levels.index(Level.C7)
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1) * below
    shares = (np.append(steps, 0.0) + np.append(0.0, steps)) / 2
    return shares / shares.sum()


def angle_of(row: Row, spine: Spine) -> float:
    """A published angle, as one spine has it (degrees)."""
    posture = measure_posture(spine, np.stack([v.world_from_vertebra for v in spine])[None])
    return float(angles_of(row, posture, spine[Level.S].depth_mm)[0])


def angles_of(row: Row, posture: Posture, depth_mm: float) -> Float[np.ndarray, " b"]:
    """A published angle, as drawn spines have it (degrees).

    The slope of the sacrum is told from the line from the back of its plate to C7: the plumb line of who stands.
    """
    lean = np.rad2deg(posture.sagittal)
    upper, lower = (posture.rank(parse_level(row[end])) for end in ("upper", "lower"))
    if row["kind"] == "slope":
        tilt = posture.sagittal[:, lower, :1]
        up, forward = np.hstack([np.sin(tilt), np.cos(tilt)]), np.hstack([np.cos(tilt), -np.sin(tilt)])
        corner = posture.centres[:, lower, 1:] + PLATE_MM * up - depth_mm / 2 * forward
        line = posture.centres[:, posture.rank(Level.C7), 1:] - corner
        return lean[:, lower, 0] - np.rad2deg(np.arctan2(line[:, 0], line[:, 1]))
    plate = 0 if row["kind"] == "segment" or row["lower"] == "S" else 1
    return _sign(row) * (lean[:, upper, 0] - lean[:, lower, plate])
