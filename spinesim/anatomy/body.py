"""Measure one vertebral body: its end plates at sub-voxel precision, its axes, canal and heights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.heights import measure_heights
from spinesim.anatomy.holes import find_holes
from spinesim.anatomy.planes import fit_plane
from spinesim.anatomy.silhouette import Silhouette
from spinesim.anatomy.vertebra import BodyHeights, EndPlate, Vector, square_axes

STEP_MM = 1.0
"""Spacing of the columns on which the end plates are looked for."""

HALF_WIDTH_MM, HALF_DEPTH_MM, HALF_HEIGHT_MM = 34.0, 46.0, 30.0
"""Half extents of the search box about a body, along right, anterior and superior."""

PLATE_TOLERANCE_MM = 4.0
"""A column that ends so far from an end plate's plane has no part in its fit.

Fixed, not taken from the scatter: a plate drawn with few voxels has one or two steps, and a scale of their median
would cut one tread off (on real labels redrawn at 1.5 mm it costs a sixth of the angle's precision)."""

CANAL_STEP_MM = 1.5
"""Spacing on which the canal is looked for."""

OPEN_CANAL_MM = 6.0
"""A wider gap behind a body is its canal, where the ring about it is open."""

FEWEST_COLUMNS = 40
"""A footprint of fewer square millimetres is no vertebral body."""

SACRAL_SHARE, SACRAL_REACH_MM = 0.32, 18.0
"""The sacral plate is looked for under this share of the extents of the body above, so far above and below it."""

EDGE_MM = 3.0
"""A sacral plate ends where the bone's surface leaves its plane by so much."""

BEYOND_MM = 3.0
"""How far beyond the outline of the waist the plates are followed to their rims."""

ROUNDS = 3
"""Refinements of the frame; the third one moves an end plate by less than 0.1 degree."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A place to measure in: centre (world RAS, mm) and unit axes right, anterior, superior as columns."""

    centre: Vector
    axes: Float[np.ndarray, "3 3"]

    def to_world(self, local: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
        """Carry points of the frame to the world."""
        return local @ self.axes.T + self.centre


@dataclass(frozen=True, eq=False)
class Body:
    """What was measured on one bone (world RAS, mm).

    ``width_mm`` and ``depth_mm`` are taken at the waist; ``surface`` holds the points found on both end plates.
    """

    frame: Frame
    superior: EndPlate
    inferior: EndPlate
    width_mm: float
    depth_mm: float
    canal: Vector | None
    heights: BodyHeights
    surface: Float[np.ndarray, "n 3"]


@dataclass(frozen=True, eq=False)
class Columns:
    """Lines along the axis of a frame, and the heights at which they enter the bone from above and from below (mm)."""

    frame: Frame
    right: Float[np.ndarray, " n"]
    anterior: Float[np.ndarray, " n"]
    top: Float[np.ndarray, " n"]
    bottom: Float[np.ndarray, " n"]

    def surface(self) -> Float[np.ndarray, "m 3"]:
        """The points found on both end plates, in the world."""
        both = [np.column_stack([self.right, self.anterior, ends]) for ends in (self.top, self.bottom)]
        return self.frame.to_world(np.concatenate(both))


def measure_body(bone: Silhouette, frame: Frame, rounds: int = ROUNDS) -> Body | None:
    """Measure a vertebral body, starting from a rough frame.

    The body is what lies in front of the canal. Along its axis, columns one millimetre apart are followed
    from outside to where the smoothed bone begins; robust planes through these points are the end plates, and
    the mean of their normals is the axis of the next round.

    Returns
    -------
    Body or None
        None where no body can be made out.
    """
    for _ in range(rounds):
        canal = find_canal(bone, frame)
        if canal is not None:
            frame = Frame(frame.centre, square_axes(frame.axes[:, 2], frame.centre - canal))
        footprint = find_footprint(bone, frame, canal)
        columns = cast_columns(bone, frame, footprint)
        if len(columns.right) < FEWEST_COLUMNS:
            return None
        superior, inferior = (fit_plate(columns, ends) for ends in (columns.top, columns.bottom))
        frame = Frame(
            (superior.centre + inferior.centre) / 2, square_axes(superior.normal + inferior.normal, frame.axes[:, 1])
        )
    width, depth = (float(np.ptp(extent)) + STEP_MM for extent in (columns.right, columns.anterior))
    heights = _heights_between(bone, columns.frame, footprint, (superior, inferior))
    return Body(frame, superior, inferior, width, depth, canal, heights, columns.surface())


def measure_sacrum(bone: Silhouette, above: Frame, width_mm: float, depth_mm: float) -> EndPlate | None:
    """Find the upper end plate of a sacrum, starting below the body that stands on it.

    Parameters
    ----------
    above : Frame
        Frame at the lower end plate of the body above, which the sacral plate lies a disc's height below.
    width_mm, depth_mm : float
        Extents of that body: the middle of the sacral plate is looked for under the middle of them.

    Returns
    -------
    EndPlate or None
        None where the sacrum does not reach under the body.
    """
    sides = _sides(SACRAL_SHARE * width_mm, SACRAL_SHARE * depth_mm, SACRAL_REACH_MM, STEP_MM)
    right, anterior = np.meshgrid(*sides[:2], indexing="ij")
    ellipse = np.hypot(right / (SACRAL_SHARE * width_mm), anterior / (SACRAL_SHARE * depth_mm)) <= 1
    frame, plate = above, None
    for _ in range(ROUNDS):
        tops, _ = bone.ends(_lattice(frame, sides), ellipse, sides[2])
        column, row = np.nonzero(np.isfinite(tops))
        if len(column) < FEWEST_COLUMNS:
            return None
        top = tops[column, row]
        plate = fit_plate(Columns(frame, sides[0][column], sides[1][row], top, top), top)
        frame = Frame(plate.centre, square_axes(plate.normal, frame.axes[:, 1]))
        plate = _centred(bone, frame, plate, width_mm, depth_mm)
        frame = Frame(plate.centre, frame.axes)
    return plate


def _centred(bone: Silhouette, frame: Frame, plate: EndPlate, width_mm: float, depth_mm: float) -> EndPlate:
    """Move a sacral plate's centre half-way between its front and back edge: the body above may have slipped on it.

    An edge is where the bone's upper surface leaves the plane by ``EDGE_MM``, in the middle third of the width.
    """
    sides = _sides(width_mm / 6, depth_mm, SACRAL_REACH_MM, STEP_MM)
    solid = _look(bone, frame, sides) > 0.5
    top = solid.shape[2] - 1 - np.argmax(solid[:, :, ::-1], axis=2)
    on_plate = solid.any(axis=2) & (np.abs(sides[2][top]) < EDGE_MM)
    pieces, _ = ndimage.label(on_plate.mean(axis=0) > 0.5)
    middle = pieces[len(pieces) // 2]
    if not middle:
        return plate
    along = sides[1][pieces == middle]
    return EndPlate(frame.to_world(np.array([0.0, (along[0] + along[-1]) / 2, 0.0])), plate.normal)


def find_canal(bone: Silhouette, frame: Frame) -> Vector | None:
    """Find the centre of the canal: the hole that the bone's ring leaves when it is seen along its axis.

    Returns
    -------
    (3,) array or None
        World RAS, mm, at the body's height; None where the ring is not closed.
    """
    sides = _sides(HALF_WIDTH_MM, HALF_DEPTH_MM, 12.0, CANAL_STEP_MM)
    seen = bone.seen(_lattice(frame, sides), _shape(sides))
    holes = find_holes(seen)
    areas = holes[:, 0] * CANAL_STEP_MM**2
    right, anterior = (holes[:, 1:] - (np.array(seen.shape) - 1) / 2).T * CANAL_STEP_MM
    fitting = (anterior < -5.0) & (np.abs(right) < 10.0) & (areas > 20.0)
    if not fitting.any():
        return None
    best = np.argmax(np.where(fitting, areas, 0.0))
    return frame.to_world(np.array([right[best], anterior[best], 0.0]))


def find_footprint(bone: Silhouette, frame: Frame, canal: Vector | None) -> Bool[np.ndarray, "n m"]:
    """Outline the body at its waist, seen from above: the bone in front of the canal."""
    sides = _sides(HALF_WIDTH_MM, HALF_DEPTH_MM, 2.0, STEP_MM)
    waist = _look(bone, frame, sides).mean(axis=2) > 0.5
    right, anterior = np.meshgrid(*sides[:2], indexing="ij")
    waist &= anterior > _posterior_wall(waist, right, anterior, frame, canal)
    pieces, _ = ndimage.label(waist)
    middle = tuple((np.array(waist.shape) - 1) // 2)
    body = pieces == pieces[middle] if pieces[middle] else pieces > 0
    return body & (np.abs(right) <= _half_width(body, right, anterior))


def _half_width(
    body: Bool[np.ndarray, "n m"], right: Float[np.ndarray, "n m"], anterior: Float[np.ndarray, "n m"]
) -> float:
    """Half the width of a body, read in its front half: behind, transverse processes may join it (L5)."""
    if not body.any():
        return 0.0
    front = body & (anterior >= np.median(anterior[body]))
    return float(np.abs(right[front]).max())


def _posterior_wall(
    waist: Bool[np.ndarray, "n m"],
    right: Float[np.ndarray, "n m"],
    anterior: Float[np.ndarray, "n m"],
    frame: Frame,
    canal: Vector | None,
) -> float:
    """Where the body ends behind (mm in the frame): the front of the canal near the midline.

    Where the canal's ring is open (a broken arch), the midline is followed back from the centre to a gap as wide as a
    canal; the pieces of a broken body lie nearer together.
    """
    if canal is None:
        solid = np.flatnonzero((waist & (np.abs(right) < 5.0)).any(axis=0))
        behind = solid[solid <= waist.shape[1] // 2][::-1]
        apart = np.flatnonzero(-np.diff(behind) * STEP_MM > OPEN_CANAL_MM)
        return float(anterior[0, behind[apart[0] if len(apart) else -1]]) if len(behind) else -HALF_DEPTH_MM
    start = float((canal - frame.centre) @ frame.axes[:, 1])
    midline = waist & (np.abs(right) < 5.0) & (anterior > start)
    return float(np.quantile(anterior[midline], 0.02)) if midline.any() else start


def cast_columns(bone: Silhouette, frame: Frame, footprint: Bool[np.ndarray, "n m"]) -> Columns:
    """Follow the columns of a footprint from above and below to where occupancy passes 0.5 (linear between samples)."""
    sides = _sides(HALF_WIDTH_MM, HALF_DEPTH_MM, HALF_HEIGHT_MM, STEP_MM)
    top, bottom = bone.ends(_lattice(frame, sides), footprint, sides[2])
    column, row = np.nonzero(np.isfinite(top) & np.isfinite(bottom))
    return Columns(frame, sides[0][column], sides[1][row], top[column, row], bottom[column, row])


def fit_plate(columns: Columns, ends: Float[np.ndarray, " n"]) -> EndPlate:
    """Lay a plane through the ends of columns, by least squares reweighted after Tukey (biweight)."""
    right, anterior = columns.right.mean(), columns.anterior.mean()
    height, across, along = fit_plane(columns.right - right, columns.anterior - anterior, ends, PLATE_TOLERANCE_MM)
    centre = columns.frame.to_world(np.array([right, anterior, height]))
    normal = columns.frame.axes @ (np.array([-across, -along, 1.0]) / np.sqrt(1 + across**2 + along**2))
    return EndPlate(centre, normal)


def _heights_between(
    bone: Silhouette, frame: Frame, footprint: Bool[np.ndarray, "n m"], plates: tuple[EndPlate, EndPlate]
) -> BodyHeights:
    """Read the heights between two plates, which reach beyond the footprint of the waist."""
    wider = ndimage.binary_dilation(footprint, np.ones((3, 3)), iterations=round(BEYOND_MM / STEP_MM))
    columns = cast_columns(bone, frame, wider)
    normals = np.stack([plate.normal for plate in plates]) @ frame.axes
    spots = np.column_stack([columns.right, columns.anterior]) / STEP_MM
    return measure_heights(spots, np.stack([columns.top, columns.bottom]), -STEP_MM * normals[:, :2] / normals[:, 2:])


def _sides(width: float, depth: float, height: float, step: float) -> list[Float[np.ndarray, " n"]]:
    """Coordinates of a lattice along right, anterior and superior (mm), symmetric about the origin."""
    return [np.arange(-np.floor(half / step), np.floor(half / step) + 1) * step for half in (width, depth, height)]


def _look(bone: Silhouette, frame: Frame, sides: list[Float[np.ndarray, " n"]]) -> Float[np.ndarray, "n m h"]:
    """Occupancy on a lattice of even spacing in a frame."""
    return bone.sample(_lattice(frame, sides), _shape(sides))


def _lattice(frame: Frame, sides: list[Float[np.ndarray, " n"]]) -> Float[np.ndarray, "4 4"]:
    """World from the indices of a lattice of even spacing in a frame."""
    world_from_lattice = np.eye(4)
    world_from_lattice[:3, :3] = frame.axes * [side[1] - side[0] for side in sides]
    world_from_lattice[:3, 3] = frame.to_world(np.array([side[0] for side in sides]))
    return world_from_lattice


def _shape(sides: list[Float[np.ndarray, " n"]]) -> tuple[int, int, int]:
    return len(sides[0]), len(sides[1]), len(sides[2])
