"""Curved sections through a scan that follow the spine, so that all of its bodies are seen at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from scipy.interpolate import PchipInterpolator

from spinesim.anatomy.grid import apply_affine
from spinesim.anatomy.sampling import Sheet, mean_of_sheets, nearest_on_sheet
from spinesim.anatomy.scan import LabelMap, Scan, read_only
from spinesim.anatomy.vertebra import Spine, Vector

PIXEL_MM = 0.8
SLAB_MM = 6.0
SLAB_SHEETS = 7
"""Sheets that are averaged over the slab: one a millimetre, its two faces included."""

FAR_MM = 2000.0
"""How far the centre line is carried on, straight, beyond the outermost centres."""


@dataclass(frozen=True)
class View:
    """A way to look at a patient; axes are 0 right, 1 anterior, 2 superior.

    ``leftward`` and ``upward`` are the patient's axes that point to the left of the picture and up, ``depth`` the one
    that is looked along; ``sides`` are the letters of the picture's left and right edge.
    """

    name: Literal["axial", "coronal", "sagittal"]
    leftward: int
    depth: int
    sides: tuple[str, str]
    upward: int = 2

    def plane(self, patient_axes: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 2"]:
        """Unit columns, in world RAS, that point to the picture's right and up."""
        return np.column_stack([-patient_axes[:, self.leftward], patient_axes[:, self.upward]])


AXIAL = View("axial", leftward=0, depth=2, sides=("R", "L"), upward=1)
CORONAL = View("coronal", leftward=0, depth=1, sides=("R", "L"))
SAGITTAL = View("sagittal", leftward=1, depth=0, sides=("A", "P"))


@dataclass(frozen=True, eq=False)
class Reformation:
    """A curved section, seen in the patient's own axes; rows run down, columns to the picture's right.

    ``hu`` is the mean of the slab (None without a CT), ``levels`` the level's rank on its middle sheet (0 is none), and
    ``masses`` the number of what grew there (None where nothing did). ``across_mm`` and ``heights_mm`` place columns
    and rows in the picture, as :meth:`project` places points.
    """

    view: View
    patient_axes: Float[np.ndarray, "3 3"]
    across_mm: Float[np.ndarray, " columns"]
    heights_mm: Float[np.ndarray, " rows"]
    levels: UInt8[np.ndarray, "rows columns"]
    hu: Float[np.ndarray, "rows columns"] | None = None
    masses: UInt8[np.ndarray, "rows columns"] | None = None

    def __post_init__(self) -> None:
        for name in ("across_mm", "heights_mm", "levels", "hu", "masses"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, read_only(getattr(self, name)))

    def project(self, vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        """Carry world points or directions (RAS, mm) to the picture: millimetres to its right, and up."""
        return vectors @ self.view.plane(self.patient_axes)

    def level_at(self, point: Vector) -> int:
        """Rank of the level that is drawn where a world point (RAS, mm) appears; 0 is none."""
        across, height = self.project(point)
        row, column = np.abs(self.heights_mm - height).argmin(), np.abs(self.across_mm - across).argmin()
        return int(self.levels[row, column])

    @property
    def extent_mm(self) -> tuple[float, float, float, float]:
        """Left, right, lower and upper edge of the picture, half a pixel beyond the outermost centres."""
        half = PIXEL_MM / 2
        left, right, lower, upper = self.across_mm[0], self.across_mm[-1], self.heights_mm[-1], self.heights_mm[0]
        return float(left - half), float(right + half), float(lower - half), float(upper + half)


def curved_coronal(
    scan: Scan,
    spine: Spine,
    patient_axes: Float[np.ndarray, "3 3"] | None = None,
    masses: LabelMap | None = None,
) -> Reformation:
    """Section from the front that follows the centre line forward and back; the patient's right is on the left.

    Parameters
    ----------
    scan : Scan
        CT and labels, or labels alone, on any grid.
    spine : Spine
        The spine in it.
    patient_axes : (3, 3) array, optional
        Unit columns right, anterior, superior in world RAS to look along; the spine's own by default. Two scans are
        comparable when they are seen along the same axes.
    masses : LabelMap, optional
        What grew in the scan, on its grid.
    """
    return _reformat(scan, spine, spine.patient_axes if patient_axes is None else patient_axes, CORONAL, masses)


def curved_sagittal(
    scan: Scan,
    spine: Spine,
    patient_axes: Float[np.ndarray, "3 3"] | None = None,
    masses: LabelMap | None = None,
) -> Reformation:
    """Section from the patient's right that follows the centre line to either side; anterior is on the left.

    Parameters are those of :func:`curved_coronal`.
    """
    return _reformat(scan, spine, spine.patient_axes if patient_axes is None else patient_axes, SAGITTAL, masses)


def centre_line(
    spine: Spine, patient_axes: Float[np.ndarray, "3 3"]
) -> Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, "n 3"]]:
    """Smooth line through the centres of the bodies, carried on straight beyond the outermost ones.

    Returns
    -------
    callable
        Heights along the patient's superior axis (mm) to points (right, anterior, superior) on the line (mm). It goes
        through every centre without overshoot (monotone cubic).
    """
    centres = np.stack([vertebra.centre for vertebra in spine]) @ patient_axes
    _, rising = np.unique(np.round(centres[:, 2]), return_index=True)
    knots = centres[rising]
    down, up = (knots[0] - knots[1], knots[-1] - knots[-2]) if len(knots) > 1 else np.array([[0, 0, -1.0], [0, 0, 1.0]])
    knots = np.vstack([_carried_on(knots[0], down), knots, _carried_on(knots[-1], up)])
    return PchipInterpolator(knots[:, 2], knots)


