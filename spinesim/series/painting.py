"""Paint what a case could not know, and say what that was."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.scan import Scan, Volume, read_only
from spinesim.anatomy.surroundings import find_surroundings
from spinesim.inpaint.brush import Inpainting
from spinesim.inpaint.grain import restore_noise
from spinesim.inpaint.mask import Reason, Unknown, find_unknown
from spinesim.inpaint.scanner import measure_noise
from spinesim.series.repainting import Repainting, Told, repaint

if TYPE_CHECKING:
    from spinesim.series.case import Case


def _silent(_: str) -> None:
    """Tell nothing."""


def find_painted(warped: Volume | None, changed: Volume | None, grown: Volume | None) -> dict[Reason, np.ndarray]:
    """Where the plan changed the CT: its tissues first, and what grew then; nothing where there is none."""
    if warped is None or changed is None or grown is None:
        return {}
    found = {}
    for reason, before, after in ((Reason.TISSUE, warped, changed), (Reason.LESION, changed, grown)):
        if before.voxels is not after.voxels:
            found[reason] = read_only(before.voxels != after.voxels)
    return found


def paint_case(case: Case, method: Inpainting, network: Repainting | None = None, told: Told = _silent) -> Case:
    """Find what a case does not know, and paint it; a case without a CT stays as it is.

    The noise of the scan is measured, and what interpolation took of it is given back. A scan on which it cannot be
    measured keeps the blur, with a warning, and so does one that is carried to voxels of another size. Then the
    network paints, where there is one and work for it.
    """
    if case.before.image is None or case.after.image is None:
        return case
    told("painting")
    around, grid = case.surroundings or find_surroundings(case.after.image), case.after.grid
    body = around.body_on(grid)
    case = case.updated(unknown=_find_unknown(case, case.after.image, body))
    if method == "none":
        return case
    case = _with_noise(case, body)
    del body  # as large as the volume: a network needs the memory
    return case if network is None else repaint(case, partial(around.body_on, grid), network, told)


def _find_unknown(case: Case, after: Volume, body: Bool[np.ndarray, "i j k"]) -> Unknown:
    """What the warped CT of a case cannot know."""
    divided = {level: each.growth for level, each in case.deformation.carriages.items() if not each.whole}
    labels = case.after.labels
    grown = {  # bone that grew did not break by that
        labels.numbers[level]: growth
        for level, growth in divided.items()
        if level in labels.numbers and not np.isclose(growth, 1.0)
    }

    def density(box: Box) -> Float[np.ndarray, "a b c"]:
        found = case.deformation.field.density(after.grid, box)
        for number, growth in grown.items():
            found[labels.voxels[box] == number] *= growth
        return found

    table = case.deformation.table
    overruled = None if table is None else table.touched
    return find_unknown(after, labels, density, case.outside, body, case.painted, divided, overruled)


def _with_noise(case: Case, body: Bool[np.ndarray, "i j k"]) -> Case:
    """Give back the noise that linear interpolation took; splines keep most of it."""
    before, after, unknown = case.before.image, case.after.image, unknown_of(case)
    if before is None or after is None or case.interpolation != "linear":
        return case
    if not np.allclose(before.grid.spacing_mm, after.grid.spacing_mm, rtol=0.02):
        said = "noise: expected the voxels of the scan, got others; the CT keeps the blur of the warp"
        return case.updated(warnings=(*case.warnings, said))
    low, high = before.voxels.min(), before.voxels.max()  # what a scanner clipped has no noise
    labels = case.before.labels
    is_bone = np.isin(np.arange(max(labels.present) + 1), list(labels.levels))
    noise = measure_noise(before, is_bone[labels.voxels])
    if noise is None:
        said = (
            "noise: expected even soft tissue with noise on voxels of 1.7 mm or less, got too little; "
            "the CT keeps the blur of the warp"
        )
        return case.updated(warnings=(*case.warnings, said))
    image, lost = restore_noise(
        after,
        noise,
        lambda box: case.deformation.field.voxels_in(before.grid, after.grid, box),
        before.grid,
        body & ~case.outside & (unknown.reasons != Reason.TABLE) & (after.voxels > low) & (after.voxels < high),
        (float(low), float(high)),
        seed=case.seed,
    )
    scan = Scan(case.after.labels, image)
    return case.updated(after=scan, unknown=unknown.with_blur(lost), noise_hu=noise.mean_hu)


def unknown_of(case: Case) -> Unknown:
    """What a case does not know: that of its field of view, where it was not looked for."""
    return case.unknown or Unknown(np.where(case.outside, np.uint8(Reason.OUTSIDE), np.uint8(0)))
