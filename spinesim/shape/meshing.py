"""Even triangles over a bone, and the bone within triangles."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree

from spinesim.anatomy.distances import signed_depth
from spinesim.anatomy.grid import Grid
from spinesim.errors import GeometryError
from spinesim.shape.bone import SPACING_MM, Bone, own_grid
from spinesim.shape.surface import Surface

RELAXATIONS = 30
"""Rounds in which vertices go to the middle of their neighbours, along the surface."""

LOST_SHARE = 0.06
"""A net whose volume is further from the bone's has slipped from one sheet of its surface to another."""

NEAR_VOXELS = 1.8
"""Within so many voxels of a surface the depth is read off its triangles."""

MARGIN_MM = 10.0
"""Room that is left round a surface that is filled."""


def mesh_bone(bone: Bone, edge_mm: float) -> Surface:
    """Lay a net of about ``edge_mm`` over a bone, draw it even, and lay its vertices on the bone's surface.

    Surface nets: a vertex in each cell of a lattice that the surface passes, a square round each edge that it crosses.

    References
    ----------
    Gibson SFF (1998). Constrained elastic surface nets. MICCAI, LNCS 1496:888-898.
    """
    volume = float(np.count_nonzero(bone.depth > 0)) * bone.grid.voxel_volume_mm3
    for finer, *shift in itertools.product((1.0, 0.95, 1.05, 0.9, 1.1, 0.85), *[(0.0, 1 / 3, 2 / 3)] * 3):
        try:
            surface = _first_net(bone, finer * edge_mm, np.array(shift))
        except GeometryError:  # two sheets of the surface share an edge of this lattice; not of the next
            continue
        for _ in range(RELAXATIONS):
            surface = surface.with_vertices(bone.snapped(_along(surface, surface.smoothed(surface.vertices))))
        if surface.genus() == 1 and abs(surface.volume_mm3() / volume - 1) < LOST_SHARE:
            return surface
    raise GeometryError(f"surface: expected a net of {edge_mm:g} mm without knots, got none; ask for a finer one")


def _first_net(bone: Bone, edge_mm: float, shift: Float[np.ndarray, " 3"]) -> Surface:
    """The net of a lattice that begins at a corner of the bone's, shifted by shares of its spacing."""
    low, high = bone.grid.corners()[[0, -1]]
    low = low + edge_mm * shift
    axes = [np.arange(a, b, edge_mm) for a, b in zip(low, high, strict=True)]
    lattice = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    depth = bone.at(lattice.reshape(-1, 3)).reshape(lattice.shape[:3])
    vertices, squares = _net(depth)
    return Surface(low + edge_mm * vertices, _halved(vertices, squares))


def _along(surface: Surface, goal: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v 3"]:
    """Go to a goal along the surface alone."""
    normals, way = surface.normals(), goal - surface.vertices
    return surface.vertices + way - (way * normals).sum(axis=1, keepdims=True) * normals


def _net(depth: Float[np.ndarray, "i j k"]) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "s 4"]]:
    """Vertices (lattice units) and squares, seen anticlockwise from outside, of a field that is positive inside."""
    inside = depth > 0
    summed, count = (np.zeros((*[n - 1 for n in depth.shape], 3)), np.zeros([n - 1 for n in depth.shape]))
    crossed = []
    for axis in range(3):
        low, high = (_shifted(depth, axis, step) for step in (0, 1))
        places = np.argwhere((low > 0) != (high > 0))
        share = low[tuple(places.T)] / (low - high)[tuple(places.T)]
        points = places + share[:, None] * np.eye(3)[axis]
        crossed.append((axis, places, inside[tuple(places.T)]))
        beside = [other for other in range(3) if other != axis]
        for back in itertools.product((0, 1), repeat=2):
            cell = places.copy()
            cell[:, beside] -= back
            np.add.at(summed, tuple(cell.T), points)
            np.add.at(count, tuple(cell.T), 1)
    passed = count > 0
    number = np.full(count.shape, -1)
    number[passed] = np.arange(np.count_nonzero(passed))
    return summed[passed] / count[passed][:, None], np.concatenate([_squares(number, *edges) for edges in crossed])


def _shifted(depth: Float[np.ndarray, "i j k"], axis: int, step: int) -> Float[np.ndarray, "i j k"]:
    """The field without its last, or first, layer along an axis."""
    return np.take(depth, np.arange(step, depth.shape[axis] - 1 + step), axis=axis)


def _squares(
    number: Int[np.ndarray, "i j k"], axis: int, places: Int[np.ndarray, "n 3"], inside: Bool[np.ndarray, " n"]
) -> Int[np.ndarray, "n 4"]:
    """The four cells round each crossed edge, turned so that outside is in front."""
    steps = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
    round_edge = np.stack(
        [number[tuple((places - a * steps[0] - b * steps[1]).T)] for a, b in ((1, 1), (0, 1), (0, 0), (1, 0))], axis=1
    )
    return np.where(inside[:, None], round_edge, round_edge[:, ::-1])


def _halved(vertices: Float[np.ndarray, "v 3"], squares: Int[np.ndarray, "s 4"]) -> Int[np.ndarray, "t 3"]:
    """Two triangles for each square, along its shorter diagonal."""
    a, b, c, d = np.moveaxis(vertices[squares], 1, 0)
    across = np.linalg.norm(a - c, axis=1) <= np.linalg.norm(b - d, axis=1)
    turned = np.where(across[:, None], squares, np.roll(squares, 1, axis=1))
    return np.concatenate([turned[:, [0, 1, 2]], turned[:, [0, 2, 3]]])


