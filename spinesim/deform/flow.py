"""The anchored flow: carry the points of a grid back along the moving anchors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.plan import Motion
from spinesim.anatomy.threads import map_threads
from spinesim.deform.field import Field, field_grid
from spinesim.deform.kernels import blend_nodes, carry_back, list_nodes, place_nodes
from spinesim.deform.regions import DistanceMap
from spinesim.deform.torch_kernels import CPU, TorchCarrier, open_device
from spinesim.errors import ConfigError

POINTS_AT_ONCE = 400_000
"""Points carried in one call: bounds the memory of their coordinates."""

COARSE_MM = 6.0
"""Where the field is smooth the flow is followed on nodes this far apart, splined between."""

ROUGH_MM = 0.4
"""From this fourth difference between those nodes on, finer nodes are followed too, to the full where it is twice as
large. By the theory of splines they would be 0.005 mm off along an axis; some hundredths were measured."""

CLOSE_MM = 6.0
"""Farther than this from every anchor the spline may be off by more, in proportion to the distance."""

FOURTH_DIFFERENCE = (1, -4, 6, -4, 1)

FEWEST_STEPS = 6
"""Steps in time that even a small motion is given."""

FINEST_MM = 1.5
"""Nodes are never laid closer than this."""

DETAIL_REACH_MM = 12.0
"""Nodes whose source lies nearer than this to a part of a bone, or to a region, and those beside them, are followed,
and laid closer."""

SPLINE_MARGIN = 12
"""Nodes by which a grid is carried on before a spline is laid through it, so that its edge does not matter."""


@dataclass(frozen=True)
class FlowSettings:
    """How finely the flow is followed.

    ``steps`` in time, of about ``step_mm`` for the anchor that goes farthest; ``shell_mm`` that touching bones give up;
    ``power`` of the weights' fall-off (1.5 or 2); ``spacing_mm`` of the nodes, ``detail_mm`` of those of a field that
    divides bones, near them.
    """

    steps: int = 12
    shell_mm: float = 1.6
    power: float = 2.0
    spacing_mm: float = 2.5
    step_mm: float = 6.0
    detail_mm: float = np.inf

    def __post_init__(self) -> None:
        if self.power not in (1.5, 2.0):
            raise ConfigError(f"flow: expected weights that fall with a power of 1.5 or 2, got {self.power:g}")

    def for_travel(self, travel_mm: float) -> FlowSettings:
        """The same with as many steps as the way of the anchor that goes farthest needs."""
        return replace(self, steps=max(FEWEST_STEPS, int(np.ceil(travel_mm / self.step_mm))))

    def for_detail(self, detail_mm: float) -> FlowSettings:
        """The same for anchors that make shapes so fine; nodes are never laid closer than ``FINEST_MM``."""
        return replace(self, detail_mm=max(detail_mm, FINEST_MM))

    def for_nodes(self, spacing_mm: float) -> FlowSettings:
        """The same with nodes so far apart at most."""
        return replace(self, spacing_mm=min(self.spacing_mm, spacing_mm))


Held = tuple[DistanceMap, Motion | None]
"""An anchor as the flow sees it: its distance map, and its motion, or None for one that holds still."""


def follow_flow(anchors: Sequence[Held], output: Grid, settings: FlowSettings, device: str = CPU) -> Field:
    """Follow the flow back from every node of a field over an output grid.

    The velocity at a point is the mean of the anchors' own motions, weighted by ``1 / (d^2 + e^2)^p`` with
    ``d`` the distance to the anchor in its rest frame. So weights travel with the bones, a bone stays rigid however far
    it goes, and a flow of small steps does not fold.

    Parameters
    ----------
    anchors : sequence of (DistanceMap, Motion or None)
        All of them count everywhere: cutting one off would tear the field.
    output : Grid
        Grid that the field shall serve.
    settings : FlowSettings
        Steps, fall-off and spacing.
    device : str
        ``cpu`` for the compiled loops, else a device of PyTorch.
    """
    middle = output.corners().mean(axis=0)
    flow = _Flow(_carrier(anchors, settings, middle, device), middle)
    coarse = field_grid(output, max(COARSE_MM, 2 * settings.spacing_mm))
    sparse = np.zeros((*coarse.shape, 3), dtype=np.float32)
    index, reached = flow.carry(coarse, np.ones(coarse.shape, dtype=np.float32), sparse)
    nearest = np.empty(coarse.shape, dtype=np.float32)
    nearest.ravel()[index] = reached
    grid = field_grid(output, settings.spacing_mm)
    divided = [region for region, _ in anchors if region.divided]
    share = _share_to_follow(sparse, nearest)
    if divided:
        share = np.maximum(share, _mark_about(divided, coarse, sparse))
    displacement = flow.refine(sparse, share, coarse, grid)
    if not divided or settings.detail_mm >= settings.spacing_mm:
        return Field(displacement, grid)
    fine = field_grid(output, settings.detail_mm)
    return Field(flow.refine(displacement, _mark_about(divided, grid, displacement), grid, fine), fine)


def _mark_about(
    regions: Sequence[DistanceMap], grid: Grid, displacement: Float[np.ndarray, "i j k 3"]
) -> Float[np.ndarray, "i j k"]:
    """1 at the nodes whose source lies near one of some regions, and at those beside them."""
    nodes = grid.to_world(np.stack(np.unravel_index(np.arange(grid.size), grid.shape), axis=1).astype(float))
    sources = nodes + displacement.reshape(-1, 3)
    # rounded: distances are multiples of the voxel size at many nodes, and no last bit shall decide for these
    close = np.any([np.round(region.at(sources), 2) < DETAIL_REACH_MM for region in regions], axis=0)
    return ndimage.binary_dilation(close.reshape(grid.shape), structure=np.ones((3, 3, 3))).astype(np.float32)


def _share_to_follow(
    displacement: Float[np.ndarray, "i j k 3"], nearest: Float[np.ndarray, "i j k"]
) -> Float[np.ndarray, "i j k"]:
    """How much finer nodes about each one are to follow the flow themselves, 0 to 1, by how rough the field is there.

    It rises without a step, so that no last bit decides for a node. Along each axis the error of a cubic spline is at
    most 5/384 of the fourth derivative times the fourth power of the step (Hall and Meyer 1976, J Approx Theory
    16:105-122), which the fourth difference of the nodes estimates.
    """
    differences = map_threads(
        lambda axis: ndimage.correlate1d(displacement, FOURTH_DIFFERENCE, axis, mode="nearest"), range(3)
    )
    rough = np.sqrt(np.max([np.einsum("ijkc,ijkc->ijk", d, d) for d in differences], axis=0))
    allowed = ROUGH_MM * np.maximum(nearest / CLOSE_MM, 1)
    return np.clip(ndimage.maximum_filter(rough, 3) / allowed - 1, 0, 1)


def _refine(
    values: Float[np.ndarray, "i j k c"], coarse: Grid, fine: Grid, order: Literal[1, 3] = 3
) -> Float[np.ndarray, "a b d c"]:
    """Carry numbers from the nodes of a coarse grid to those of a finer one with the same axes (spline of an order)."""
    margin = [(SPLINE_MARGIN, SPLINE_MARGIN)] * 3
    padded = np.pad(values.astype(float), [*margin, (0, 0)], mode="edge")
    if order > 1:
        parts = np.moveaxis(padded, -1, 0)
        map_threads(lambda part: ndimage.spline_filter(part, order, output=part, mode="nearest"), parts)
    fine_to_coarse = coarse.voxel_from_world @ fine.world_from_voxel
    taps: list[np.ndarray] = []
    for axis in range(3):
        places = fine_to_coarse[axis, axis] * np.arange(fine.shape[axis]) + fine_to_coarse[axis, 3] + SPLINE_MARGIN
        taps += _spline_taps(places, order)
    out = np.empty((*fine.shape, values.shape[-1]), dtype=np.float32)
    blend_nodes(padded, *taps, out)
    return out


def _spline_taps(places: Float[np.ndarray, " n"], order: Literal[1, 3]) -> tuple[np.ndarray, Float[np.ndarray, "n t"]]:
    """First coefficient of a spline that counts at each place, and the shares of it and of those that follow."""
    first = np.floor(places).astype(np.int64)
    t = places - first
    if order == 1:
        return first, np.column_stack([1 - t, t])
    cubic = [(1 - t) ** 3, 4 - 6 * t**2 + 3 * t**3, 1 + 3 * t + 3 * t**2 - 3 * t**3, t**3]
    return first - 1, np.column_stack(cubic) / 6


@dataclass(frozen=True, eq=False)
class _Flow:
    """The anchors of a flow and what carries points back along them: (points, nearest) are overwritten.

    Points are counted from ``middle``, so that single precision tells them to a ten-thousandth of a millimetre.
    """

    carrier: Callable[[np.ndarray, np.ndarray], None]
    middle: Float[np.ndarray, " 3"]

    def refine(
        self, values: Float[np.ndarray, "i j k 3"], share: Float[np.ndarray, "i j k"], coarse: Grid, fine: Grid
    ) -> Float[np.ndarray, "a b c 3"]:
        """Displacement on a finer grid: splined between the nodes of a coarse one, and followed in part."""
        displacement = _refine(values, coarse, fine)
        self.carry(fine, _refine(share[..., None], coarse, fine, order=1)[..., 0], displacement)
        return displacement

    def carry(
        self, grid: Grid, share: Float[np.ndarray, "i j k"], displacement: Float[np.ndarray, "i j k 3"]
    ) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Bring the displacement (C order) of the nodes of a grid to what the flow gives, each by a share of the way.

        Returns
        -------
        (n,) array, (n,) array
            The nodes whose share is more than 0, and the nearest that each came to an anchor (mm).
        """
        index, world = list_nodes(share > 0), grid.world_from_voxel.copy()
        world[:3, 3] -= self.middle
        filled, nearest = displacement.reshape(-1, 3), np.empty(len(index), dtype=np.float32)
        for start in range(0, len(index), POINTS_AT_ONCE):
            part = slice(start, start + POINTS_AT_ONCE)
            nodes = index[part]
            rest = np.empty((len(nodes), 3), dtype=np.float32)
            place_nodes(nodes, grid.shape, world, rest)
            points, known = rest.copy(), filled[nodes]
            self.carrier(points, nearest[part])
            filled[nodes] = known + share.ravel()[nodes, None] * (points - rest - known)
        return index, nearest


