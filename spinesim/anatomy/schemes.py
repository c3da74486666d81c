"""What the numbers of a label map mean: one table a scheme, and how to tell the schemes apart."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import UInt

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import RARE, Level, parse_level
from spinesim.errors import LabelError

_USUAL = [level for level in Level if level not in RARE and level != Level.S]
_UPWARD = _USUAL[::-1]

VERSE = {**dict(enumerate([*_USUAL, Level.L6], start=1)), 26: Level.S, 28: Level.T13}

SCHEMES: Mapping[str, Mapping[int, Level]] = MappingProxyType(
    {
        "verse": VERSE,
        "totalsegmentator": {26: Level.S, 25: Level.S, **dict(enumerate(_UPWARD, start=27))},
        "totalsegmentator_v1": {92: Level.S, **dict(enumerate(_UPWARD, start=18))},
        "maisi": {127: Level.S, 97: Level.S, 131: Level.L6, **dict(enumerate(_UPWARD, start=33))},
        "spineps": VERSE,
    }
)
"""Label number to level, a table a scheme.

``verse`` is that of Sekuboyina et al. (2021); ``totalsegmentator`` the 117 classes of the task *total* of version 2,
``totalsegmentator_v1`` the 104 of version 1; ``maisi`` the 132 classes of MAISI and VISTA3D; ``spineps`` the
instance map of SPINEPS, with discs at 100 + n and end plates at 200 + n, which are carried along.