def fill_surface(surface: Surface, spacing_mm: float = SPACING_MM) -> Bone:
    """The bone within a surface: depth on a lattice along the axes of its frame.

    Near the surface it is the distance to the plane of the nearest triangle, farther away that of the mask.
    """
    low, high = surface.vertices.min(axis=0) - MARGIN_MM, surface.vertices.max(axis=0) + MARGIN_MM
    grid = own_grid(low, high, spacing_mm)
    depth = signed_depth(_inside(surface, grid), grid.spacing_mm).astype(np.float32)
    near = np.argwhere(np.abs(depth) < NEAR_VOXELS * spacing_mm)
    points = grid.to_world(near.astype(float))
    middles, normals = _facets(surface, spacing_mm)
    nearest = cKDTree(middles).query(points)[1]
    depth[tuple(near.T)] = ((middles[nearest] - points) * normals[nearest]).sum(axis=1)
    return Bone(depth, grid)


def _facets(surface: Surface, edge_mm: float) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]:
    """Middles and unit normals of triangles, each cut in four, and rounded by its normals, until they are small.

    References
    ----------
    Boubekeur T, Alexa M (2008). Phong tessellation. ACM Trans Graph 27:141 (with all of the way, not 3/4).
    """
    corners, normals = surface.corners, surface.normals()[surface.triangles]
    size = float(np.sqrt(2 * np.quantile(surface.areas(), 0.99)))
    while size > edge_mm:
        corners, normals = _quartered(corners, normals)
        size /= 2
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return corners.mean(axis=1), facing / np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)


def _quartered(
    corners: Float[np.ndarray, "t 3 3"], normals: Float[np.ndarray, "t 3 3"]
) -> tuple[Float[np.ndarray, "q 3 3"], Float[np.ndarray, "q 3 3"]]:
    """Four triangles for each; the middles of the edges are laid between the planes at their ends."""
    other, facing = np.roll(corners, -1, axis=1), np.roll(normals, -1, axis=1)
    middle = (corners + other) / 2
    for end, normal in ((corners, normals), (other, facing)):
        middle = middle - 0.5 * (((corners + other) / 2 - end) * normal).sum(axis=2, keepdims=True) * normal
    between = normals + facing
    between = between / np.maximum(np.linalg.norm(between, axis=2, keepdims=True), 1e-12)

    def cut(ends: np.ndarray, mids: np.ndarray) -> np.ndarray:
        a, b, c, ab, bc, ca = (*np.moveaxis(ends, 1, 0), *np.moveaxis(mids, 1, 0))
        return np.concatenate([np.stack(p, 1) for p in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))])

    return cut(corners, middle), cut(normals, between)


def _inside(surface: Surface, grid: Grid) -> Bool[np.ndarray, "i j k"]:
    """Voxels inside a surface: more rays along k have entered below them than left."""
    place = (surface.vertices - grid.world_from_voxel[:3, 3]) / grid.spacing_mm
    ray, height, enters = _crossings(place[surface.triangles], grid.shape)
    count = np.zeros((grid.shape[0] * grid.shape[1], grid.shape[2] + 1), dtype=np.int32)
    above = np.clip(np.ceil(height).astype(int), 0, grid.shape[2])
    np.add.at(count, (ray, above), np.where(enters, 1, -1))
    return (np.cumsum(count, axis=1)[:, :-1] > 0).reshape(grid.shape)


def _crossings(
    corners: Float[np.ndarray, "t 3 3"], shape: tuple[int, int, int]
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
    """Where rays along k pass through triangles: the ray's number, the height, and whether it enters."""
    nudged = corners + np.array([1.3e-7, 2.9e-7, 0.0])  # no ray through an edge
    low = np.ceil(nudged[..., :2].min(axis=1)).astype(int)
    size = np.floor(nudged[..., :2].max(axis=1)).astype(int) - low + 1
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for a, b in itertools.product(*(range(int(n)) for n in np.maximum(size.max(axis=0), 0))):
        hit = np.flatnonzero((size[:, 0] > a) & (size[:, 1] > b))
        i, j = (low[hit] + (a, b)).T
        shares, area = _barycentric(nudged[hit][..., :2], np.column_stack([i, j]).astype(float))
        within = (shares >= 0).all(axis=1) & (i >= 0) & (j >= 0) & (i < shape[0]) & (j < shape[1])
        height = (shares * nudged[hit][..., 2]).sum(axis=1)
        found.append(((i * shape[1] + j)[within], height[within], (area < 0)[within]))
    ray, height, enters = (np.concatenate(part) for part in zip(*found, strict=True))
    return ray, height, enters


def _barycentric(
    corners: Float[np.ndarray, "n 3 2"], points: Float[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """Shares of a triangle's corners in a point of its plane, and its signed area."""
    first, second, third = np.moveaxis(corners, 1, 0)

    def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

    area = cross(second - first, third - first)
    safe = np.where(area == 0, np.inf, area)
    parts = [cross(second - points, third - points), cross(third - points, first - points)]
    one, two = (part / safe for part in parts)
    return np.column_stack([one, two, np.where(area == 0, -1.0, 1 - one - two)]), area
