"""Many rods with their boxes, so that only those near a slab are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.boxes import Box
from spinesim.phantom.raster import Axes
from spinesim.phantom.solids import Rod

REACH_MM = 4.0
"""Room round a rod in which its distance is evaluated."""

FAR_MM = np.float32(30.0)


@dataclass(frozen=True, eq=False)
class Bundle:
    """Rods, and the corners of a box round each, millimetres."""

    rods: tuple[Rod, ...]
    low: Float[np.ndarray, "n 3"]
    high: Float[np.ndarray, "n 3"]

    def near(self, axes: Axes) -> Iterator[tuple[Rod, Box]]:
        """Give the rods whose box meets a block of voxels, and the voxels in it."""
        met = (self.high[:, 2] >= axes.z[0]) & (self.low[:, 2] <= axes.z[-1])
        for n in np.flatnonzero(met):
            (x0, y0, z0), (x1, y1, z1) = self.low[n], self.high[n]
            box = axes.box((x0, y0, z0), (x1, y1, z1))
            if box is not None:
                yield self.rods[n], box

    def distance(self, axes: Axes) -> np.ndarray:
        """Signed distance to all rods together, capped at ``FAR_MM``; right to ``REACH_MM`` from them."""
        distance = np.full(axes.shape, FAR_MM, dtype=np.float32)
        for rod, box in self.near(axes):
            np.minimum(distance[box], rod.distance(*axes.open(box)), out=distance[box])
        return distance


def bundle(rods: Sequence[Rod]) -> Bundle:
    """Put rods together."""
    reach = np.array([max(*rod.start_radii, *rod.end_radii) + REACH_MM for rod in rods])[:, None]
    starts, ends = np.array([rod.start for rod in rods]), np.array([rod.end for rod in rods])
    return Bundle(tuple(rods), np.minimum(starts, ends) - reach, np.maximum(starts, ends) + reach)