def _carried_on(end: Vector, away: Vector) -> Vector:
    return end + away * (FAR_MM / abs(away[2]))


def _reformat(
    scan: Scan, spine: Spine, patient_axes: Float[np.ndarray, "3 3"], view: View, masses: LabelMap | None
) -> Reformation:
    """Sample the sheet that covers the whole scan in a view, and its slab."""
    corners = scan.grid.corners() @ view.plane(patient_axes)
    (left, lower), (right, upper) = corners.min(axis=0), corners.max(axis=0)
    across, heights = np.arange(left, right + PIXEL_MM / 2, PIXEL_MM), np.arange(upper, lower - PIXEL_MM / 2, -PIXEL_MM)
    line = centre_line(spine, patient_axes)(heights)
    line[:, view.leftward] = -across[0]
    starts = apply_affine(scan.grid.voxel_from_world, line @ patient_axes.T)
    voxels_from_mm = scan.grid.voxel_from_world[:3, :3] @ patient_axes
    sheet = Sheet(starts, -PIXEL_MM * voxels_from_mm[:, view.leftward], len(across))
    levels = _sample_levels(scan.labels, sheet)
    grown = None if masses is None else nearest_on_sheet(masses.voxels, sheet)
    if scan.image is None:
        return Reformation(view, patient_axes, across, heights, levels, masses=grown)
    beside = np.linspace(-SLAB_MM / 2, SLAB_MM / 2, SLAB_SHEETS)[:, None] * voxels_from_mm[:, view.depth]
    hu = scan.image.hu(mean_of_sheets(scan.image.voxels, sheet, beside, scan.image.air))
    return Reformation(view, patient_axes, across, heights, levels, hu, grown)


def _sample_levels(labels: LabelMap, sheet: Sheet) -> UInt8[np.ndarray, "rows columns"]:
    """Rank of the level at each place of a sheet, by nearest neighbour; 0 outside and between the levels."""
    rank = np.zeros(max((0, *labels.present)) + 1, dtype=np.uint8)
    for level, number in labels.numbers.items():
        rank[number] = level
    return rank[nearest_on_sheet(labels.voxels, sheet)]
