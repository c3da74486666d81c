"""Break a vertebral body into pieces that move: plates that sink, a base that stands, fragments that are pushed out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

from spinesim.anatomy.plan import Part, Points, Where, even_motion, hold_still
from spinesim.anatomy.vertebra import EndPlate, Vertebra

Knots = Float[np.ndarray, "k 4 4"]

PLATE_MM, THINNEST_MM = 3.0, 1.2
"""Thickness of an end plate that moves as one, and what is left of it in a flat vertebra."""

BAND = 2.0
"""The bone under a plate is impacted this many times as deep as the plate sinks: to half its height, which adds
100 to 200 HU to trabecular bone over 2 to 5 mm (``fracture.csv``, descriptive)."""

JOINT_MM = 1.5
"""Bone left free between a moving plate and the rest of the body, at least."""

RIM_SHARE = 0.92
"""A biconcave plate is dished as far as this share of the half extents; outside the wall stands."""

RINGS = ((0.0, 0.3), (0.38, 0.54), (0.6, 0.7))
"""Of a dished plate a disc and rings (shares of the half extents) are led, each as far as its middle sinks."""

SEEN_SHARE = 0.88
"""Share of its extent over which the heights of a body's edges are measured: from the middle of one to the other's."""

HINGE_SHARE = 0.06
"""A wedged plate turns about a line so far inside its edge (share of its extent): the wall and its corner stand."""

TOWARDS = {"anterior": (0.0, 1.0), "right": (1.0, 0.0), "left": (-1.0, 0.0), "central": (0.0, 1.0)}
"""Where a plate sinks the most, in the vertebra's right and anterior."""

RETROPULSED = (0.55, 0.5, 0.45)
"""The fragment pushed into the canal: share of the half width, of the half depth where it begins, of the height."""

STEP_SHARE, STEP_MM = 0.6, 4.0
"""The corner that steps forward begins at this share of half the depth, and so far below the plate."""

LATTICE_MM, FEWEST_POINTS = 1.5, 24
"""A fragment that holds fewer points of such a lattice is none."""

CLEFT = (0.5, 0.35, 0.35)
"""A cleft: half extents as shares of the half width, half depth, and depth of the impacted bone."""


@dataclass(frozen=True)
class Break:
    """How a body breaks: the share of its height that is lost where it loses the most, and which plates sink for it."""

    type: Literal["wedge", "biconcave", "crush"]
    where: Literal["anterior", "left", "right", "central"]
    plates: tuple[bool, bool]
    lost: float


