"""A closed surface of even triangles: the skin of a vertebra, in a frame of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from spinesim.anatomy.scan import read_only
from spinesim.errors import GeometryError


@dataclass(frozen=True, eq=False)
class Surface:
    """Vertices (mm) and the triangles between them, seen anticlockwise from outside.

    Raises
    ------
    GeometryError
        When an edge does not lie between two triangles: the surface has a hole, or crosses itself.
    """

    vertices: Float[np.ndarray, "v 3"]
    triangles: Int[np.ndarray, "t 3"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", read_only(self.vertices))
        object.__setattr__(self, "triangles", read_only(self.triangles))
        _, shared = np.unique(self.edges, axis=0, return_inverse=True)
        count = np.bincount(shared.ravel())
        if (count != 2).any():
            raise GeometryError(
                f"surface: expected two triangles at every edge, got {int((count != 2).sum())} edges with another "
                "number; mend the mask that it was drawn on"
            )

    @cached_property
    def edges(self) -> Int[np.ndarray, "e 2"]:
        """Vertices of each triangle's edges, the lower one first: each edge is there twice."""
        return np.sort(np.concatenate([self.triangles[:, pair] for pair in ([0, 1], [1, 2], [2, 0])]), axis=1)

    @property
    def corners(self) -> Float[np.ndarray, "t 3 3"]:
        """Corners of each triangle."""
        return self.vertices[self.triangles]

    def areas(self) -> Float[np.ndarray, " t"]:
        """Area of each triangle (mm^2)."""
        return np.linalg.norm(self._crosses(), axis=1) / 2

    def volume_mm3(self) -> float:
        """Volume inside; negative when the triangles are seen clockwise."""
        return float(np.einsum("td,td->", self.corners[:, 0], self._crosses()) / 6)

    def genus(self) -> int:
        """Number of handles: the canal is one."""
        return int(1 - (len(self.vertices) - len(self.triangles) / 2) / 2)

    def with_vertices(self, vertices: Float[np.ndarray, "v 3"]) -> Surface:
        """The same triangles between other vertices."""
        return Surface(vertices, self.triangles)

    def smoothed(self, values: Float[np.ndarray, "v d"], rounds: int = 1) -> Float[np.ndarray, "v d"]:
        """Draw a number at each vertex towards the mean of its neighbours', half of the way a round."""
        for _ in range(rounds):
            values = (values + self._neighbour_mean(values)) / 2
        return values

    def normals(self) -> Float[np.ndarray, "v 3"]:
        """Unit normals at the vertices, outwards: those of the triangles around, by area."""
        summed = np.zeros_like(self.vertices)
        for corner in range(3):
            np.add.at(summed, self.triangles[:, corner], self._crosses())
        return summed / np.linalg.norm(summed, axis=1, keepdims=True)

    def _crosses(self) -> Float[np.ndarray, "t 3"]:
        first, second, third = np.moveaxis(self.corners, 1, 0)
        return np.cross(second - first, third - first)

    def _neighbour_mean(self, values: Float[np.ndarray, "v d"]) -> Float[np.ndarray, "v d"]:
        summed = np.zeros_like(values)
        np.add.at(summed, self.edges[:, 0], values[self.edges[:, 1]])
        np.add.at(summed, self.edges[:, 1], values[self.edges[:, 0]])
        return summed / np.bincount(self.edges.ravel(), minlength=len(values))[:, None]
