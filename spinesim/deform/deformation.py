"""Carry a plan out on a scan: anchors, flow, field, and the warped scan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from spinesim.anatomy.distances import distance_to
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.plan import Anchor, Motion, Part, Plan, Where
from spinesim.anatomy.scan import LabelMap, Scan
from spinesim.anatomy.surroundings import Surroundings, find_surroundings
from spinesim.anatomy.threads import map_threads
from spinesim.anatomy.vertebra import Spine, Vertebra
from spinesim.deform.field import Field
from spinesim.deform.flow import FlowSettings, Held, follow_flow
from spinesim.deform.outline import bending_belts
from spinesim.deform.regions import DistanceMap, measure_distances, measure_region
from spinesim.deform.solids import Solid
from spinesim.deform.table import Spot, StandingTable
from spinesim.deform.torch_kernels import CPU
from spinesim.deform.unfold import unfold
from spinesim.deform.warp import (
    CRUMB_SHARE,
    PROCESS_CRUMB_SHARE,
    Carriage,
    Divided,
    Interpolation,
    Overlaps,
    Piece,
    warp_image,
    warp_labels,
)
from spinesim.errors import PathologyError

ATTEMPTS = (
    FlowSettings(shell_mm=1.6, power=2.0, spacing_mm=2.5, step_mm=6.0),
    FlowSettings(shell_mm=2.2, power=1.5, spacing_mm=2.0, step_mm=3.0),
)
"""Ways to follow the flow, from cheap to careful: the first whose field does not fold is taken."""

PASSING_LEVELS = 2
"""Bones so many levels away may come by a part that yields: spinous processes reach past their neighbour."""


TABLE_SOFTNESS_MM = 8.0
"""The table's hold on what is near it fades over this distance.

The table stays in place to 0.01 mm, and the skin above it is sheared, not torn.
"""


OUTLINE_SOFTNESS_MM = 30.0
"""The hold of the space around the patient on the skin fades over this distance.

Far from the spine the trunk keeps its outline, and over the spine the skin follows.
"""


@dataclass(frozen=True, eq=False)
class Deformation:
    """A plan made into a field over an output grid, and how it came out.

    ``carriages`` tell how each bone is carried, ``table`` is what the field carries along and what stays all the same,
    if there is such a table.
    """

    plan: Plan
    carriages: Mapping[Level, Carriage]
    field: Field
    output: Grid
    settings: FlowSettings
    jacobian: tuple[float, float]
    mended_nodes: int
    device: str
    table: StandingTable | None = None


def carriages_of(plan: Plan) -> dict[Level, Carriage]:
    """How each level of a plan is carried: rigidly, or, with several anchors, by the field near their motions."""
    parts: dict[Level, list[np.ndarray]] = {}
    for anchor in plan.anchors:
        parts.setdefault(anchor.level, []).append(anchor.motion.last)
    swelling, broken = ({a.level for a in plan.anchors if a.part is part} for part in (Part.SIDE, Part.PROCESS))
    return {
        anchor.level: Carriage(
            anchor.motion.last,
            anchor.part is Part.WHOLE,
            tuple(parts[anchor.level]),
            tears=anchor.level not in swelling,
            crumb_share=PROCESS_CRUMB_SHARE if anchor.level in broken else CRUMB_SHARE,
        )
        for anchor in plan.anchors
        if anchor.part in (Part.WHOLE, Part.ARCH)
    }


def carriages_in(spine: Spine, plan: Plan) -> dict[Level, Carriage]:
    """The same, with the pieces of bones that keep their form though the bone does not."""
    return {level: replace(each, pieces=_pieces(spine[level], plan)) for level, each in carriages_of(plan).items()}


def _pieces(vertebra: Vertebra, plan: Plan) -> tuple[Piece, ...]:
    """The pieces of a bone that keep their form, if that is all that moves of it."""
    anchors = [anchor for anchor in plan.anchors if anchor.level is vertebra.level]
    if not {anchor.part for anchor in anchors} <= {Part.ARCH, Part.FRAGMENT}:
        return ()

    def piece(where: Where, anchor: Anchor) -> Piece:
        return Piece(
            lambda points: where((points - vertebra.centre) @ vertebra.axes), anchor.motion.last, anchor.yields
        )

    return tuple(piece(anchor.where, anchor) for anchor in anchors if anchor.where is not None)


def divided_bones(labels: LabelMap, spine: Spine, plan: Plan) -> Divided:
    """Where the parts of each bone lie that a plan divides, and their motions: for a quick look at the result.

    Bones that break into pieces are left out: these are carried as they are.
    """
    shell_mm, carriages = ATTEMPTS[0].shell_mm, carriages_in(spine, plan)
    divided = [a for a in plan.anchors if a.part is not Part.WHOLE and not carriages[a.level].apart]
    maps = map_threads(lambda anchor: measure_distances(labels, spine[anchor.level], anchor, shell_mm), divided)
    found: dict[Level, list[tuple[DistanceMap, np.ndarray]]] = {}
    for anchor, region in zip(divided, maps, strict=True):
        found.setdefault(anchor.level, []).append((region, anchor.motion.last))
    return found


def build_deformation(
    scan: Scan,
    spine: Spine,
    plan: Plan,
    output: Grid,
    told: Callable[[str], None] = lambda _: None,
    device: str = CPU,
    finest_mm: float = np.inf,
    around: Surroundings | None = None,
) -> Deformation:
    """Find a field without folds for a plan; ``device`` is ``cpu`` or one of PyTorch's.

    Its nodes lie as far apart as usual, or ``finest_mm`` if that is less. ``around`` are the surroundings of the CT,
    where they are known.

    Raises
    ------
    PathologyError
        When every way to follow the flow folds somewhere.
    """
    with ThreadPoolExecutor(1) as beside:
        beyond = beside.submit(_surroundings, scan, spine, plan, around)
        for attempt in ATTEMPTS:
            settings = attempt.for_travel(plan.travel_mm).for_detail(plan.detail_mm).for_nodes(finest_mm)
            told(f"flow: {settings.steps} steps, shell {settings.shell_mm:g} mm, field {settings.spacing_mm:g} mm")
            anchors = _anchors(scan, spine, plan, settings.shell_mm)
            around, held = beyond.result()
            field, mended = unfold(follow_flow([*anchors, *held], output, settings, device))
            low, high = field.jacobian_range()
            if low > 0:
                table = None
                if scan.image and around and around.table.any() and _bends_trunk(plan):
                    table = StandingTable(around, scan.image, field, output)
                return Deformation(
                    plan, carriages_in(spine, plan), field, output, settings, (low, high), mended, device, table
                )
    raise PathologyError(
        f"flow: expected a field without folds, got a smallest Jacobian of {low:.2f} in the most careful try; "
        "ask for a smaller deformity"
    )


def _anchors(scan: Scan, spine: Spine, plan: Plan, shell_mm: float) -> list[Held]:
    """What moves: each anchor's distance map and motion. Parts that yield give way to the firm ones of other bones."""
    firm, soft = ([anchor for anchor in plan.anchors if anchor.yields == yields] for yields in (False, True))
    yielding, rank = frozenset(anchor.level for anchor in soft), spine.levels.index

    def measure(anchor: Anchor) -> DistanceMap:
        return measure_distances(scan.labels, spine[anchor.level], anchor, shell_mm, yielding)

    def give_way(anchor: Anchor) -> DistanceMap:
        near = [a for a in firm if 0 < abs(rank(a.level) - rank(anchor.level)) <= PASSING_LEVELS]
        passing = [(maps[other], other.motion) for other in near]
        return measure_distances(scan.labels, spine[anchor.level], anchor, shell_mm, passing=passing)

    maps = dict(zip(firm, map_threads(measure, firm), strict=True))
    maps |= dict(zip(soft, map_threads(give_way, soft), strict=True))
    bones = [(maps[anchor], anchor.motion) for anchor in plan.anchors]
    return [*bones, *((measure_region(region), region.motion) for region in plan.regions)]


