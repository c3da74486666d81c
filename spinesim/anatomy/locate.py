"""Find the spine in a label map: the pose, end plates, canal and heights of each vertebra."""

from __future__ import annotations

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from spinesim.anatomy.body import ROUNDS, Body, Frame, measure_body, measure_sacrum
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.silhouette import Silhouette, cut_out
from spinesim.anatomy.threads import map_threads
from spinesim.anatomy.vertebra import EndPlate, Spine, Vector, Vertebra, square_axes, unit
from spinesim.errors import LabelError

SHORN_VOLUME = 0.65
"""An outermost bone with less than this share of its neighbour's volume was cut before it came here."""

END_BONES = 4
"""Bones at either end of the spine on which a face is looked for where the volume was cut before it came here."""

FACE_MM2, FACE_FLATNESS = 300.0, 0.75
"""Least area of such a face, and least size of its outermost layer of voxels against the next (rounded tips: 1/3)."""

FACE_POINTS = 40_000
"""So many voxels are enough to weigh the layers."""

LAYER = 1.2
"""Depth of such a layer, in voxels."""

CUT_SHARE = 0.8
"""A bone is cut where more of it lies on the face than this share of its body's cross-section."""

SEEN_MM = 1.0
"""A way shorter than this tells no direction."""

TYPICAL_DISC_MM = 5.0
"""Gap assumed between a body that the edge cuts and its measured neighbour."""


def estimate_spine(labels: LabelMap, guess: Spine | None = None) -> Spine:
    """Find every vertebra of a label map.

    Vertebrae that the edge of the volume cuts, and C1 and C2, which have no body to measure, get a pose from their
    neighbours and no heights.

    Parameters
    ----------
    labels : LabelMap
        Vertebrae, with their levels.
    guess : Spine, optional
        Where they should be: a quick look, which starts from these poses and refines them less. What was not measured
        there is left out, and nothing else is held to be cut.

    Raises
    ------
    LabelError
        When no level has a whole body inside the volume.
    """
    silhouettes = cut_out_levels(labels)
    poses = {v.level: Frame(v.centre, v.axes) for v in guess if v.level in silhouettes} if guess else {}
    rounds = ROUNDS - 1 if poses else ROUNDS
    poses = poses or _rough_poses(silhouettes)
    left_out = {vertebra.level for vertebra in guess if not vertebra.measured} if guess else set()
    with_body = [level for level in silhouettes if Level.C3 <= level < Level.S and level not in left_out]
    measures = map_threads(lambda level: measure_body(silhouettes[level], poses[level], rounds), with_body)
    bodies = dict(zip(with_body, measures, strict=True))
    shorn = set() if guess else _shorn_levels(silhouettes) | _faced_levels(silhouettes, bodies)
    measured = {
        level: _vertebra(level, body)
        for level, body in bodies.items()
        if body and level not in shorn and _inside(body, labels.grid)
    }
    if not any(level != Level.S for level in measured):
        raise LabelError(
            f"{labels.source}: expected at least one vertebra with its whole body inside the volume, got none among "
            f"{', '.join(level.name for level in silhouettes) or 'no level at all'}; "
            "use a scan with a larger field of view"
        )
    if Level.S in silhouettes and Level.S not in left_out:
        sacrum = _sacrum(silhouettes[Level.S], measured)
        measured |= {Level.S: sacrum} if sacrum else {}
    return Spine(tuple(measured.get(level) or _beside(level, measured, list(poses)) for level in poses))


def _sacrum(bone: Silhouette, measured: dict[Level, Vertebra]) -> Vertebra | None:
    """Measure the upper plate of a sacrum under the lowest lumbar body; its centre is taken 15 mm below the plate."""
    lowest = measured[max(measured)]
    if lowest.level < Level.L4:
        return None
    start = lowest.inferior.centre - TYPICAL_DISC_MM * lowest.inferior.normal
    above = Frame(start, square_axes(lowest.inferior.normal, lowest.axes[:, 1]))
    plate = measure_sacrum(bone, above, lowest.width_mm, lowest.depth_mm)
    if plate is None:
        return None
    axes = square_axes(plate.normal, lowest.axes[:, 1])
    centre = plate.centre - 15.0 * plate.normal
    lower = EndPlate(plate.centre - 30.0 * plate.normal, plate.normal)
    return Vertebra(Level.S, centre, axes, plate, lower, lowest.width_mm, lowest.depth_mm, measured=True)


def cut_out_levels(labels: LabelMap) -> dict[Level, Silhouette]:
    """Cut every level out of a label map, from the head down."""
    numbers = labels.numbers
    cut = map_threads(lambda n: cut_out(labels.voxels, n, labels.boxes[n], labels.grid), numbers.values())
    return dict(zip(numbers, cut, strict=True))


