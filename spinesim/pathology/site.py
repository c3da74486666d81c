"""The site of a lesion: the number of its structure, the room inside it, and a centre."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.boxes import padded
from spinesim.anatomy.distances import distance_to
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import ball_diameter_mm
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.schemes import STRUCTURES
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import CrowdedError, PathologyError

CORTEX_MM = 1.5
"""A lesion that does not breach a bone's cortex keeps so far from its surface."""

SIDES: dict[str, tuple[int, float]] = {
    "right": (0, 1.0),
    "left": (0, -1.0),
    "anterior": (1, 1.0),
    "posterior": (1, -1.0),
    "superior": (2, 1.0),
    "inferior": (2, -1.0),
}
"""Axis and sign of each way, in the frame of a vertebra or of the patient."""

THIRD = 1 / 3
"""What is said to lie on a side lies in the third of the structure on that side."""

DEEP = 0.8
"""A lesion is seated where its ball fits, or else where the structure is this share as deep as anywhere."""

BETWEEN_MM = 2.0
"""Lesions of one structure are seated so far from each other at least, surface to surface."""

SMALLEST_VOXELS = 10
"""Below this 5 % of the volume are less than half a voxel."""


def structure_number(structure: str, labels: LabelMap) -> int:
    """The number of a structure in a label map: a level, a structure of TotalSegmentator, or ``label 57``.

    Raises
    ------
    PathologyError
        When it has none.
    """
    named = {number: name for name, number in STRUCTURES.items()} if labels.scheme == "totalsegmentator" else {}
    names = {number: level.name for level, number in labels.numbers.items()}
    here = {names.get(number, named.get(number, f"label {number}")): number for number in labels.present}
    number = here.get(structure, here.get("S") if structure == "sacrum" else None)
    if structure.startswith("label "):
        number = int(structure.removeprefix("label "))
    if number is None or number not in labels.boxes:
        raise PathologyError(
            f"lesion: expected a structure of the label map ({', '.join(here)}), got {structure}; "
            "choose one of them, or pass labels that have it (as TotalSegmentator's)"
        )
    return number


class Neighbour(NamedTuple):
    """What is in a structure already: its name, centre (world, mm) and radius."""

    title: str
    centre: Float[np.ndarray, " 3"]
    radius_mm: float


@dataclass(frozen=True, eq=False)
class Site:
    """A structure in a label map: its voxels that a lesion may take, and how deep they lie (mm)."""

    title: str
    level: Level | None
    room: Bool[np.ndarray, "i j k"]
    depth: Float[np.ndarray, "i j k"]
    grid: Grid
    axes: Float[np.ndarray, "3 3"]
    middle: Float[np.ndarray, " 3"]
    body_back_mm: float

    def draw(
        self,
        ways: tuple[str, ...],
        radius_mm: float,
        others: Sequence[Neighbour] = (),
        *,
        rng: np.random.Generator,
    ) -> Float[np.ndarray, " 3"]:
        """Draw a centre (world, mm) on the side that is asked, where the ball fits if it fits anywhere.

        It keeps apart from ``others`` in the structure.

        Raises
        ------
        CrowdedError
            When they leave no room.
        """
        points = self.grid.to_world(np.argwhere(self.room).astype(float))
        local = (points - self.middle) @ self.axes
        body = local[:, 1] > self.body_back_mm
        body = body if body.any() else np.ones(len(local), dtype=bool)
        kept = body.copy()
        for way in ways:
            if way == "central":
                away = np.linalg.norm((local - local[kept].mean(axis=0)) / np.ptp(local[body], axis=0), axis=1)
            else:
                axis, sign = SIDES[way]
                away = -sign * local[:, axis]
            kept &= away <= np.quantile(away[kept], THIRD)
        deep = self.depth[self.room][kept]
        fits = deep >= min(radius_mm, DEEP * float(deep.max()))
        for other in others:
            apart_mm = radius_mm + other.radius_mm + BETWEEN_MM
            fits &= np.linalg.norm(points[kept] - other.centre, axis=1) >= apart_mm
        if not fits.any():
            raise CrowdedError(
                f"{self.title}: expected room for its {2 * radius_mm:.1f} mm beside the "
                f"{' and the '.join(f'{other.title} ({2 * other.radius_mm:.1f} mm)' for other in others)}, got none; "
                "ask for smaller or fewer ones, or say where each is (side, position, offset_mm, centre_mm)"
            )
        return points[kept][rng.choice(np.flatnonzero(fits))]

    def require(self, centre: Float[np.ndarray, " 3"], volume_ml: float, *, breach: bool) -> None:
        """Refuse a centre outside, and a lesion that is too small for the voxels or too large for the room.

        Raises
        ------
        PathologyError
            Naming what is possible.
        """
        voxel_ml = self.grid.voxel_volume_mm3 / 1000
        if volume_ml < SMALLEST_VOXELS * voxel_ml:
            least = SMALLEST_VOXELS * voxel_ml
            raise PathologyError(
                f"{self.title}: expected {SMALLEST_VOXELS} voxels at least ({least:.2g} ml, "
                f"{ball_diameter_mm(least):.1f} mm), got {volume_ml:.2g} ml; ask for more, or take smaller voxels"
            )
        pieces, _ = ndimage.label(self.room)
        voxel = np.round(self.grid.to_voxel(centre[None])[0]).astype(int)
        inside = bool((voxel >= 0).all() and (voxel < self.grid.shape).all())
        piece = int(pieces[tuple(voxel)]) if inside else 0
        if piece == 0:
            place = ", ".join(f"{mm:.0f}" for mm in centre)
            raise PathologyError(f"{self.title}: expected a centre inside it, got ({place}) mm; choose another")
        most = float(np.count_nonzero(pieces == piece) * voxel_ml)
        if volume_ml > most and not breach:
            raise PathologyError(
                f"{self.title}: expected at most the {most:.1f} ml ({ball_diameter_mm(most):.0f} mm) that have room "
                f"there, got {volume_ml:.1f} ml; ask for less, or for breach"
            )


def find_site(title: str, number: int, labels: LabelMap, spine: Spine, cortex_mm: float) -> Site:
    """Find a structure by its number, and the room inside it, ``cortex_mm`` from its surface.

    Raises
    ------
    PathologyError
        When it is thinner than that.
    """
    box = padded(labels.boxes[number], labels.grid.shape, 1)
    grid = labels.grid.inside(box)
    own = np.pad(labels.voxels[box] == number, 1)
    depth = distance_to(~own, grid.spacing_mm)[1:-1, 1:-1, 1:-1]
    depth = depth - grid.spacing_mm.min() / 2
    room = depth > cortex_mm
    if not room.any():
        raise PathologyError(f"{title}: expected room inside its surface, got none; choose another structure")
    level = labels.levels.get(number)
    if level is not None and level in spine:
        vertebra = spine[level]
        return Site(title, level, room, depth, grid, vertebra.axes, vertebra.centre, vertebra.back_mm)
    middle = grid.to_world(np.argwhere(room).astype(float)).mean(axis=0)
    return Site(title, None, room, depth, grid, spine.patient_axes, middle, -np.inf)