def _surroundings(
    scan: Scan, spine: Spine, plan: Plan, known: Surroundings | None
) -> tuple[Surroundings | None, list[Held]]:
    """What is no patient: the table holds firmly, the space around softly, so that the trunk keeps its outline.

    Of a trunk that bends with the spine the outline goes along; the table is put back later.
    """
    around = known or (find_surroundings(scan.image) if scan.image else None)
    if around is None or not around.outside.any():
        return None, []
    if _bends_trunk(plan):
        belts = bending_belts(around.outside, around.grid, spine, plan)
        held = [_held(belt, around.grid.inside(box), OUTLINE_SOFTNESS_MM, motion) for box, belt, motion in belts]
        return around, held
    outline = _held(around.outside, around.grid, OUTLINE_SOFTNESS_MM, plan.around)
    table = [_held(around.table, around.grid, TABLE_SOFTNESS_MM, None)] if around.table.any() else []
    return around, [*table, outline]


def _bends_trunk(plan: Plan) -> bool:
    """Whether the outline follows the spine; one that grows has a motion of its own."""
    return plan.bends and plan.around is None


def _held(mask: Bool[np.ndarray, "i j k"], grid: Grid, softness_mm: float, motion: Motion | None) -> Held:
    return DistanceMap(distance_to(mask, grid.spacing_mm).astype(np.float32), grid, softness_mm), motion


def warp_scan(
    scan: Scan, solids: Mapping[int, Solid], deformation: Deformation, interpolation: Interpolation = "linear"
) -> tuple[Scan, Bool[np.ndarray, "i j k"], Overlaps]:
    """Warp image and labels; the mask tells what came from outside the image, the last what bones would share."""
    labels, overlaps = warp_labels(scan.labels, solids, deformation.carriages, deformation.field, deformation.output)
    if scan.image is None:
        return Scan(labels), np.zeros(deformation.output.shape, dtype=bool), overlaps
    table = deformation.table
    image = scan.image if table is None else table.taken_away()
    through = (deformation.field, deformation.output, deformation.device)
    warped, outside = warp_image(image, *through, interpolation)
    if table is None:
        return Scan(labels, warped), outside, overlaps
    return Scan(labels, table.put_back(warped)), outside & (table.spots != Spot.STANDING), overlaps
