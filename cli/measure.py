"""``spinesim measure``: what the Cobb angle and the rest are on a label map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import mapping_option, quiet_option, resample_option, scheme_option  # noqa: TID251 - relative, as it must be

COLUMNS = {
    "level": "level",
    "upper": "superior_coronal_deg",
    "lower": "inferior_coronal_deg",
    "turn": "axial_rotation_deg",
    "anterior": "height_anterior_mm",
    "middle": "height_middle_mm",
    "posterior": "height_posterior_mm",
    "left": "height_left_mm",
    "right": "height_right_mm",
    "Genant": "genant_grade",
    "disc": "disc_height_mm",
    "front": "disc_coronal_wedge_deg",
    "side": "disc_sagittal_wedge_deg",
}
"""Heads of the printed table, and the columns of the report under them."""

LEGEND = """\
Each level: tilt of its upper and lower end plate from the front and its axial turn (degrees, positive to the patient's
right); heights of its body (mm) and Genant grade; height (mm) of the disc below and its wedge from the front, positive
when it opens to the right, and from the side, positive when it opens forward (degrees)."""


@click.command()
@click.argument("labels", type=click.Path(path_type=Path))
@click.option(
    "--ct", type=click.Path(path_type=Path), help="The CT on which the labels were drawn, to check that they fit."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write everything to this JSON file.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), help="Write one row a level to this CSV file.")
@scheme_option
@mapping_option
@resample_option
@quiet_option
def measure(
    labels: Path,
    ct: Path | None,
    json_file: Path | None,
    csv_file: Path | None,
    scheme: str,
    mapping: Path | None,
    resample_labels: bool,
    quiet: bool,
) -> None:
    """Measure the spine in LABELS: a label map, or a folder that TotalSegmentator wrote.

    Curves are found, not given; angles are read in the patient's own planes.
    """
    from spinesim.anatomy.findings import check_order, findings, tell_coarseness
    from spinesim.anatomy.locate import estimate_spine
    from spinesim.anatomy.measure import measure_spine
    from spinesim.anatomy.reading import read_scan
    from spinesim.anatomy.report import check_names, report_measures, report_rows, write_csv, write_json

    check_names([json_file, csv_file], inputs=[labels, ct, mapping])
    scan = read_scan(ct, labels, scheme=scheme, mapping=mapping, resample_labels=resample_labels)
    check_order(scan.labels)
    spine = estimate_spine(scan.labels)
    measures = measure_spine(spine)
    found = (*findings(scan.labels, spine), *tell_coarseness(scan.labels.grid))
    report, rows = report_measures(measures, spine), report_rows(measures, spine)
    if json_file:
        write_json({"labels": str(labels), "scheme": scan.labels.scheme, **report, "findings": list(found)}, json_file)
    if csv_file:
        write_csv(rows, csv_file)
    if not quiet:
        click.echo("\n".join([*_angle_lines(report), "", LEGEND, "", *_table(rows), *_finding_lines(found)]))


def _angle_lines(report: dict[str, Any]) -> list[str]:
    """Curves and sagittal angles, one a line."""
    curves = [
        "Curve     {upper_end}-{lower_end}  {cobb_deg:.1f}°  to the {side}, "
        "apex {apex}, {apical_translation_mm:.1f} mm off the line".format(**curve)
        for curve in report["curves"]
    ]
    sagittal = [
        f"{name:9} {levels}  {angle:.1f}°"
        for name, key in (("Kyphosis", "kyphosis_deg"), ("Lordosis", "lordosis_deg"))
        for levels, angle in report[key].items()
    ]
    return [*(curves or ["Curve     none of 5° or more"]), *sagittal]


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """The heads, and one line a level."""
    lines = [[_cell(row[column]) for column in COLUMNS.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *lines, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in [list(COLUMNS), *lines]
    ]


def _cell(value: Any) -> str:
    """A number to a tenth, a name as it is, a dot for what is not known."""
    if value is None:
        return "·"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def _finding_lines(found: tuple[str, ...]) -> list[str]:
    """Findings under a heading of their own."""
    return ["", "Findings", *(f"- {sentence}" for sentence in found)] if found else []
