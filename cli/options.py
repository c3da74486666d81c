"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

labels_option = click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Label map of the vertebrae (NIfTI, NRRD, MHA), or a folder that TotalSegmentator wrote.",
)

scheme_option = click.option(
    "--scheme",
    default="auto",
    show_default=True,
    help="Meaning of the label numbers: verse, totalsegmentator, totalsegmentator_v1, maisi or spineps.",
)

mapping_option = click.option(
    "--mapping",
    type=click.Path(path_type=Path),
    help="YAML file with lines like '22: L3', instead of a scheme.",
)

resample_option = click.option(
    "--resample-labels",
    is_flag=True,
    help="Carry the labels to the grid of the CT where the two differ.",
)

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but warnings and errors.")
