"""The unknown mask: voxels that a warp could not know, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from jaxtyping import Bool, Float, UInt8

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, Volume, read_only
from spinesim.inpaint.kernels import count_reasons, find_changed, mark_seam, mark_strained


class Reason(IntEnum):
    """Why a voxel is not known, as numbered in the mask: the first that holds, but the table before all but OUTSIDE."""

    OUTSIDE = 1
    """It came from beyond the field of view."""
    LESION = 2
    """A lesion grew there."""
    FRACTURE = 3
    """Bone that broke: compressed, stretched or changed by the plan."""
    TISSUE = 4
    """Other tissue that the plan changed: gas, sclerosis, a bridge of bone."""
    STRETCHED = 5
    """Soft tissue that was stretched too far."""
    SQUEEZED = 6
    """Soft tissue that was compressed too far."""
    SEAM = 7
    """What borders on one of these."""
    BLUR = 8
    """Tissue that is known, but for the noise that interpolation took away."""
    TABLE = 9
    """The table that stands where it stood, and air where the field would have brought it."""


STRAINS = {"gas": 3.0, "soft": 2.0, "bone": 1.6, "broken": 1.3}
"""How many times each tissue may be stretched or compressed and still be known (assumed: what the eye does not see). A
bone that moves as a whole is always known."""

GAS_HU, BONE_HU = -500.0, 200.0
"""Below is lung or gas, above bone that has no level (ribs)."""

SEAM_VOXELS = 2
"""Width of the seam."""

SLAB = 16
"""Slices whose densities are held at once."""


@dataclass(frozen=True, eq=False)
class Region:
    """Voxels that are not known for one reason at one place: a level, a lesion, or anywhere else."""

    reason: Reason
    place: str
    voxels: int
    volume_ml: float


@dataclass(frozen=True, eq=False)
class Unknown:
    """Why each voxel is not known (the numbers of ``Reason``), 0 where it is; read-only."""

    reasons: UInt8[np.ndarray, "i j k"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "reasons", read_only(self.reasons))

    @property
    def mask(self) -> Bool[np.ndarray, "i j k"]:
        """Whether each voxel is unknown, for whatever reason."""
        return self.reasons > 0

    def with_blur(self, lost: Bool[np.ndarray, "i j k"]) -> Unknown:
        """Add where noise was lost, as far as there is no other reason."""
        reasons = self.reasons.copy(order="K")
        reasons[lost & (reasons == 0)] = Reason.BLUR
        return Unknown(reasons)

    def regions(self, labels: LabelMap, masses: LabelMap | None, names: Collection[str]) -> tuple[Region, ...]:
        """List what is unknown: lesions by name, fractures and changed tissue by level, and of each reason the rest."""
        found = []
        voxel_ml = labels.grid.voxel_volume_mm3 / 1000
        counts = np.zeros((self.reasons.shape[2], max(Reason) + 1), dtype=np.int64)
        count_reasons(self.reasons, counts)
        for reason in Reason:
            count = int(counts[:, reason].sum())
            if count == 0:
                continue
            places = _places(self.reasons, reason, labels, masses, names)
            places[""] = count - sum(places.values())
            found += [Region(reason, place, n, n * voxel_ml) for place, n in places.items() if n]
        return tuple(found)


def _places(
    reasons: UInt8[np.ndarray, "i j k"],
    reason: Reason,
    labels: LabelMap,
    masses: LabelMap | None,
    names: Collection[str],
) -> dict[str, int]:
    """Voxels of a reason in each lesion, or in each level."""
    if reason is Reason.LESION and masses is not None:
        inside = np.bincount(masses.voxels[reasons == reason], minlength=len(names) + 1)[1:]
        return dict(zip(names, inside.tolist(), strict=True))
    if reason in (Reason.FRACTURE, Reason.TISSUE):
        boxes = {level: labels.boxes[number] for level, number in labels.numbers.items()}
        return {
            level.name: int(np.count_nonzero((reasons[box] == reason) & (labels.voxels[box] == labels.numbers[level])))
            for level, box in boxes.items()
        }
    return {}


def find_unknown(
    image: Volume,
    labels: LabelMap,
    density: Callable[[Box], Float[np.ndarray, "a b c"]],
    outside: Bool[np.ndarray, "i j k"],
    body: Bool[np.ndarray, "i j k"],
    painted: Mapping[Reason, Bool[np.ndarray, "i j k"]],
    divided: Collection[Level],
    overruled: Bool[np.ndarray, "i j k"] | None = None,
) -> Unknown:
    """Find what a warped CT cannot know.

    Parameters
    ----------
    image, labels
        CT and labels after the warp, with what the plan changed.
    density : callable
        How many times the tissue of each voxel of a box was compressed (float32); below 1 it was stretched.
    outside : (i, j, k) bool array
        Voxels that came from beyond the scan.
    body : (i, j, k) bool array
        The patient; air and table around are known, but where ``overruled`` says otherwise.
    painted : mapping
        Where the plan changed the CT: ``Reason.TISSUE``, ``Reason.LESION``.
    divided : collection of Level
        Bones that did not move as a whole.
    overruled : (i, j, k) bool array, optional
        Voxels that do not hold what the field brings, because the table stays.
    """
    count = int(labels.voxels.max()) + 1
    limits, soft, broken = np.zeros(count, dtype=np.float32), np.ones(count, dtype=bool), np.zeros(count, dtype=bool)
    for level, number in labels.numbers.items():
        soft[number], broken[number] = False, level in divided
        limits[number] = np.log(STRAINS["broken"]) if level in divided else np.inf
    by_hu = np.log([STRAINS["gas"], STRAINS["soft"], STRAINS["bone"]]).astype(np.float32)
    reasons = np.zeros(labels.grid.shape, dtype=np.uint8, order="F")
    parted = image.stored(np.array([GAS_HU, BONE_HU]))
    if image.slope < 0:
        parted, by_hu = parted[::-1].copy(), by_hu[::-1].copy()
    marks = np.array([Reason.FRACTURE, Reason.STRETCHED, Reason.SQUEEZED], dtype=np.uint8)
    calm = 1 - 1 / min(STRAINS.values())  # a density nearer to 1 is no reason for any tissue
    table = (limits, soft, broken, by_hu, calm - 1e-3)
    for start in range(0, reasons.shape[2], SLAB):
        slab = slice(0, reasons.shape[0]), slice(0, reasons.shape[1]), slice(start, min(start + SLAB, reasons.shape[2]))
        of_slab = density(slab), labels.voxels[slab], image.voxels[slab], parted
        mark_strained(*of_slab, *table, body[slab], marks, reasons[slab])
    for reason, where in sorted(painted.items(), reverse=True):
        reasons[where] = reason
        if reason is Reason.TISSUE:
            reasons[where & broken[labels.voxels]] = Reason.FRACTURE
    reasons[outside] = Reason.OUTSIDE
    _add_seam(reasons, labels, soft, body)
    if overruled is not None:
        reasons[overruled & ~outside] = Reason.TABLE
    return Unknown(reasons)


def _add_seam(
    reasons: UInt8[np.ndarray, "i j k"],
    labels: LabelMap,
    soft: Bool[np.ndarray, " n"],
    body: Bool[np.ndarray, "i j k"],
) -> None:
    """Mark what borders on the unknown, in place: in soft tissue, and in bones where they are unknown themselves."""
    may = soft.copy()
    find_changed(reasons, labels.voxels, may)
    mark_seam(reasons, labels.voxels, may, body, SEAM_VOXELS, Reason.SEAM)