def _rough_poses(silhouettes: dict[Level, Silhouette]) -> dict[Level, Frame]:
    """Guess centre and axes of each body: its deepest part, the way to its neighbours, and where its mass lies.

    In every vertebra below C2 the deepest part lies in the body.
    """
    order, bones = list(silhouettes), silhouettes.values()
    seeds = dict(zip(order, map_threads(Silhouette.deepest_part, bones), strict=True))
    means = dict(zip(order, map_threads(Silhouette.centroid, bones), strict=True))
    poses = {}
    for rank, level in enumerate(order):
        above, below = order[max(rank - 1, 0)], order[min(rank + 1, len(order) - 1)]
        up, forward = seeds[above] - seeds[below], seeds[level] - means[level]
        if np.linalg.norm(up) < SEEN_MM:
            up = np.array([0.0, 0.0, 1.0])
        if np.linalg.norm(np.cross(unit(up), forward)) < SEEN_MM:
            forward = np.array([0.0, 1.0, 0.0] if abs(unit(up)[1]) < 0.9 else [0.0, 0.0, 1.0])
        poses[level] = Frame(seeds[level], square_axes(up, forward))
    return poses


def _inside(body: Body, grid: Grid) -> bool:
    """Whether the surface points of a body's end plates all lie inside the volume."""
    voxels = grid.to_voxel(body.surface)
    outside = (voxels < -0.5) | (voxels > np.array(grid.shape) - 0.5)
    return bool(outside.any(axis=1).mean() < 0.01)


def _shorn_levels(silhouettes: dict[Level, Silhouette]) -> set[Level]:
    """Find outermost bones that are cut although they touch no edge (a scan cropped, then padded or turned)."""
    volumes = {level: bone.volume_mm3() for level, bone in silhouettes.items() if level != Level.S}
    order = list(volumes)
    shorn: set[Level] = set()
    for side in (order, order[::-1]):
        for outer, inner in zip(side, side[1:], strict=False):
            if volumes[outer] >= SHORN_VOLUME * volumes[inner]:
                break
            shorn.add(outer)
    return shorn


def _faced_levels(silhouettes: dict[Level, Silhouette], bodies: dict[Level, Body | None]) -> set[Level]:
    """Find bones that end on a flat face at either end of the spine: the edge of a volume that was padded or turned.

    Where bones reach the volume's own edge, that is what cuts them.
    """
    order = [level for level in silhouettes if level != Level.S]
    found: set[Level] = set()
    for end in (order[:END_BONES], order[: -END_BONES - 1 : -1]):
        if len(end) < 2 or any(silhouettes[level].cut for level in end):
            continue
        ends = [silhouettes[level] for level in end]
        other_end = silhouettes[order[-1] if end[0] == order[0] else order[0]]
        outward = silhouettes[end[0]].centroid() - other_end.centroid()
        for level, area in zip(end, _face_areas(ends, unit(outward)), strict=True):
            body = bodies.get(level)
            if body and area > CUT_SHARE * np.pi / 4 * body.width_mm * body.depth_mm:
                found.add(level)
    return found


def _face_areas(bones: list[Silhouette], outward: Vector) -> list[float]:
    """Area (mm2) of each bone on the flat face that bounds them all on one side; 0 where there is none.

    Planes that touch the bones' convex hull are tried. A cut leaves as many voxels in the layer at the plane as in the
    next one; where a plane touches rounded tips, the layers grow as 1 to 3.
    """
    none, grid = [0.0] * len(bones), bones[0].grid
    try:
        planes = np.unique(np.round(ConvexHull(np.concatenate([b.line_ends() for b in bones])).equations, 6), axis=0)
    except QhullError:  # all voxels in one plane: no solid, hence no face
        return none
    planes = planes[planes[:, :3] @ outward > 0.5]
    if not len(planes):
        return none
    centres = [bone.voxel_centres() for bone in bones]
    points, depth = np.concatenate(centres), LAYER * float(grid.spacing_mm.max())
    thinned = points[:: 1 + len(points) // FACE_POINTS]
    below = -(thinned @ planes[:, :3].T + planes[:, 3])
    layers = [np.count_nonzero((below >= k * depth) & (below < (k + 1) * depth), axis=0) for k in (0, 1)]
    best = int(layers[0].argmax())
    per_voxel = grid.voxel_volume_mm3 / depth
    area = layers[0][best] * per_voxel * len(points) / len(thinned)
    if area < FACE_MM2 or layers[0][best] < FACE_FLATNESS * layers[1][best]:
        return none
    near = [np.count_nonzero(-(own @ planes[best, :3] + planes[best, 3]) < depth) for own in centres]
    return [per_voxel * float(count) for count in near]


def _vertebra(level: Level, body: Body) -> Vertebra:
    """Name a measured body."""
    return Vertebra(
        level,
        body.frame.centre,
        body.frame.axes,
        body.superior,
        body.inferior,
        body.width_mm,
        body.depth_mm,
        body.canal,
        body.heights,
        measured=True,
    )


def _beside(level: Level, measured: dict[Level, Vertebra], present: list[Level]) -> Vertebra:
    """Give an unmeasured level the pose of the nearest measured one, moved along its axis by the levels between."""
    rank = present.index(level)
    near = min(measured.values(), key=lambda vertebra: abs(present.index(vertebra.level) - rank))
    up = near.axes[:, 2]
    height = (near.superior.centre - near.inferior.centre) @ up
    centre = near.centre + (present.index(near.level) - rank) * (height + TYPICAL_DISC_MM) * up
    superior, inferior = (EndPlate(centre + sign * height / 2 * up, up) for sign in (1, -1))
    return Vertebra(level, centre, near.axes, superior, inferior, near.width_mm, near.depth_mm)
