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


LANDMARKS = {"kyphosis": ("T3", "T11"), "lordosis": ("L1", "L5")}
"""Where the apices of the two curves are looked for."""


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
        return lean[:, lower, 0] - np.rad2deg(_plumb(posture, depth_mm))
    plate = 0 if row["kind"] == "segment" or row["lower"] == "S" else 1
    return _sign(row) * (lean[:, upper, 0] - lean[:, lower, plate])


def _plumb(posture: Posture, depth_mm: float) -> Float[np.ndarray, " b"]:
    """How far the line from the back of the sacrum's plate to C7 leans forward (rad)."""
    sacrum = posture.rank(Level.S)
    tilt = posture.sagittal[:, sacrum, :1]
    up, forward = np.hstack([np.sin(tilt), np.cos(tilt)]), np.hstack([np.cos(tilt), -np.sin(tilt)])
    corner = posture.centres[:, sacrum, 1:] + PLATE_MM * up - depth_mm / 2 * forward
    line = posture.centres[:, posture.rank(Level.C7), 1:] - corner
    return np.arctan2(line[:, 0], line[:, 1])


def greatest_of(quantity: str, posture: Posture) -> Float[np.ndarray, " b"]:
    """The greatest kyphosis or lordosis of drawn spines between any two plates from T1 to the sacrum (degrees)."""
    lean = np.rad2deg(posture.sagittal[:, posture.rank(Level.T1) :])
    first, last = np.triu_indices(lean.shape[1])
    lower = lean[:, :, 1].copy()
    lower[:, -1] = lean[:, -1, 0]  # of the sacrum its plate
    return ((-1 if quantity == "lordosis" else 1) * (lean[:, first, 0] - lower[:, last])).max(axis=1)


def landmarks_of(spine: Spine) -> dict[str, Level]:
    """Apices of the two curves (levels that stand as the plumb line does), and where one turns into the other."""
    posture = measure_posture(spine, np.stack([v.world_from_vertebra for v in spine])[None])
    lean = posture.sagittal[0].mean(axis=1) - _plumb(posture, spine[Level.S].depth_mm)[0]
    ranks = {part: [spine.levels.index(Level[name]) for name in ends] for part, ends in LANDMARKS.items()}
    chest, loins = (min(range(first, last + 1), key=lambda rank: abs(lean[rank])) for first, last in ranks.values())
    turn = chest + int(lean[chest : loins + 1].argmin())
    return {"kyphosis": spine.levels[chest], "lordosis": spine.levels[loins], "inflection": spine.levels[turn]}