@dataclass(frozen=True)
class Displaced:
    """How far pieces leave their place (mm): into the canal, forward at the corner, and front half from back half."""

    retropulsion_mm: float = 0.0
    step_mm: float = 0.0
    split_mm: float = 0.0


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of the bone: where it is at rest (in the vertebra's frame), and its motion (world, RAS, mm)."""

    part: Part
    where: Where
    knots: Knots


@dataclass(frozen=True, eq=False)
class BrokenBody:
    """The pieces of a body and how they move (``new_from_old`` over time, world RAS, mm).

    ``superior`` and ``inferior`` are the motions of the plates as they are measured, ``above`` that of the spine above;
    ``turn`` is the whole turn of the latter (rotation vector, world). ``room_mm`` is what is left of the impacted bone
    where it is thinnest, ``in_cleft`` tells where a cleft may open.
    """

    pieces: tuple[Piece, ...]
    base: Knots
    superior: Knots
    inferior: Knots
    above: Knots
    turn: Float[np.ndarray, " 3"]
    sink_mm: float
    room_mm: float
    detail_mm: float
    in_cleft: Where


@dataclass(frozen=True, eq=False)
class _Sinking:
    """A plate that sinks into its body, in the vertebra's frame (mm).

    ``side`` is 1 for the superior plate and -1 for the inferior one. The plate sinks by ``middle`` at its middle and
    by ``slope`` (mm per mm, right and anterior) more away from it; with ``central`` it is dished inside its rim.
    """

    vertebra: Vertebra
    side: float
    middle: float
    slope: Float[np.ndarray, " 2"]
    central: bool
    plate_mm: float

    @cached_property
    def plane(self) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
        """A point and the normal of the plate."""
        v = self.vertebra
        plate: EndPlate = v.superior if self.side > 0 else v.inferior
        return v.axes.T @ (plate.centre - v.centre), v.axes.T @ plate.normal

    def beneath(self, points: Points) -> Float[np.ndarray, " n"]:
        """How far points lie inside the body from the plate's plane, along the axis."""
        centre, normal = self.plane
        height = centre[2] - (points[:, :2] - centre[:2]) @ normal[:2] / normal[2]
        return self.side * (height - points[:, 2])

    def sink(self, points: Points) -> Float[np.ndarray, " n"]:
        """How far the plate sinks over (or under) points."""
        flat = np.maximum(self.middle + points[:, :2] @ self.slope, 0.0)
        return flat * _dish(self.radius(points)) if self.central else flat

    def radius(self, points: Points) -> Float[np.ndarray, " n"]:
        """How far points lie from the axis of the body, in shares of its half extents."""
        half = np.array([self.vertebra.width_mm, self.vertebra.depth_mm]) / 2
        return np.linalg.norm(points[:, :2] / half, axis=1)

    def parts(self) -> list[tuple[Where, Knots]]:
        """What is led of the plate, and its motion against the base: all of it, or the rings of a dish."""

        def ring(inner: float, outer: float) -> Where:
            return lambda points: self._near(points) & (self.radius(points) >= inner) & (self.radius(points) <= outer)

        if not self.central:
            return [(self._near, self.knots())]
        shares = [float(_dish((inner + outer) / 2 if inner else 0.0)) for inner, outer in RINGS]
        return [
            (ring(*sides), replace(self, middle=share * self.middle).knots())
            for sides, share in zip(RINGS, shares, strict=True)
        ]

    def _near(self, points: Points) -> Bool[np.ndarray, " n"]:
        """Which points belong to the plate."""
        return (self.beneath(points) < self.plate_mm) & (self.sink(points) > 0)

    def frees(self, points: Points, room_mm: float) -> Bool[np.ndarray, " n"]:
        """Which points are in the plate or in the bone that it impacts, ``room_mm`` deep at most."""
        band = np.clip(BAND * self.sink(points), JOINT_MM, max(room_mm, JOINT_MM))
        freed = self.beneath(points) < self.plate_mm + band
        return freed & (self.radius(points) < RIM_SHARE) if self.central else freed

    def knots(self) -> Knots:
        """The plate's motion against the base, in the vertebra's frame: about the line where it sinks the least."""
        steep = max(float(np.linalg.norm(self.slope)), 1e-12)
        towards = self.slope / steep
        edge = float(np.array([self.vertebra.width_mm, self.vertebra.depth_mm]) / 2 @ np.abs(towards))
        across = min(edge, self.middle / steep)
        hinge = np.append(-across * towards, 0.0)
        hinge[2] = self.side * self.beneath(hinge[None])[0]
        turn = np.arctan(steep) * self.side * np.array([-towards[1], towards[0], 0.0])
        return even_motion(hinge, turn, np.array([0.0, 0.0, -self.side * (self.middle - steep * across)]))


def break_body(vertebra: Vertebra, how: Break, displaced: Displaced) -> BrokenBody:
    """Break a whole vertebra's body.

    A plate and the bone close to it move as one; under it the bone is impacted, twice as deep as the plate sinks; the
    rest of the body and the arch stand as the base. Of two plates each sinks by half.

    Parameters
    ----------
    vertebra : Vertebra
        Measured, with heights.
    how : Break
        Type, place, plates and loss.
    displaced : Displaced
        What else leaves its place.
    """
    sinking = _sinking_plates(vertebra, how)
    plate_mm = sinking[0].plate_mm
    room = (vertebra.body_mm - 2 * plate_mm - JOINT_MM) / len(sinking)
    edges = vertebra.depth_mm / 2, vertebra.width_mm / 2
    corners = np.array([[x, y, 0.0] for x in (-edges[1], 0, edges[1]) for y in (-edges[0], 0, edges[0])])
    sink = max(float(plate.sink(corners).max()) for plate in sinking)
    world, local = vertebra.world_from_vertebra, np.linalg.inv(vertebra.world_from_vertebra)
    still = hold_still()
    relative = {plate.side: plate.knots() for plate in sinking}
    central = how.type == "biconcave"
    base = still if central or -1.0 not in relative else np.linalg.inv(relative[-1.0])
    superior = base @ relative.get(1.0, still)
    inferior = relative.get(-1.0, still) if central else still
    moves = {1.0: superior, -1.0: inferior}

    def behind(points: Points) -> Bool[np.ndarray, " n"]:
        return points[:, 1] < vertebra.back_mm

    def standing(points: Points) -> Bool[np.ndarray, " n"]:
        freed = np.any([plate.frees(points, room) for plate in sinking], axis=0)
        return behind(points) | ~freed

    pieces = [Piece(Part.ARCH, standing, base)]
    for plate in sinking:
        part = Part.SUPERIOR if plate.side > 0 else Part.INFERIOR
        for where, knots in plate.parts():
            pieces.append(Piece(part, _both(where, _not(behind)), knots if central else moves[plate.side]))
    pieces = _displace(pieces, vertebra, displaced)
    above = base if central else superior
    turn = Rotation.from_matrix(above[-1, :3, :3]).as_rotvec()
    return BrokenBody(
        tuple(Piece(piece.part, piece.where, world @ piece.knots @ local) for piece in pieces),
        world @ base @ local,
        world @ superior @ local,
        world @ inferior @ local,
        world @ above @ local,
        vertebra.axes @ turn,
        sink,
        room - sink,
        plate_mm / 2,
        _cleft(vertebra, sinking[0], room),
    )


def _sinking_plates(vertebra: Vertebra, how: Break) -> list[_Sinking]:
    """The plates that sink, and how: together they take what is lost."""
    heights = vertebra.heights
    if heights is None:
        raise ValueError("expected a measured vertebra")
    sides = [side for side, broke in zip((1.0, -1.0), how.plates, strict=True) if broke]
    share = how.lost / len(sides)
    plate_mm = float(np.clip((1 - how.lost) * heights.middle / 4, THINNEST_MM, PLATE_MM))
    extent = vertebra.width_mm if how.where in ("left", "right") else vertebra.depth_mm
    towards = np.array(TOWARDS[how.where])
    if how.type == "biconcave":
        middle, slope = share * heights.middle, 0.0
    elif how.type == "crush":
        front, back = share * heights.anterior, share * heights.posterior
        middle, slope = (front + back) / 2, (front - back) / (SEEN_SHARE * extent)
    else:
        lowest = share * getattr(heights, how.where)
        slope = lowest / (((1 + SEEN_SHARE) / 2 - HINGE_SHARE) * extent)
        middle = slope * (1 / 2 - HINGE_SHARE) * extent
    return [_Sinking(vertebra, side, middle, slope * towards, how.type == "biconcave", plate_mm) for side in sides]


def _displace(pieces: list[Piece], vertebra: Vertebra, displaced: Displaced) -> list[Piece]:
    """Take the fragments out of the pieces that they were part of, and move them further."""
    half_width, half_depth = vertebra.width_mm / 2, vertebra.depth_mm / 2
    top = vertebra.axes.T @ (vertebra.superior.centre - vertebra.centre)
    height = vertebra.body_mm

    def retropulsed(points: Points) -> Bool[np.ndarray, " n"]:
        across, along, up = points.T
        back = (along < -RETROPULSED[1] * half_depth) & (along > -half_depth - JOINT_MM)
        return back & (np.abs(across) < RETROPULSED[0] * half_width) & (up > top[2] - RETROPULSED[2] * height)

    def stepped(points: Points) -> Bool[np.ndarray, " n"]:
        return (points[:, 1] > STEP_SHARE * half_depth) & (points[:, 2] > top[2] - STEP_MM)

    def front(points: Points) -> Bool[np.ndarray, " n"]:
        return points[:, 1] > displaced.split_mm / 2

    def seam(points: Points) -> Bool[np.ndarray, " n"]:
        return np.abs(points[:, 1]) <= displaced.split_mm / 2

    both = Part.SUPERIOR, Part.ARCH
    if displaced.step_mm:
        pieces = _torn(pieces, stepped, np.array([0.0, displaced.step_mm, 0.0]), both)
    if displaced.retropulsion_mm:
        pieces = _torn(pieces, retropulsed, np.array([0.0, -displaced.retropulsion_mm, 0.0]), both)
    if displaced.split_mm:
        pieces = [Piece(p.part, _both(p.where, _not(seam)), p.knots) for p in pieces]
        pieces = _torn(pieces, front, np.array([0.0, displaced.split_mm, 0.0]), tuple(Part))
    sides = [np.arange(-half, half, LATTICE_MM) for half in (half_width, half_depth, height / 2)]
    lattice = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 3)
    return [p for p in pieces if p.part is not Part.FRAGMENT or np.count_nonzero(p.where(lattice)) >= FEWEST_POINTS]


