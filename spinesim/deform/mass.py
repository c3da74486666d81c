"""Grow masses in a warped scan: their voxels, and the CT inside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.boxes import Box, padded, within
from spinesim.anatomy.distances import distance_to
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.plan import Mass, Squeezed
from spinesim.anatomy.scan import LabelMap, Scan, Storage, Volume
from spinesim.anatomy.vertebra import Spine
from spinesim.deform.field import Field
from spinesim.deform.tissue import mean_inside
from spinesim.errors import PathologyError

WIDER = 2.2
"""A mass that its structure confines is looked for so many radii around its centre."""

MARGIN_MM = 4.0
"""Room beyond that."""

BLUR_VOXELS = 0.6
"""Width of the Gaussian by which its surface is blurred, as a scanner blurs it."""

STEPS = 40
"""Halvings that find how far a mass has come when it has its volume."""

NOISE_SPREADS = 3.0
"""Of the tissue that it replaces, what differs by more than so many spreads is structure, not noise."""


def grow_masses(after: Scan, spine: Spine, masses: Sequence[Mass], field: Field) -> tuple[Scan, LabelMap | None]:
    """Let masses grow, one after the other; each has its number from 1, in their order.

    Parameters
    ----------
    after : Scan
        The warped scan; its labels stay as they are.
    spine : Spine
        The spine at rest, in whose vertebra frames masses in vertebrae are told.
    masses : sequence of Mass
        What grows.
    field : Field
        Where the voxels come from.

    Returns
    -------
    Scan, LabelMap or None
        The scan with another CT, and the masses' own label map, if there are any.

    Raises
    ------
    PathologyError
        When the structure has not room enough on the result.
    """
    if not masses:
        return after, None
    found = np.zeros(after.grid.shape, dtype=np.uint8, order="F")
    image = after.image
    for number, mass in enumerate(masses, start=1):
        site = _neighbourhood(after, spine, mass, field)
        site.allowed &= found[site.box] == 0
        taken = _take(site, mass, after.grid)
        found[site.box][taken] = number
        if image is not None:
            image = _paint(image, site, mass, taken)
    return replace(after, image=image), LabelMap(found, after.grid, {}, "masses", Storage("uint8"), "masses")


@dataclass(eq=False)
class _Neighbourhood:
    """The voxels around a mass: where they come from, how soon it reaches them, and which it may take."""

    box: Box
    rest: Float[np.ndarray, "a b c 3"]
    density: Float[np.ndarray, "a b c"]
    reach: Float[np.ndarray, "a b c"]
    own: Bool[np.ndarray, "a b c"]
    allowed: Bool[np.ndarray, "a b c"]


def _neighbourhood(after: Scan, spine: Spine, mass: Mass, field: Field) -> _Neighbourhood:
    labels, grid = after.labels, after.grid
    centre, frame = np.zeros(3), np.eye(3)
    number = mass.number_in(labels)
    if isinstance(mass.structure, Level):
        centre, frame = spine[mass.structure].centre, spine[mass.structure].axes
    radius = float(np.cbrt(3000 * mass.volume_ml / (4 * np.pi)))
    box = _around(mass.name, centre + frame @ mass.centre, WIDER * radius + MARGIN_MM, field, grid)
    sources, density = field.block(grid, box)
    rest = (sources - centre) @ frame
    reach = mass.reach(rest.reshape(-1, 3)).reshape(density.shape)
    own = labels.voxels[box] == number
    if mass.breach:
        allowed = own | (labels.voxels[box] == 0)
        if after.image is not None:
            allowed &= own | (after.image.hu(after.image.voxels[box]) > -300)
    else:
        wide = padded(box, grid.shape, np.ceil(mass.cortex_mm / grid.spacing_mm).astype(int) + 1)
        depth = distance_to(labels.voxels[wide] != number, grid.spacing_mm)
        allowed = own & (depth[within(box, wide)] - grid.spacing_mm.min() / 2 > mass.cortex_mm)
    return _Neighbourhood(box, rest, density, reach, own, allowed)


def _around(name: str, centre: Float[np.ndarray, " 3"], radius_mm: float, field: Field, grid: Grid) -> Box:
    """Box of output voxels whose tissue comes from around a point at rest.

    Raises
    ------
    PathologyError
        When that point has left the field of view.
    """
    nodes = np.indices(field.grid.shape).reshape(3, -1).T
    sources = field.grid.to_world(nodes.astype(float)) + field.displacement.reshape(-1, 3)
    near = np.abs(sources - centre).max(axis=1) < radius_mm + float(field.grid.spacing_mm.max())
    low, high = np.zeros(3, dtype=int), np.zeros(3, dtype=int)
    if near.any():
        voxels = grid.to_voxel(field.grid.to_world(nodes[near].astype(float)))
        low = np.clip(np.floor(voxels.min(axis=0)).astype(int), 0, grid.shape)
        high = np.clip(np.ceil(voxels.max(axis=0)).astype(int) + 1, 0, grid.shape)
    if (high - low < 2).any():
        raise PathologyError(
            f"{name}: expected its place in the field of view of the result, got one that has left it; "
            "choose another place, or ask for less beside it"
        )
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return i, j, k


def _take(site: _Neighbourhood, mass: Mass, grid: Grid) -> Bool[np.ndarray, "a b c"]:
    """The voxels that a mass takes: as many as its volume asks, in one piece, in the order in which it reaches them."""
    wanted = max(1, round(1000 * mass.volume_ml / grid.voxel_volume_mm3))
    first = int(np.where(site.allowed, site.reach, np.inf).argmin())
    low, high = 0.0, float(site.reach[site.allowed].max(initial=0.0)) + 1.0
    room = np.count_nonzero(_grown(site, high, first))
    if room < wanted:
        most = room * grid.voxel_volume_mm3 / 1000
        raise PathologyError(
            f"{mass.name}: expected room for {mass.volume_ml:.2f} ml on the result, got {most:.2f} ml; ask for less"
        )
    for _ in range(STEPS):
        middle = (low + high) / 2
        if np.count_nonzero(_grown(site, middle, first)) < wanted:
            low = middle
        else:
            high = middle
    taken = _grown(site, high, first)
    spare = np.count_nonzero(taken) - wanted
    last = np.flatnonzero(taken & ~_grown(site, low, first))
    farthest = last[np.argsort(-site.reach.ravel()[last], kind="stable")]
    taken.ravel()[farthest[: max(spare, 0)]] = False
    pieces, _ = ndimage.label(taken)
    return pieces == pieces.ravel()[first]


def _grown(site: _Neighbourhood, reach: float, first: int) -> Bool[np.ndarray, "a b c"]:
    """What a mass has taken when it has come so far from its first voxel (flat index)."""
    pieces, _ = ndimage.label(site.allowed & (site.reach <= reach))
    return (pieces == pieces.ravel()[first]) & (pieces.ravel()[first] > 0)


def _paint(image: Volume, site: _Neighbourhood, mass: Mass, taken: Bool[np.ndarray, "a b c"]) -> Volume:
    """Give its voxels its HU and the noise of what it replaces; its surface is blurred."""
    voxels = image.voxels.copy(order="K")
    hu = image.hu(voxels[site.box])
    share = ndimage.gaussian_filter(taken.astype(np.float32), BLUR_VOXELS)
    changed = share > 0.01
    mean = mean_inside(hu, np.ones_like(taken), image.grid.spacing_mm)
    noise = hu - mean
    spread = 1.4826 * np.median(np.abs(noise[taken]))
    noise = np.clip(noise, -NOISE_SPREADS * spread, NOISE_SPREADS * spread)
    surface = float(site.reach[taken].max())
    seen = Squeezed(site.rest[changed], hu[changed], mean[changed], site.density[changed])
    inside = mass.become(seen, np.minimum(site.reach[changed] / surface, 1.0)) + noise[changed]
    blended = (1 - share[changed]) * hu[changed] + share[changed] * inside
    voxels[site.box][changed] = image.stored(blended).astype(voxels.dtype)
    return replace(image, voxels=voxels)
