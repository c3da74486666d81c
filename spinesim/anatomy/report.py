"""What was measured, said for people: degrees and millimetres under names that carry their unit."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from spinesim.anatomy.curves import Curve, coronal_tilt, sagittal_tilt
from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import Disc, Measures
from spinesim.anatomy.vertebra import BodyHeights, EndPlate, Spine, Vertebra
from spinesim.anatomy.writing import replacing
from spinesim.errors import OutputError

DECIMALS = 2
"""Angles and lengths are told to the hundredth: finer than any of them is known."""

PLACES = tuple(place.name for place in fields(BodyHeights))


def report_measures(measures: Measures, spine: Spine) -> dict[str, Any]:
    """Tell what was measured as plain data, ready for JSON.

    Angles are degrees, lengths millimetres, both to the hundredth; positions and axes are world RAS. A number that
    could not be read is None. Signs are those of :mod:`spinesim.anatomy.measure`.
    """
    return {
        "curves": [_curve(curve) for curve in measures.curves],
        "kyphosis_deg": _angles(measures.kyphosis),
        "lordosis_deg": _angles(measures.lordosis),
        "axial_rotation_deg": {level.name: _degrees(angle) for level, angle in measures.rotation.items()},
        "discs": [_disc(disc) for disc in measures.discs],
        "heights_mm": {level.name: _heights(heights) for level, heights in measures.heights.items()},
        "genant_grade": {level.name: int(grade) for level, grade in measures.genant.items()},
        "not_measured": [level.name for level in measures.unmeasured],
        "vertebrae": {vertebra.level.name: _pose(vertebra) for vertebra in spine},
    }


def report_rows(measures: Measures, spine: Spine) -> list[dict[str, Any]]:
    """Tell what was measured as one row a level, from the head down; what is not known is None.

    Plate tilts are degrees from level in the patient's own frame, positive when the upward normal leans to the
    patient's right (coronal) or forward (sagittal).
    """
    discs = {disc.upper: disc for disc in measures.discs}
    return [_row(vertebra, measures, spine, discs.get(vertebra.level)) for vertebra in spine]


def check_names(reports: Sequence[Path | None], *, inputs: Sequence[Path | None]) -> None:
    """Refuse names for reports that would replace an input, or one another.

    Raises
    ------
    OutputError
        When two names mean one file.
    """
    taken = {os.path.realpath(path) for path in inputs if path}
    for path in filter(None, reports):
        if os.path.realpath(path) in taken:
            raise OutputError(
                f"{path}: expected a file of its own, got an input or another report; choose another name"
            )
        taken.add(os.path.realpath(path))


def write_json(report: Mapping[str, Any], path: str | Path) -> None:
    """Write a report as JSON, under a temporary name first.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    with replacing(Path(path)) as raw:
        raw.write((json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_csv(rows: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Write rows that have the same columns as CSV, under a temporary name first.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    text = io.StringIO()
    table = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    with replacing(Path(path)) as raw:
        raw.write(text.getvalue().encode())


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "cobb_deg": _degrees(curve.cobb),
        "side": curve.side,
        "upper_end": curve.upper.name,
        "lower_end": curve.lower.name,
        "apex": curve.apex_name,
        "apical_translation_mm": _rounded(curve.translation_mm),
    }


def _disc(disc: Disc) -> dict[str, Any]:
    return {
        "levels": f"{disc.upper.name}/{disc.lower.name}",
        "height_mm": _rounded(disc.height_mm),
        "coronal_wedge_deg": _degrees(disc.coronal_wedge),
        "sagittal_wedge_deg": _degrees(disc.sagittal_wedge),
    }


def _pose(vertebra: Vertebra) -> dict[str, Any]:
    """Centre (mm) and unit axes of a vertebra in world RAS."""
    ways = zip(("right", "anterior", "superior"), vertebra.axes.T, strict=True)
    return {
        "centre_mm": [_rounded(x) for x in vertebra.centre],
        "axes": {way: [_rounded(x, 6) for x in axis] for way, axis in ways},
    }


def _row(vertebra: Vertebra, measures: Measures, spine: Spine, disc: Disc | None) -> dict[str, Any]:
    """One level: pose, tilts, rotation, heights, grade, and the disc below it."""
    level, measured = vertebra.level, vertebra.measured
    rotation = measures.rotation.get(level)
    below = _disc(disc) if disc else {}
    return {
        "level": level.name,
        "measured": measured,
        **{f"centre_{axis}_mm": _rounded(x) for axis, x in zip("xyz", vertebra.centre, strict=True)},
        **_tilts("superior", vertebra.superior if measured else None, spine),
        **_tilts("inferior", vertebra.inferior if measured and level != Level.S else None, spine),
        "axial_rotation_deg": None if rotation is None else _degrees(rotation),
        **{f"height_{place}_mm": height for place, height in _heights(measures.heights.get(level)).items()},
        "genant_grade": measures.genant.get(level),
        "disc_below": below.get("levels"),
        "disc_height_mm": below.get("height_mm"),
        "disc_coronal_wedge_deg": below.get("coronal_wedge_deg"),
        "disc_sagittal_wedge_deg": below.get("sagittal_wedge_deg"),
    }


def _tilts(name: str, plate: EndPlate | None, spine: Spine) -> dict[str, float | None]:
    """Tilts of an end plate from the front and from the side."""
    views = {"coronal": coronal_tilt, "sagittal": sagittal_tilt}
    return {
        f"{name}_{view}_deg": None if plate is None else _degrees(tilt(plate, spine.patient_axes))
        for view, tilt in views.items()
    }


def _heights(heights: BodyHeights | None) -> dict[str, float | None]:
    return {place: None if heights is None else _rounded(getattr(heights, place)) for place in PLACES}


def _angles(angles: Mapping[tuple[Level, Level], float]) -> dict[str, float | None]:
    return {f"{upper.name}-{lower.name}": _degrees(angle) for (upper, lower), angle in angles.items()}


def _degrees(angle: float) -> float | None:
    return _rounded(np.rad2deg(angle))


def _rounded(value: float, decimals: int = DECIMALS) -> float | None:
    """A plain float without negative zero; None for what could not be read."""
    return round(float(value), decimals) + 0.0 if np.isfinite(value) else None
