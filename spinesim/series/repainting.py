"""Let a network paint what a case does not know."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage
from scipy.spatial import KDTree

from spinesim.anatomy.boxes import Box, overlap, within
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, Scan, Volume
from spinesim.anatomy.threads import THREADS
from spinesim.errors import ConfigError
from spinesim.inpaint.brush import (
    PLAIN,
    Brush,
    Inpainting,
    NetworkMethod,
    find_weights,
    is_better_than_noise,
    missing_packages,
)
from spinesim.inpaint.carried import draw_carried_noise
from spinesim.inpaint.conditions import Canvas
from spinesim.inpaint.kernels import mark_reasons
from spinesim.inpaint.mask import SEAM_VOXELS, Reason, Unknown
from spinesim.inpaint.tissues import Kind, TissueMaps, map_tissues, measure_marrow, with_lesion

if TYPE_CHECKING:
    from spinesim.inpaint.weights import Painter
    from spinesim.series.case import Case

QUICK = (Reason.OUTSIDE, Reason.LESION, Reason.FRACTURE, Reason.TISSUE)
"""What ``auto`` lets a network paint on a CPU: it is seen at once, and takes seconds."""

ANYTHING = (*QUICK, Reason.STRETCHED, Reason.SQUEEZED)
"""What a network may paint: all but the blur of interpolation. The seam goes with what it borders on."""

USUAL_NOISE_HU, USUAL_MARROW_HU = 15.0, 150.0
"""Where they cannot be measured."""

NODES_MM = 3.0
"""What came from beyond the scan is told patient or air by nodes so far apart."""

LEAF = 64
"""Points in a leaf of the tree that finds what is nearest: of points on a lattice many are as near as each other."""

DENSER_HU = 50.0
"""A lesion that is so much denser than marrow is told to the network as sclerotic, else as lytic."""

Told = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Repainting:
    """What a network is to do: which one, where, and how.

    ``load`` gives it, or says in words why it cannot be had: it takes seconds, and is called where there is work.
    """

    load: Callable[[], Painter | str]
    reasons: tuple[Reason, ...]
    brush: Brush
    device: str


@dataclass(frozen=True)
class Repainted:
    """What a network did: its method and weights, steps, the reasons that it painted for, and voxels."""

    method: NetworkMethod
    weights: str
    steps: int
    reasons: tuple[Reason, ...]
    voxels: int


def choose_repainting(
    method: Inpainting, brush: Brush, device: str, spacing_mm: Float[np.ndarray, " 3"]
) -> Repainting | None:
    """Choose the network for a way to paint; that of ``auto`` is loaded where there is work for it.

    Parameters
    ----------
    method : str
        Asked for.
    brush : Brush
        How a network paints, and its weights.
    device : str
        ``cpu``, or a GPU.
    spacing_mm : (3,) array
        Of the voxels that come out.

    Raises
    ------
    ConfigError
        When ``diffusion`` or ``pix2pix`` is asked for and cannot be had.
    """
    if method in ("none", "noise"):
        return None
    wanted: NetworkMethod = "pix2pix" if method == "pix2pix" else "diffusion"
    reasons = QUICK if method == "auto" and device == "cpu" else ANYTHING
    if method == "auto" and brush.weights is None:
        return Repainting(lambda: _painter_if_any(device, spacing_mm), reasons, brush, device)
    painter = _painter(wanted, brush, device, spacing_mm)
    return Repainting(lambda: painter, reasons, brush, device)


def _painter_if_any(device: str, spacing_mm: Float[np.ndarray, " 3"]) -> Painter | str:
    """The diffusion that ships, or in words why it does not paint."""
    shipped = find_weights("diffusion", PLAIN)
    if shipped is not None and not is_better_than_noise(shipped):
        return (
            f"{shipped.name}: expected weights that are better than noise by their card, got others; "
            "take --inpaint diffusion to use them all the same"
        )
    try:
        return _painter("diffusion", PLAIN, device, spacing_mm)
    except ConfigError as error:
        return str(error)


def _painter(wanted: NetworkMethod, brush: Brush, device: str, spacing_mm: Float[np.ndarray, " 3"]) -> Painter:
    missing = missing_packages()
    if missing:
        raise ConfigError(
            f"inpaint: expected {', '.join(missing)} for {wanted}, got none installed; "
            "pip install 'spinesim[inpaint]', or take --inpaint noise"
        )
    path = find_weights(wanted, brush)
    if path is None:
        raise ConfigError(f"inpaint: expected weights for {wanted}, got none that ship; train some, and pass --weights")
    from spinesim.inpaint.painter import check_spacing
    from spinesim.inpaint.weights import read_weights

    painter = read_weights(path, device)
    if painter.card.method != wanted:
        raise ConfigError(f"{path}: expected weights for {wanted}, got {painter.card.method}; pass others")
    check_spacing(painter, spacing_mm)
    return painter


def repaint(
    case: Case,
    find_body: Callable[[], Bool[np.ndarray, "i j k"]],
    work: Repainting,
    told: Told,
) -> Case:
    """Let a network paint what is unknown for some reasons, and the seam around it; the rest stays bit for bit.

    Parameters
    ----------
    case : Case
        As it came out of the warp, with the noise given back; it has a CT, and tells what of it is not known.
    find_body : callable
        Gives the patient, a mask that nothing else holds: it is as large as the volume.
    work : Repainting
        What to do.
    told : callable
        Told of the progress.
    """
    image, unknown = case.after.image, case.unknown
    if image is None or unknown is None:
        return case
    mask = find_mask(unknown, work.reasons)
    if not mask.any():
        return case
    beyond = unknown.reasons == Reason.OUTSIDE
    patient = _with_beyond(find_body(), beyond, image.grid)
    mask &= patient | ~beyond  # air that came from beyond is air
    del beyond  # as large as the volume
    if not mask.any():
        return case
    painter = work.load()
    if isinstance(painter, str):
        return case.updated(no_network=painter)
    pieces = _paint_pieces(case, image, unknown, (mask, patient), painter, work, told)
    out = image.voxels.copy(order="K")
    for piece in pieces:
        out[piece.box][piece.own] = piece.numbers[piece.own]
    count = sum(int(np.count_nonzero(piece.own)) for piece in pieces)
    after = Scan(case.after.labels, replace(image, voxels=out))
    repainted = Repainted(painter.card.method, painter.source, painter.steps(work.brush), work.reasons, count)
    return case.updated(after=after, repainted=repainted)


@dataclass(frozen=True, eq=False)
class _Piece:
    """What was painted in a box: where, and the stored numbers there."""

    box: Box
    own: Bool[np.ndarray, "a b c"]
    numbers: Shaped[np.ndarray, "a b c"]

    def lay(self, box: Box, numbers: Shaped[np.ndarray, "i j k"], known: Bool[np.ndarray, "i j k"]) -> None:
        """Put the numbers into those of another box, and mark there what is known by that."""
        if common := overlap(box, self.box):
            there, here = common
            own = self.own[here]
            numbers[there][own], known[there][own] = self.numbers[here][own], True


def _paint_pieces(
    case: Case,
    image: Volume,
    unknown: Unknown,
    masks: tuple[Bool[np.ndarray, "i j k"], Bool[np.ndarray, "i j k"]],
    painter: Painter,
    work: Repainting,
    told: Told,
) -> list[_Piece]:
    """Paint region after region; what lies in two is painted once, and known to the other.

    ``masks`` are where to paint, of which nothing is left, and the patient.
    """
    from spinesim.inpaint.painter import find_regions, paint, with_context

    (mask, patient), grid, pieces = masks, image.grid, list[_Piece]()
    bounds = float(image.voxels.min()), float(image.voxels.max())
    noise_hu = case.noise_hu or USUAL_NOISE_HU
    marrow_hu = measure_marrow(case.before.image, case.before_spine) if case.before.image is not None else None
    regions = list(find_regions(mask, grid.spacing_mm))
    for rank, region in enumerate(regions, start=1):
        box = with_context(region, grid.shape, grid.spacing_mm)
        own = mask[region].copy()
        if not own.any():
            continue
        numbers, known = image.voxels[box].copy(order="K"), unknown.reasons[box] != Reason.OUTSIDE
        for piece in pieces:
            piece.lay(box, numbers, known)
        hu, local = image.hu(numbers), grid.inside(box)
        tissues = _tissues(case, hu, local, box, ~patient[box])
        painted = paint(
            Canvas(hu, mask[box], known, tissues, local, noise_hu, marrow_hu or USUAL_MARROW_HU),
            _draw_noise(case, box),
            painter,
            work.brush,
            seed=int(np.random.SeedSequence([case.seed, rank]).generate_state(1)[0]),
            device=work.device,
            told=_counted(told, rank, regions),
        )
        stored = np.clip(image.stored(painted[within(region, box)]), *bounds).astype(image.voxels.dtype)
        pieces.append(_Piece(region, own, stored))
        mask[region] = False
    return pieces


def _draw_noise(case: Case, box: Box) -> Float[np.ndarray, "a b c"]:
    """White noise of a box of the output that belongs to the tissue."""
    before, after = case.before.grid, case.after.grid
    sources = case.deformation.field.voxels_in(before, after, box)
    start = (box[0].start, box[1].start, box[2].start)
    white: Float[np.ndarray, "a b c"]
    (white,) = draw_carried_noise(sources, before.shape, start, after.shape, seed=case.seed)
    return white


def _counted(told: Told, rank: int, regions: Collection[Box]) -> Callable[[int, int], None]:
    return lambda done, of: told(f"painting, region {rank} of {len(regions)}: {100 * done // of} %")


def find_mask(unknown: Unknown, reasons: tuple[Reason, ...]) -> Bool[np.ndarray, "i j k"]:
    """Where a network paints for some reasons: there, and on the seam around."""
    out = np.empty(unknown.reasons.shape, dtype=bool, order="F")
    mark_reasons(unknown.reasons, np.isin(np.arange(max(Reason) + 1), reasons), Reason.SEAM, SEAM_VOXELS, out)
    return out


def _with_beyond(
    body: Bool[np.ndarray, "i j k"], beyond: Bool[np.ndarray, "i j k"], grid: Grid
) -> Bool[np.ndarray, "i j k"]:
    """The patient, also in what came from beyond the scan: there what is known nearest to it tells.

    How much nearer the patient is than air is found at nodes, and between them as a line goes.
    """
    if not beyond.any():
        return body
    out = body.copy(order="K")
    edge = ndimage.binary_dilation(beyond) & ~beyond
    trees = [KDTree(np.argwhere(edge & kind) * grid.spacing_mm, leafsize=LEAF) for kind in (body, ~body)]
    if not all(tree.n for tree in trees):
        out[beyond] = trees[0].n > 0
        return out
    step = np.maximum(1, np.round(NODES_MM / grid.spacing_mm[:2])).astype(int)
    for layer in np.flatnonzero(beyond.any(axis=(0, 1))):
        voxels = np.argwhere(beyond[..., layer])
        nearer = np.full(np.array(body.shape[:2]) // step + 2, np.nan)
        for corner in np.ndindex(2, 2):
            nearer[tuple((voxels // step + corner).T)] = 0
        nodes = np.argwhere(nearer == 0)
        places = np.column_stack([nodes * step, np.full(len(nodes), layer)]) * grid.spacing_mm
        patient, air = (tree.query(places, workers=THREADS)[0] for tree in trees)
        nearer[tuple(nodes.T)] = air - patient
        out[(*voxels.T, layer)] = ndimage.map_coordinates(nearer, (voxels / step).T, order=1) > 0
    return out


def _tissues(
    case: Case, hu: Float[np.ndarray, "i j k"], local: Grid, box: Box, air: Bool[np.ndarray, "i j k"]
) -> TissueMaps:
    """Tissues in a box, with the lesions that grew there."""
    labels = case.after.labels
    tissues = map_tissues(hu, local, ~air, LabelMap(labels.voxels[box], local, labels.levels), case.after_spine)
    for mask, kind in _lesions(case, hu, box):
        tissues = with_lesion(tissues, mask, kind)
    return tissues


def _lesions(case: Case, hu: Float[np.ndarray, "i j k"], box: Box) -> Iterator[tuple[Bool[np.ndarray, "i j k"], Kind]]:
    if case.masses is None:
        return
    for number, mass in enumerate(case.proposal.plan.masses, start=1):
        mask = case.masses.voxels[box] == number
        if not mask.any():
            continue
        if not isinstance(mass.structure, Level):
            yield mask, Kind.MASS
        else:
            yield mask, Kind.SCLEROTIC if hu[mask].mean() > USUAL_MARROW_HU + DENSER_HU else Kind.LYTIC