def _carrier(
    anchors: Sequence[Held], settings: FlowSettings, middle: Float[np.ndarray, " 3"], device: str
) -> Callable[[np.ndarray, np.ndarray], None]:
    """What carries points, counted from a place in their middle, back on a device."""
    maps, motions = _pack(anchors), _step_motions(anchors, settings.steps, middle)
    if device == CPU:
        return lambda points, nearest: carry_back(points, nearest, *maps, *motions, settings.power)
    return TorchCarrier(maps, motions, settings.power, open_device(device))


def _pack(anchors: Sequence[Held]) -> tuple[np.ndarray, ...]:
    """Lay all distance maps end to end for the compiled loop."""
    maps = [np.ascontiguousarray(region.distance, dtype=np.float32) for region, _ in anchors]
    offsets = np.cumsum([0, *(m.size for m in maps)])[:-1]
    shapes = np.array([m.shape for m in maps], dtype=np.int64)
    spacings = np.array([region.grid.spacing_mm for region, _ in anchors], dtype=np.float32)
    softness = np.array([region.softness_mm for region, _ in anchors], dtype=np.float32)
    return np.concatenate([m.ravel() for m in maps]), offsets, shapes, spacings, softness


def _step_motions(
    anchors: Sequence[Held], steps: int, middle: Float[np.ndarray, " 3"]
) -> tuple[Float[np.ndarray, "s a 3 4"], Float[np.ndarray, "s a 3 4"]]:
    """For each step back: world to each anchor's rest voxels, and each anchor's own way (less the identity).

    The world is counted from a place in its middle.
    """
    times, world = np.linspace(1, 0, steps + 1), np.eye(4)
    world[:3, 3] = middle
    rest_from_now = np.empty((steps, len(anchors), 3, 4), dtype=np.float32)
    step_back = np.empty((steps, len(anchors), 3, 4), dtype=np.float32)
    for rank, (region, motion) in enumerate(anchors):
        poses = np.tile(np.eye(4), (steps + 1, 1, 1)) if motion is None else motion.at(times)
        inverse = np.linalg.inv(poses)
        rest_from_now[:, rank] = (region.grid.voxel_from_world @ inverse[:-1] @ world)[:, :3]
        step_back[:, rank] = ((poses[1:] @ inverse[:-1] - np.eye(4)) @ world)[:, :3]
    return rest_from_now, step_back
