"""What is unusual about a labelled spine, said in sentences; and the order of levels that no spine has, refused."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import RARE, Level, levels_between
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.threads import map_threads
from spinesim.anatomy.vertebra import Spine, Vector
from spinesim.errors import LabelError

STUMP_SHARE = 0.7
"""An outermost bone of less than this share of its neighbour's volume is a stump: where its mass lies says little."""

CLOSE_SHARE, FAR_SHARE = 0.65, 1.6
"""Steps from level to level outside these shares of the steps beside them are told."""

COARSE_MM, FINE_MM = 1.75, 1.5
"""Voxels with a longer side hold no angle to 2 degrees, for a plate that lies along them may tilt by one over its width
before any changes hands; a chest moved about and drawn anew on voxels of the second size held all its angles so."""

PIECES_NAMED = 4
"""So many pieces of a label are named by their size, the largest first."""


@dataclass(frozen=True, eq=False)
class _Bone:
    """A level's voxels inside its own box, its centre of mass (world RAS, mm), and whether it reaches an edge."""

    mask: Bool[np.ndarray, "i j k"]
    centre: Vector
    volume_mm3: float
    at_edge: bool


def check_order(labels: LabelMap) -> None:
    """Refuse a label map whose levels do not follow one another from head to foot.

    Each bone's centre of mass must lie below the last one's, along world superior. Stumps at either end are left out.

    Raises
    ------
    LabelError
        When the numbering runs upward, or single levels stand out of turn.
    """
    height = {level: bone.centre[2] for level, bone in _without_stumps(_find_bones(labels)).items()}
    order = list(height)
    turned = [(a, b) for a, b in zip(order, order[1:], strict=False) if height[b] >= height[a]]
    if not turned:
        return
    if len(turned) == len(order) - 1:
        raise LabelError(
            f"{labels.source}: expected levels numbered from head to foot, got {order[0].name} below {order[-1].name}; "
            "pass the right --scheme or mend the orientation in the header"
        )
    above, below = turned[0]
    raise LabelError(
        f"{labels.source}: expected levels in order from head to foot, got {below.name} above {above.name}; "
        "mend the labels or pass --mapping"
    )


def findings(labels: LabelMap, spine: Spine) -> tuple[str, ...]:
    """Say what is unusual about a spine and its labels, one sentence a finding, from the head down."""
    bones = _find_bones(labels)
    return (
        *_unmeasured(bones, spine),
        *_missing(spine.levels),
        *_rare(spine.levels),
        *_uneven(_without_stumps(bones)),
        *_broken(bones),
    )


def tell_coarseness(grid: Grid) -> tuple[str, ...]:
    """Say that voxels are too long to read angles well off them, if they are."""
    longest = float(grid.spacing_mm.max())
    if longest <= COARSE_MM:
        return ()
    return (
        f"Voxels are up to {longest:.3g} mm long: the angle between two small end plates may be off by 2 degrees or "
        f"more; labels drawn on {FINE_MM:g} mm or finer hold it better.",
    )


def _unmeasured(bones: dict[Level, _Bone], spine: Spine) -> list[str]:
    """Levels without measurements, and why."""
    said = []
    for level in (vertebra.level for vertebra in spine if not vertebra.measured):
        if level in (Level.C1, Level.C2):
            reason = "has no body of the usual form"
        elif level in bones and bones[level].at_edge:
            reason = "is cut by the edge of the volume"
        else:
            reason = "has no whole body in the labels"
        said.append(f"{level.name} {reason}: it moves with its neighbours and is not measured.")
    return said


def _missing(levels: tuple[Level, ...]) -> list[str]:
    """Levels that the usual spine has between two that are present."""
    said = []
    for upper, lower in zip(levels, levels[1:], strict=False):
        if gap := levels_between(upper, lower):
            names = ", ".join(level.name for level in gap)
            said.append(f"{names} {'is' if len(gap) == 1 else 'are'} missing between {upper.name} and {lower.name}.")
    return said


def _rare(levels: tuple[Level, ...]) -> list[str]:
    """Supernumerary levels."""
    return [f"{level.name} is present: a level that few people have." for level in RARE if level in levels]


def _uneven(bones: dict[Level, _Bone]) -> list[str]:
    """Neighbouring levels that lie much closer together, or farther apart, than those beside them."""
    order = [level for level in bones if level != Level.S]
    pairs = [(a, b) for a, b in zip(order, order[1:], strict=False) if not levels_between(a, b)]
    steps = np.array([np.linalg.norm(bones[a].centre - bones[b].centre) for a, b in pairs])
    said = []
    for rank, (a, b) in enumerate(pairs):
        beside = np.concatenate([steps[max(rank - 2, 0) : rank], steps[rank + 1 : rank + 3]])
        usual = float(np.median(beside)) if len(beside) else float(steps[rank])
        reason = "one vertebra may bear two labels" if steps[rank] < CLOSE_SHARE * usual else ""
        reason = "a level between them may have no label" if steps[rank] > FAR_SHARE * usual else reason
        if reason:
            apart = f"{steps[rank]:.0f} mm apart, the levels beside them {usual:.0f} mm"
            said.append(f"{a.name} and {b.name} lie {apart}: {reason}.")
    return said


def _broken(bones: dict[Level, _Bone]) -> list[str]:
    """Labels in several pieces (apart by faces, edges and corners), with their volumes."""
    said = []
    found = map_threads(lambda bone: ndimage.label(bone.mask, structure=np.ones((3, 3, 3))), bones.values())
    for (level, bone), (pieces, count) in zip(bones.items(), found, strict=True):
        if count > 1:
            counts = np.sort(np.bincount(pieces.ravel())[1:])[::-1]
            sizes = bone.volume_mm3 * counts / counts.sum()
            named = ", ".join(f"{size:,.0f}" for size in sizes[:PIECES_NAMED])
            more = f" and {count - PIECES_NAMED} more" if count > PIECES_NAMED else ""
            said.append(f"{level.name} is in {count} pieces, of {named} mm³{more}.")
    return said


def _without_stumps(bones: dict[Level, _Bone]) -> dict[Level, _Bone]:
    """Leave out the bones at either end that are much smaller than the next."""
    order = list(bones)
    for outer, inner in ((0, 1), (-1, -2)):
        while len(order) > 1 and bones[order[outer]].volume_mm3 < STUMP_SHARE * bones[order[inner]].volume_mm3:
            order.pop(outer)
    return {level: bones[level] for level in order}


def _find_bones(labels: LabelMap) -> dict[Level, _Bone]:
    """Look at each level of a label map, from the head down."""
    numbers = labels.numbers
    return dict(zip(numbers, map_threads(lambda n: _bone(labels, n, labels.boxes[n]), numbers.values()), strict=True))


def _bone(labels: LabelMap, number: int, box: Box) -> _Bone:
    """Look at one number of a label map inside its box."""
    mask = labels.voxels[box] == number
    centre = np.argwhere(mask).mean(axis=0) + [side.start for side in box]
    at_edge = any(side.start == 0 or side.stop == n for side, n in zip(box, labels.grid.shape, strict=True))
    volume = float(np.count_nonzero(mask)) * labels.grid.voxel_volume_mm3
    return _Bone(mask, labels.grid.to_world(centre[None])[0], volume, at_edge)
