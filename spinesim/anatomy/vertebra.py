"""A vertebra, its end plates, and the spine that they make."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.stretch import split_stretch

Vector = Float[np.ndarray, " 3"]


@dataclass(frozen=True, eq=False)
class EndPlate:
    """The plane of an end plate: its centre (world RAS, mm) and its unit normal, which points up."""

    centre: Vector
    normal: Vector

    def moved(self, new_from_old: Float[np.ndarray, "4 4"]) -> EndPlate:
        """Carry the plane through a motion."""
        turn, stretch = split_stretch(new_from_old[:3, :3])
        normal = turn @ (self.normal if stretch is None else unit(np.linalg.solve(stretch, self.normal)))
        return EndPlate(new_from_old[:3, :3] @ self.centre + new_from_old[:3, 3], normal)


@dataclass(frozen=True)
class BodyHeights:
    """Heights of a vertebral body in mm, at its front, middle, back, left and right (the patient's)."""

    anterior: float
    middle: float
    posterior: float
    left: float
    right: float


@dataclass(frozen=True, eq=False)
class Vertebra:
    """A vertebra in the world (RAS, mm).

    ``axes`` holds the unit axes as columns: towards the patient's right, anterior, superior. ``centre`` is the centre
    of the body. A vertebra that the edge of the volume cuts has a pose (from its neighbours) but is not ``measured``
    and has no ``heights``: it moves, and that is all. Of a sacrum only the upper plate is measured. ``width_mm`` and
    ``depth_mm`` are the body's extents at its waist.
    """

    level: Level
    centre: Vector
    axes: Float[np.ndarray, "3 3"]
    superior: EndPlate
    inferior: EndPlate
    width_mm: float
    depth_mm: float
    canal: Vector | None = None
    heights: BodyHeights | None = None
    measured: bool = False

    @cached_property
    def world_from_vertebra(self) -> Float[np.ndarray, "4 4"]:
        """The vertebra's frame as an affine."""
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = self.axes, self.centre
        return affine

    @property
    def body_mm(self) -> float:
        """Distance of the end plates' centres along the axis."""
        return float((self.superior.centre - self.inferior.centre) @ self.axes[:, 2])

    @property
    def back_mm(self) -> float:
        """Where the body ends behind, in the vertebra's frame: the arch lies beyond it."""
        return -self.depth_mm / 2

    def moved(
        self,
        new_from_old: Float[np.ndarray, "4 4"],
        superior: Float[np.ndarray, "4 4"] | None = None,
        inferior: Float[np.ndarray, "4 4"] | None = None,
    ) -> Vertebra:
        """Carry the vertebra through a motion; its end plates through their own, if they have one (wedging)."""
        linear, shift = new_from_old[:3, :3], new_from_old[:3, 3]
        turn, stretch = split_stretch(linear)
        moved = replace(
            self,
            centre=linear @ self.centre + shift,
            axes=turn @ self.axes,
            superior=self.superior.moved(new_from_old if superior is None else superior),
            inferior=self.inferior.moved(new_from_old if inferior is None else inferior),
            canal=None if self.canal is None else linear @ self.canal + shift,
        )
        return moved if stretch is None else moved._stretched(self.axes.T @ stretch @ self.axes)

    def _stretched(self, own: Float[np.ndarray, "3 3"]) -> Vertebra:
        """The same with the sizes that a stretch along its own axes gives it."""
        width, depth, height = np.diag(own)
        heights = self.heights and BodyHeights(**{place: height * mm for place, mm in asdict(self.heights).items()})
        return replace(self, width_mm=width * self.width_mm, depth_mm=depth * self.depth_mm, heights=heights)


@dataclass(frozen=True, eq=False)
class Spine:
    """Vertebrae from the head down, and the sacrum's plate if it was found."""

    vertebrae: tuple[Vertebra, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.vertebrae, key=lambda vertebra: vertebra.level))
        object.__setattr__(self, "vertebrae", ordered)

    def __iter__(self) -> Iterator[Vertebra]:
        return iter(self.vertebrae)

    def __len__(self) -> int:
        return len(self.vertebrae)

    def __contains__(self, level: object) -> bool:
        return any(vertebra.level == level for vertebra in self.vertebrae)

    def __getitem__(self, level: Level) -> Vertebra:
        for vertebra in self.vertebrae:
            if vertebra.level == level:
                return vertebra
        raise KeyError(level)

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels from the head down."""
        return tuple(vertebra.level for vertebra in self.vertebrae)

    @cached_property
    def whole(self) -> tuple[Vertebra, ...]:
        """The vertebrae that can be measured, without the sacrum."""
        return tuple(v for v in self.vertebrae if v.measured and v.level != Level.S)

    @cached_property
    def patient_axes(self) -> Float[np.ndarray, "3 3"]:
        """The patient's right, anterior and superior as unit columns, found from the spine itself.

        Superior runs along the chord from the lowest to the highest whole body; right is the mean of the
        vertebrae's own right, made square to it. So moving the patient in the scanner moves no angle.
        """
        whole = self.whole
        superior = unit(whole[0].centre - whole[-1].centre) if len(whole) > 1 else whole[0].axes[:, 2]
        right = np.sum([vertebra.axes[:, 0] for vertebra in whole], axis=0)
        right = unit(right - (right @ superior) * superior)
        return np.column_stack([right, np.cross(superior, right), superior])


def unit(vector: Vector) -> Vector:
    """Scale a vector to length one."""
    return vector / np.linalg.norm(vector)


def square_axes(up: Vector, forward: Vector) -> Float[np.ndarray, "3 3"]:
    """Build unit axes right, anterior, superior (columns) from a way up and a rough way forward."""
    superior = unit(up)
    anterior = unit(forward - (forward @ superior) * superior)
    return np.column_stack([np.cross(anterior, superior), anterior, superior])
