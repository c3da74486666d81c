"""Bend a chain of vertebrae: turn each one, and put the column together again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from spinesim.anatomy.plan import KNOTS, Anchor, Motion, Part, Plan, motions_about
from spinesim.anatomy.vertebra import Spine

RIM_GAP_MM = 0.0
"""Room kept between the rims of two bodies on the concave side, or the room they had if it was less.

They may touch, but not enter each other.
"""


@dataclass(frozen=True, eq=False)
class Bend:
    """What each vertebra of a spine is turned by, from the head down (radians, in the patient's axes).

    ``tilt`` leans a vertebra to the right, ``nod`` forward, ``turn`` turns its front to the right about its own long
    axis, ``wedge`` turns its superior plate by half of it to the right and its inferior plate by half of it to the
    left; ``front`` turns them so forward and back: the front of the body gets lower.
    """

    tilt: Float[np.ndarray, " n"]
    nod: Float[np.ndarray, " n"]
    turn: Float[np.ndarray, " n"]
    wedge: Float[np.ndarray, " n"]
    front: Float[np.ndarray, " n"]

    def scaled(self, share: float) -> Bend:
        """A part of the way."""
        return Bend(*(share * part for part in (self.tilt, self.nod, self.turn, self.wedge, self.front)))


@dataclass(frozen=True, eq=False)
class BentSpine:
    """Rigid motions ``new_from_old`` (world RAS, mm) of each vertebra and its plates, and how far discs were opened."""

    spine: Spine
    whole: Float[np.ndarray, "n 4 4"]
    superior: Float[np.ndarray, "n 4 4"]
    inferior: Float[np.ndarray, "n 4 4"]
    opened_mm: Float[np.ndarray, " m"]

    @property
    def moved(self) -> Spine:
        """The spine after the bend."""
        motions = zip(self.spine, self.whole, self.superior, self.inferior, strict=True)
        return replace(self.spine, vertebrae=tuple(v.moved(w, s, i) for v, w, s, i in motions))


def bend_spine(spine: Spine, bend: Bend) -> BentSpine:
    """Turn every vertebra and stack the column again from the lowest one, which keeps its place.

    Bodies and discs keep their heights along the centre line, so the length of the spine is kept. Only where a disc's
    wedge would drive the rims of two bodies into each other, the disc is opened until they clear each other by
    ``RIM_GAP_MM``.
    """
    turns = _rotations(spine, bend)
    right, anterior, _ = spine.patient_axes.T
    half = Rotation.from_rotvec(bend.wedge[:, None] / 2 * anterior - bend.front[:, None] / 2 * right)
    upper, lower = (half * turns).as_matrix(), (half.inv() * turns).as_matrix()
    centres, opened = _stack(spine, upper, lower)
    old = np.array([v.centre for v in spine])
    whole, superior, inferior = (motions_about(r, old, centres) for r in (turns.as_matrix(), upper, lower))
    return BentSpine(spine, whole, superior, inferior, opened)


def _rotations(spine: Spine, bend: Bend) -> Rotation:
    """Rotations of the vertebrae: first about their own long axes, then, in the patient's, forward and sideways."""
    right, anterior, _ = spine.patient_axes.T
    own = np.array([v.axes[:, 2] for v in spine])
    turn = Rotation.from_rotvec(-bend.turn[:, None] * own)
    nod = Rotation.from_rotvec(-bend.nod[:, None] * right)
    tilt = Rotation.from_rotvec(bend.tilt[:, None] * anterior)
    return tilt * nod * turn


def _stack(
    spine: Spine, upper: Float[np.ndarray, "n 3 3"], lower: Float[np.ndarray, "n 3 3"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " m"]]:
    """Centres of the turned vertebrae, and the opening of each disc, from the head down.

    ``upper`` and ``lower`` turn the upper and the lower half of each vertebra; a disc turns half-way between its
    plates.
    """
    centres = np.array([v.centre for v in spine])
    top = np.array([v.superior.centre for v in spine])
    bottom = np.array([v.inferior.centre for v in spine])
    up = np.array([v.inferior.normal for v in spine])[:-1]
    above, below = Rotation.from_matrix(lower[:-1]), Rotation.from_matrix(upper[1:])
    middle = above * Rotation.from_rotvec((above.inv() * below).as_rotvec() / 2)
    opened = _openings(spine, upper, lower)
    links = (
        below.apply(top[1:] - centres[1:])
        + middle.apply(bottom[:-1] - top[1:] + opened[:, None] * up)
        + above.apply(centres[:-1] - bottom[:-1])
    )
    stacked = centres[-1] + np.cumsum(links[::-1], axis=0)[::-1]
    return np.vstack([stacked, centres[-1]]), opened


def _openings(
    spine: Spine, upper: Float[np.ndarray, "n 3 3"], lower: Float[np.ndarray, "n 3 3"]
) -> Float[np.ndarray, " m"]:
    """How much each disc must be opened so that the rims of its bodies clear each other (mm)."""
    height, above, below, axes, reach = _rims(spine)
    new_above, new_below = np.einsum("nij,nj->ni", lower[:-1], above), np.einsum("nij,nj->ni", upper[1:], below)
    old = _rim_gaps(height, above, below, axes, reach)
    new = _rim_gaps(height, new_above, new_below, lower[:-1] @ axes, reach)
    return np.maximum(0.0, np.minimum(RIM_GAP_MM, old) - new)


def wedge_room(spine: Spine) -> Float[np.ndarray, " m"]:
    """Coronal angle of each disc at which the rims of its bodies meet, as high and as wedged from the side as it is.

    Radians, from the head down.
    """
    height, above, below, axes, reach = _rims(spine)
    forward = _slopes(above, below, axes)[:, 1] * reach[:, 1]
    return np.arctan(np.sqrt(np.maximum(height**2 - forward**2, 0.0)) / reach[:, 0])


def _rims(spine: Spine) -> tuple[Float[np.ndarray, "m ..."], ...]:
    """Of each disc: height (mm), normals above and below, axes of its upper level, semi-axes of its rim (mm)."""
    size = np.array([[v.width_mm, v.depth_mm] for v in spine])
    axes = np.array([v.axes for v in spine])[:-1]
    above, below = np.array([v.inferior.normal for v in spine])[:-1], np.array([v.superior.normal for v in spine])[1:]
    up = (above + below) / np.linalg.norm(above + below, axis=1, keepdims=True)
    gap = np.array([v.inferior.centre for v in spine])[:-1] - np.array([v.superior.centre for v in spine])[1:]
    return np.einsum("ni,ni->n", gap, up), above, below, axes, (size[:-1] + size[1:]) / 4


def _rim_gaps(
    height: Float[np.ndarray, " m"],
    above: Float[np.ndarray, "m 3"],
    below: Float[np.ndarray, "m 3"],
    axes: Float[np.ndarray, "m 3 3"],
    reach: Float[np.ndarray, "m 2"],
) -> Float[np.ndarray, " m"]:
    """Smallest room between two plates around their elliptic rim (mm), from their normals and the rim's semi-axes."""
    return height - np.hypot(*(_slopes(above, below, axes) * reach).T)


def _slopes(
    above: Float[np.ndarray, "m 3"], below: Float[np.ndarray, "m 3"], axes: Float[np.ndarray, "m 3 3"]
) -> Float[np.ndarray, "m 2"]:
    """How two plates slope against each other, to the right and forward, from their normals."""
    above, below = (np.einsum("nji,nj->ni", axes, normals) for normals in (above, below))
    return above[:, :2] / above[:, 2:] - below[:, :2] / below[:, 2:]


def plan_bend(spine: Spine, bend: Bend) -> Plan:
    """Write a bend down as anchors: one for a rigid vertebra, three for a wedged one."""
    bent = [bend_spine(spine, bend.scaled(share)) for share in np.linspace(0, 1, KNOTS)]
    anchors = []
    for rank, vertebra in enumerate(spine):
        parts = {Part.WHOLE: "whole"}
        if bend.wedge[rank] or bend.front[rank]:
            parts = {Part.SUPERIOR: "superior", Part.INFERIOR: "inferior", Part.ARCH: "whole"}
        for part, which in parts.items():
            knots = np.stack([getattr(b, which)[rank] for b in bent])
            anchors.append(Anchor(vertebra.level, part, Motion(vertebra.centre, knots)))
    return Plan(tuple(anchors))
