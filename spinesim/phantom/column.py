"""The spine's alignment: where each vertebra of the phantom stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level, region
from spinesim.phantom.individual import PLAIN, Variant
from spinesim.phantom.shapes import Shape
from spinesim.phantom.table import Dimensions, read_dimensions

SACRAL_SLOPE_DEG = 36.0
"""Tilt of the S1 end plate; 39.1 +- 6.7 in Scoliosis Spinal Disord 2018 (n = 69)."""

THORACIC_KYPHOSIS_DEG = 44.2
"""T1 to T12, Harrison 2002 (n = 80)."""

LUMBAR_SEGMENT_DEG = {Level.L1: 1.2, Level.L2: 5.9, Level.L3: 9.1, Level.L4: 12.7, Level.L5: 21.6}
"""Lordosis from a level's upper end plate to the next one's; sum 50.5.

Sci Rep 2022 s41598-022-21840-x Table 2 (n = 324).
"""

CERVICAL_DISC_DEG = 5.0
"""Lordosis of each cervical disc, so that C3 to C7 is gently lordotic (working value)."""


@dataclass(frozen=True)
class Pose:
    """Where a vertebra stands in the mid-sagittal plane: its centre and how far it leans forward.

    ``y_mm`` and ``z_mm`` are world RAS; ``lean`` is in radians, positive when the local z axis leans to the front.
    """

    y_mm: float
    z_mm: float
    lean: float

    def to_local(self, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Carry world y and z (broadcast together) to the local frame; x is the same in both."""
        c, s = np.float32(np.cos(self.lean)), np.float32(np.sin(self.lean))
        dy, dz = y - np.float32(self.y_mm), z - np.float32(self.z_mm)
        return c * dy - s * dz, s * dy + c * dz

    def to_world(self, y: float, z: float) -> tuple[float, float]:
        """Carry local y and z to the world."""
        c, s = np.cos(self.lean), np.sin(self.lean)
        return float(self.y_mm + c * y + s * z), float(self.z_mm - s * y + c * z)

    def moved(self, y: float, z: float, lean: float = 0.0) -> Pose:
        """Give the pose that stands at local (y, z) of this one and leans further by ``lean``."""
        return Pose(*self.to_world(y, z), self.lean + lean)


@dataclass(frozen=True)
class Column:
    """All vertebrae of the phantom from C3 to S: dimensions, poses and their small ways.

    World RAS with the middle of the S1 end plate at the origin; the spine lies in the plane x = 0.
    The pose of S stands on the S1 end plate, all others in the middle of the body.
    """

    dimensions: Mapping[Level, Dimensions]
    poses: Mapping[Level, Pose]
    variants: Mapping[Level, Variant] = field(default_factory=dict)
    shapes: Mapping[Level, Shape] = field(default_factory=dict)

    def variant(self, level: Level) -> Variant:
        """Give how a vertebra differs from its drawing."""
        return self.variants.get(level, PLAIN)

    @property
    def upwards(self) -> tuple[Dimensions, ...]:
        """Dimensions from L5 up to C3."""
        return tuple(self.dimensions.values())[::-1]

    def local_line(self, at_canal: bool = False) -> Float[np.ndarray, "n 2"]:
        """Give world (y, z) of the middle of every body, or of every canal, from L5 up."""
        rows = []
        for dims in self.upwards:
            rows.append(self.poses[dims.level].to_world(dims.canal_y if at_canal else 0.0, 0.0))
        return np.array(rows)


def body_wedge(dims: Dimensions) -> float:
    """Angle between the two end plates of a body, radians, positive when kyphotic (lower in front)."""
    return float(2 * np.arctan(-dims.slope / 2))


def disc_wedges(table: Mapping[Level, Dimensions]) -> dict[Level, float]:
    """Angle of the disc below each level, radians, positive when lower in front.

    The bodies' wedges come from their heights; the discs carry what is left of the published curvature.
    """
    thoracic = [level for level in table if region(level) == "thoracic"]
    left = np.deg2rad(THORACIC_KYPHOSIS_DEG) - sum(body_wedge(table[level]) for level in thoracic)
    wedges = {level: -np.deg2rad(CERVICAL_DISC_DEG) for level in table if region(level) == "cervical"}
    wedges |= {level: left / (len(thoracic) - 1) for level in thoracic} | {Level.T12: 0.0}
    return wedges | {
        level: -np.deg2rad(lordosis) - body_wedge(table[level]) for level, lordosis in LUMBAR_SEGMENT_DEG.items()
    }


def build_column(
    variants: Mapping[Level, Variant] | None = None, shapes: Mapping[Level, Shape] | None = None
) -> Column:
    """Stack the vertebrae from the sacrum up, disc by disc.

    Without ``variants`` each vertebra is its own mirror image, without ``shapes`` it is as it is drawn.
    """
    shapes = shapes or {}
    table = {level: shapes[level].dims if level in shapes else dims for level, dims in read_dimensions().items()}
    wedges = disc_wedges(table)
    plate = Pose(0.0, 0.0, float(np.deg2rad(SACRAL_SLOPE_DEG)))
    poses = {Level.S: plate}
    for level, dims in tuple(table.items())[::-1]:
        half = body_wedge(dims) / 2
        middle = plate.moved(0.0, 0.0, wedges[level] / 2)
        lower_plate = middle.moved(0.0, dims.disc_below, wedges[level] / 2)
        body = Pose(lower_plate.y_mm, lower_plate.z_mm, lower_plate.lean + half)
        poses[level] = body.moved(0.0, dims.height / 2)
        plate = poses[level].moved(0.0, dims.height / 2, half)
    return Column(table, MappingProxyType(dict(sorted(poses.items()))), variants or {}, shapes)