def _torn(pieces: list[Piece], away: Where, shift_mm: Float[np.ndarray, " 3"], parts: tuple[Part, ...]) -> list[Piece]:
    """Tear what lies ``away`` off some parts; each fragment moves as its piece does, and by a shift besides."""
    moved = even_motion(np.zeros(3), None, shift_mm)
    found = []
    for piece in pieces:
        if piece.part not in parts:
            found.append(piece)
            continue
        found.append(Piece(piece.part, _both(piece.where, _not(away)), piece.knots))
        found.append(Piece(Part.FRAGMENT, _both(piece.where, away), piece.knots @ moved))
    return found


def _cleft(vertebra: Vertebra, plate: _Sinking, room_mm: float) -> Where:
    """An ellipsoid in the front half of the impacted bone."""
    half = np.array([vertebra.width_mm, vertebra.depth_mm]) / 2
    centre = np.array([0.0, half[1] / 2, 0.0])
    band = float(np.clip(BAND * plate.sink(centre[None])[0], JOINT_MM, max(room_mm, JOINT_MM)))

    def inside(points: Points) -> Bool[np.ndarray, " n"]:
        flat = (points[:, :2] - centre[:2]) / (half * CLEFT[:2])
        deep = (plate.beneath(points) - plate.plate_mm - band / 2) / (CLEFT[2] * band)
        return (flat**2).sum(axis=1) + deep**2 < 1

    return inside


def _dish(radius: Float[np.ndarray, " n"] | float) -> Float[np.ndarray, " n"]:
    """Share that a dished plate sinks at a radius (shares of the half extents): flat in the middle, 0 at the rim."""
    return np.maximum(1.0 - np.power(radius / RIM_SHARE, 3), 0.0)


def _both(one: Where, other: Where) -> Where:
    return lambda points: one(points) & other(points)


def _not(where: Where) -> Where:
    return lambda points: ~where(points)