Where two numbers name one level, the first in the table that is present means it and the other is carried along.
TotalSegmentator and MAISI cut the body of S1 out of the sacrum and label it apart: S1 bears the end plate
on which L5 stands, so S1 is ``Level.S`` where it was drawn, and the sacrum only where it was not.
"""

_STRUCTURES = """
spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right esophagus
trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left kidney_cyst_right
sacrum vertebrae_S1 {vertebrae} heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right
subclavian_artery_left common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left
brachiocephalic_vein_right atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein
iliac_artery_left iliac_artery_right iliac_vena_left iliac_vena_right humerus_left humerus_right scapula_left
scapula_right clavicula_left clavicula_right femur_left femur_right hip_left hip_right spinal_cord gluteus_maximus_left
gluteus_maximus_right gluteus_medius_left gluteus_medius_right gluteus_minimus_left gluteus_minimus_right
autochthon_left autochthon_right iliopsoas_left iliopsoas_right brain skull {ribs} sternum costal_cartilages
""".format(
    vertebrae=" ".join(f"vertebrae_{level.name}" for level in _UPWARD),
    ribs=" ".join(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13)),
)

STRUCTURES: Mapping[str, int] = MappingProxyType({name: n for n, name in enumerate(_STRUCTURES.split(), start=1)})
"""Number of every structure of TotalSegmentator 2 (task *total*), by the name of its file."""

PITCH_MM = (5.0, 100.0)
"""Smallest and largest mean height from a level to the next that still looks like a spine."""


def levels_of(scheme: str, present: Mapping[int, Any] | tuple[int, ...]) -> dict[int, Level]:
    """Give the table of a scheme for the numbers that are present, one number a level.

    Raises
    ------
    LabelError
        When there is no scheme of that name.
    """
    if scheme not in SCHEMES:
        raise LabelError(f"scheme: expected one of auto, {', '.join(SCHEMES)}, got {scheme!r}; or give a mapping file")
    table = SCHEMES[scheme]
    meant: dict[Level, int] = {}
    for number, level in table.items():
        if number in present:
            meant.setdefault(level, number)
    return {number: level for number, level in table.items() if meant.get(level, number) == number}


def parse_mapping(entries: Mapping[Any, Any], source: str) -> dict[int, Level]:
    """Read a label mapping, ``{number: level name}`` or ``{level name: number}``.

    Parameters
    ----------
    entries : mapping
        As it stands in the file; one way round throughout.
    source : str
        Name of the file, for messages.

    Raises
    ------
    LabelError
        When a name is no level, a number is not a whole one from 1, or a number or level comes twice.
    """
    found: dict[int, Level] = {}
    for key, value in entries.items():
        number, name = (value, key) if isinstance(key, str) else (key, value)
        if not isinstance(number, int) or isinstance(number, bool) or number < 1 or not isinstance(name, str):
            raise LabelError(
                f"{source}: expected lines like '22: L3' with numbers from 1, got '{key}: {value}'; mend that line"
            )
        try:
            level = parse_level(name)
        except LabelError as error:
            raise LabelError(f"{source}: {error}") from error
        if number in found or level in found.values():
            raise LabelError(
                f"{source}: expected each number and each level once, got '{key}: {value}' again; drop one of the two"
            )
        found[number] = level
    if not found:
        raise LabelError(f"{source}: expected at least one line like '22: L3', got none; write the mapping")
    return found


def measure_heights(voxels: UInt[np.ndarray, "i j k"], grid: Grid) -> dict[int, float]:
    """Mean height of every number that is present (without 0).

    Returns
    -------
    dict
        Number to millimetres along the voxel axis nearest to superior, from the first slice, upward positive.
    """
    axis = int(np.abs(grid.direction[2]).argmax())
    upward = float(np.sign(grid.direction[2, axis]) * grid.spacing_mm[axis])
    bins = int(voxels.max()) + 1
    count, moment = np.zeros(bins), np.zeros(bins)
    for index, piece in enumerate(np.moveaxis(voxels, axis, 0)):
        here = np.bincount(piece.ravel(order="K"), minlength=bins)
        count += here
        moment += index * here
    return {int(n): float(upward * moment[n] / count[n]) for n in np.flatnonzero(count) if n}


def detect_scheme(heights: Mapping[int, float]) -> str:
    """Tell the scheme from the numbers that are present and the order in which they lie.

    A scheme is possible where the levels that it reads lie one above the other from head to foot, at the distances
    of a spine: VerSe counts downward, the others upward, and organs do not line up. One level has no order, and
    counts only where nothing else is labelled. Of the possible schemes, the one that reads most levels is
    meant; where two read equally many, VerSe, if it is among them.

    Parameters
    ----------
    heights : mapping
        Number to mean height in millimetres, as :func:`measure_heights` gives it.

    Raises
    ------
    LabelError
        When no scheme is possible, or several are and they mean different levels.
    """
    found = {scheme: _spine_read(scheme, heights) for scheme in SCHEMES if scheme != "spineps"}
    most = max(map(len, found.values()))
    if not most:
        raise LabelError(
            f"expected the numbers of vertebrae in order from head to foot, got {_listed(heights)}, "
            "which no scheme reads as a spine; pass --scheme or a mapping file"
        )
    best = [scheme for scheme, levels in found.items() if len(levels) == most]
    if "verse" in best:
        return "spineps" if any(100 < n <= 128 or 200 < n <= 228 for n in heights) else "verse"
    if any(found[scheme] != found[best[0]] for scheme in best):
        raise LabelError(
            f"expected numbers that one scheme explains, got {_listed(heights)}, "
            f"which {' and '.join(best)} read as different levels; pass --scheme"
        )
    return best[0]


def _spine_read(scheme: str, heights: Mapping[int, float]) -> dict[int, Level]:
    """The levels that a scheme reads, or none where they do not lie like a spine."""
    levels = {n: level for n, level in levels_of(scheme, heights).items() if n in heights}
    present = set(levels.values())
    if any(level in present and not {level - 1, level + 1} & present for level in RARE):
        return {}
    if len(levels) < 2:
        return levels if len(heights) == 1 else {}
    column = np.array([heights[n] for n in sorted(levels, key=levels.__getitem__)])
    pitch = (column[0] - column[-1]) / (max(present) - min(present))
    return levels if (np.diff(column) < 0).all() and PITCH_MM[0] <= pitch <= PITCH_MM[1] else {}


def _listed(numbers: Mapping[int, Any]) -> str:
    """The numbers of a map in a few words."""
    text = ", ".join(map(str, sorted(numbers)[:30]))
    return f"numbers {text}{' …' if len(numbers) > 30 else ''}"
