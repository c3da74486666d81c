"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


class telling:  # noqa: N801 - used as a function
    """A bar on a terminal, silence elsewhere."""

    def __init__(self, quiet: bool) -> None:
        from tqdm import tqdm

        self.bar = tqdm(total=None, disable=True if quiet else None, bar_format="{elapsed} {desc}", leave=False)

    def __enter__(self) -> Any:
        return self._tell

    def _tell(self, stage: str) -> None:
        self.bar.set_description_str(stage)

    def __exit__(self, *_: object) -> None:
        self.bar.close()
