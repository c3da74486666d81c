"""A plan: which parts of which bones move, along which way, and which tissue changes with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation, Slerp

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, read_only
from spinesim.anatomy.stretch import split_stretch
from spinesim.errors import PathologyError

Points = Float[np.ndarray, "n 3"]

Where = Callable[[Points], Bool[np.ndarray, " n"]]
"""Tells which points (mm, in a vertebra's frame at rest) belong to something."""


KNOTS = 17
"""Times at which the way of an anchor is written down between rest and the end."""


TORN_DENSITY = (0.7, 0.4)
"""Density below which stretched tissue begins to tear, and below which it is wholly torn."""


SCARRED_HU = (40.0, 100.0)
"""How far tissue differs from scar (HU) where it begins to be taken for something else, and where it wholly is."""


class Part(Enum):
    """Part of a vertebra that moves as one. The bone as a whole goes where its arch goes."""

    WHOLE = "whole"
    SUPERIOR = "superior end plate"
    INFERIOR = "inferior end plate"
    ARCH = "posterior arch"
    FRAGMENT = "fragment"
    SIDE = "side that swells"
    PROCESS = "broken process"


@dataclass(frozen=True, eq=False)
class Motion:
    """A motion in the world (RAS, mm) from t = 0 (rest) to t = 1, given at even times: rigid, or growth.

    Parameters
    ----------
    pivot : (3,) array
        The point at rest whose way is followed between the knots (a vertebra's centre).
    knots : (n, 4, 4) array
        ``new_from_old`` at t = 0, 1/(n-1), ..., 1; the first is the identity.
    """

    pivot: Float[np.ndarray, " 3"]
    knots: Float[np.ndarray, "n 4 4"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "knots", read_only(self.knots))

    @property
    def last(self) -> Float[np.ndarray, "4 4"]:
        """The whole motion, ``new_from_old`` at t = 1."""
        return self.knots[-1]

    def at(self, times: Float[np.ndarray, " m"]) -> Float[np.ndarray, "m 4 4"]:
        """Interpolate between the knots: turns along their geodesic, stretches and the pivot along straight lines."""
        even = np.linspace(0, 1, len(self.knots))
        places = apply_motions(self.knots, self.pivot)
        turns, stretches = split_stretch(self.knots[:, :3, :3])
        linear = Slerp(even, Rotation.from_matrix(turns))(times).as_matrix()
        if stretches is not None:
            entries = [np.interp(times, even, entry) for entry in stretches.reshape(-1, 9).T]
            linear = linear @ np.column_stack(entries).reshape(-1, 3, 3)
        reached = np.column_stack([np.interp(times, even, column) for column in places.T])
        return motions_about(linear, self.pivot, reached)

    def then(self, later: Motion) -> Motion:
        """Go this way first, and on by a later motion; the knots of both stay even in time."""
        return Motion(self.pivot, np.concatenate([self.knots, (later.knots @ self.last)[1:]]))


@dataclass(frozen=True, eq=False)
class Anchor:
    """A part of a level and its motion; ``where`` outlines the part, if it is not the usual one of that name.

    A part of a broken bone ``yields``: it gives way where neighbours that are whole come by, and they stay as they are.
    """

    level: Level
    part: Part
    motion: Motion
    where: Where | None = None
    yields: bool = False


@dataclass(frozen=True, eq=False)
class Region:
    """What moves and is no part of a vertebra: ``where`` holds for its points at rest (world, mm), inside a ball."""

    centre: Float[np.ndarray, " 3"]
    radius_mm: float
    where: Where
    motion: Motion


@dataclass(frozen=True, eq=False)
class Squeezed:
    """What a tissue change sees of voxels of the result, row by row.

    ``rest`` is where they come from (mm, in the vertebra's frame at rest), ``hu`` what the warp gave them, ``mean_hu``
    the same without the noise, ``density`` how many times their tissue was compressed (below 1: stretched).
    """

    rest: Points
    hu: Float[np.ndarray, " n"]
    mean_hu: Float[np.ndarray, " n"]
    density: Float[np.ndarray, " n"]

    def condensed(self, density: Float[np.ndarray, " n"], share: float = 1.0) -> Float[np.ndarray, " n"]:
        """HU of bone whose mineral is so many times as dense, for a share of the difference; the noise stays.

        The mineral stays where the marrow is pressed out, so that HU over water are multiplied (``fracture.csv``:
        HU_new = HU0 h0 / h).
        """
        return self.hu + share * (density - 1) * np.maximum(self.mean_hu, 0.0)

    def torn(self, hu: float) -> Float[np.ndarray, " n"]:
        """HU where tissue is torn apart and something else fills the gap; the noise stays."""
        begins, whole = TORN_DENSITY
        return self.filled(hu, np.clip((begins - self.density) / (begins - whole), 0.0, 1.0))

    def scarred(self, hu: float) -> Float[np.ndarray, " n"]:
        """HU where scar takes the place of all that is neither muscle nor disc; what was there leaves no trace."""
        begins, whole = SCARRED_HU
        share = np.clip((np.abs(self.hu - hu) - begins) / (whole - begins), 0.0, 1.0)
        return self.hu + share * (hu - self.hu)

    def filled(self, hu: float, share: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """HU where something else takes the place of a share of the tissue; the noise stays."""
        return self.hu + share * (hu - self.mean_hu)


@dataclass(frozen=True, eq=False)
class Tissue:
    """A change of the CT in the bone of a level, or, with ``where``, in what is no bone there.

    ``become`` gives the new HU of its voxels. Where ``ossified`` holds too, they become bone of the level, as far as
    they hang together with it; whatever label they had, unless it is a level. With ``stretched`` it is only where
    tissue is drawn out, in some direction, to more than so many times its length.
    """

    level: Level
    become: Callable[[Squeezed], Float[np.ndarray, " n"]]
    where: Where | None = None
    ossified: Where | None = None
    stretched: float | None = None

    def told_at_rest(self, grown: Float[np.ndarray, "3 3"] | None) -> Tissue:
        """The same, told of a vertebra that has grown: it sees where its voxels were then, and no growth."""
        if grown is None:
            return self
        larger = float(np.linalg.det(grown))

        def become(seen: Squeezed) -> Float[np.ndarray, " n"]:
            return self.become(replace(seen, rest=seen.rest @ grown.T, density=larger * seen.density))

        places = _before(self.where, grown), _before(self.ossified, grown)
        return Tissue(self.level, become, *places, self.stretched)


def _before(where: Where | None, grown: Float[np.ndarray, "3 3"] | None) -> Where | None:
    """What holds for points where a vertebra has grown, told of where they are at rest."""
    if where is None or grown is None:
        return where
    return lambda points: where(points @ grown.T)


@dataclass(frozen=True, eq=False)
class Mass:
    """Something that grows inside a structure: on the result it takes the voxels that it reaches first.

    Parameters
    ----------
    name : str
        What it is called among the measures.
    structure : Level or int
        The level, or the number of another label, that it stays inside.
    centre : (3,) array
        Where it grows from: in a vertebra's frame at rest, or in the world, mm.
    volume_ml : float
        Its volume on the result.
    reach : callable
        Size (mm) at which it comes to points that are given as the centre is: what it reaches first it takes first.
    become : callable
        HU inside it, of voxels that it sees and of their reach as a share of that of its surface.
    cortex_mm : float
        It keeps so far from the surface of its structure.
    breach : bool
        Whether it also takes what is no bone beyond that surface.
    """

    name: str
    structure: Level | int
    centre: Float[np.ndarray, " 3"]
    volume_ml: float
    reach: Callable[[Points], Float[np.ndarray, " n"]]
    become: Callable[[Squeezed, Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]
    cortex_mm: float = 0.0
    breach: bool = False

    def number_in(self, labels: LabelMap) -> int:
        """The number of its structure in a label map, 0 for a level that is not there."""
        return labels.numbers.get(self.structure, 0) if isinstance(self.structure, Level) else self.structure


@dataclass(frozen=True, eq=False)
class Plan:
    """All anchors of a deformation; what is between them follows.

    ``tissues`` change after the warp, in their order, and ``masses`` grow after them. ``detail_mm`` is the finest shape
    that the anchors make, if they make one. The space around the patient holds still, unless it is given a motion
    (``around``), or the trunk ``bends`` with the spine: then its outline goes where levels go forward and backward.
    ``regions`` move beside the anchors.
    """

    anchors: tuple[Anchor, ...]
    tissues: tuple[Tissue, ...] = ()
    detail_mm: float = np.inf
    around: Motion | None = None
    masses: tuple[Mass, ...] = ()
    regions: tuple[Region, ...] = ()
    bends: bool = False

    @property
    def travel_mm(self) -> float:
        """The farthest that a pivot of an anchor goes, along its way."""
        ways = [np.diff(apply_motions(a.motion.knots, a.motion.pivot), axis=0) for a in self.anchors]
        return max((float(np.linalg.norm(way, axis=1).sum()) for way in ways), default=0.0)

    def stretches(self) -> dict[Level, Float[np.ndarray, "3 3"]]:
        """How each level that grows is stretched at rest (world); those that keep their form are left out."""
        whole = {a.level: a.motion.last[:3, :3] for a in self.anchors if a.part in (Part.WHOLE, Part.ARCH)}
        found = {level: split_stretch(linear)[1] for level, linear in whole.items()}
        return {level: stretch for level, stretch in found.items() if stretch is not None}

    def told_at_rest(self, grown: Mapping[Level, Float[np.ndarray, "3 3"]]) -> Plan:
        """The same plan, made for vertebrae that have grown, with its parts and tissues told in their frames at rest.

        ``grown`` carries points of such a frame to that of the vertebra when it has grown.
        """
        anchors = tuple(replace(a, where=_before(a.where, grown.get(a.level))) for a in self.anchors)
        return replace(self, anchors=anchors, tissues=tuple(t.told_at_rest(grown.get(t.level)) for t in self.tissues))

    def then(self, later: Plan) -> Plan:
        """Follow this plan, and then a later one that was made for the spine that it leads to.

        A level that one of them divides moves in parts all along; ``where`` of a part is said in the vertebra's own
        frame, which moves with it.

        Raises
        ------
        PathologyError
            When both divide one level, they have not the same levels, or one moves what is no vertebra.
        """
        anchors: list[Anchor] = []
        for level in dict.fromkeys(anchor.level for anchor in (*self.anchors, *later.anchors)):
            first, second = ([a for a in plan.anchors if a.level == level] for plan in (self, later))
            if all(any(anchor.part is not Part.WHOLE for anchor in anchors) for anchors in (first, second)):
                raise PathologyError(
                    f"plan: expected one pathology to change the shape of {level.name}, got two; "
                    "ask for one of them, or for another level"
                )
            if not first or not second:
                raise PathologyError(f"plan: expected both parts to move {level.name}, got one; plan them on one spine")
            for a, b in itertools.product(first, second):
                which = b if a.part is Part.WHOLE else a
                anchors.append(replace(which, motion=a.motion.then(b.motion)))
        detail = min(self.detail_mm, later.detail_mm)
        if self.regions or later.regions:
            raise PathologyError(
                "plan: expected parts of vertebrae to move where several pathologies are planned, got a region of "
                "another structure; simulate that one by itself"
            )
        around = None
        if self.around or later.around:
            still = Motion(np.zeros(3), hold_still())
            around = (self.around or still).then(later.around or still)
        changes = (*self.tissues, *later.tissues), detail, around, (*self.masses, *later.masses)
        return Plan(tuple(anchors), *changes, bends=self.bends or later.bends)


def even_motion(
    pivot: Float[np.ndarray, " 3"], turn: Float[np.ndarray, " 3"] | None, shift_mm: Float[np.ndarray, " 3"] | None
) -> Float[np.ndarray, "k 4 4"]:
    """Knots of an even motion: a turn (rotation vector) about a point that is carried by a shift meanwhile."""
    share, none = np.linspace(0, 1, KNOTS)[:, None], np.zeros(3)
    turns = Rotation.from_rotvec(share * (none if turn is None else turn)).as_matrix()
    return motions_about(turns, pivot, pivot + share * (none if shift_mm is None else shift_mm))


def hold_still() -> Float[np.ndarray, "k 4 4"]:
    """Knots of what does not move."""
    return np.tile(np.eye(4), (KNOTS, 1, 1))


def apply_motions(new_from_old: Float[np.ndarray, "n 4 4"], point: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "n 3"]:
    """Carry one point through several motions."""
    return new_from_old[:, :3, :3] @ point + new_from_old[:, :3, 3]


def motions_about(
    turns: Float[np.ndarray, "n 3 3"], old: Float[np.ndarray, "*n 3"], new: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 4 4"]:
    """Motions that turn about old points (one for all, or one each) and carry them to new ones."""
    motions = np.tile(np.eye(4), (len(turns), 1, 1))
    motions[:, :3, :3] = turns
    motions[:, :3, 3] = new - np.einsum("nij,nj->ni", turns, np.broadcast_to(old, new.shape))
    return motions
