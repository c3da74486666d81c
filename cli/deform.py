"""``spinesim deform``: a scoliosis of a given Cobb angle on a scan, or on the phantom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import (  # noqa: TID251 - relative, as it must be
    labels_option,
    mapping_option,
    output_options,
    quiet_option,
    resample_option,
    run_and_tell,
    scheme_option,
)


@click.command()
@click.argument("ct", type=click.Path(path_type=Path), required=False)
@labels_option
@click.option(
    "--cobb", "cobb_deg", type=float, required=True, help="Cobb angle to be measured on the result, 0 to 90 degrees."
)
@click.option("--apex", required=True, help="Apical vertebra (T9) or disc (T8/T9).")
@click.option(
    "--direction", type=click.Choice(["right", "left"]), help="Side of the convexity [default: right, lumbar left]."
)
@click.option(
    "--also", multiple=True, metavar="COBB@APEX", help="Another curve beside it, as 30@L2; may be given again."
)
@click.option("--upper-end", help="Upper end vertebra [default: usual for this size and apex].")
@click.option("--lower-end", help="Lower end vertebra [default: usual for this size and apex].")
@click.option("--rotation-per-cobb", type=float, help="Apical axial rotation per degree [default: 0.28, lumbar 0.17].")
@click.option(
    "--kyphosis-per-cobb", type=float, help="Change of T5-T12 kyphosis per degree [default: -0.15, lumbar 0]."
)
@click.option("--vertebral-share", type=float, default=0.0, show_default=True, help="Share taken by wedged vertebrae.")
@click.option(
    "--offset", "offset_mm", type=float, default=0.0, show_default=True, help="Top to the right of bottom, mm."
)
@output_options
@click.option(
    "--variability",
    type=float,
    default=0.0,
    show_default=True,
    help="0: the mean curve; up to 1: a patient who has it, by --seed.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Of --variability, and of the phantom's noise.",
)
@scheme_option
@mapping_option
@resample_option
@quiet_option
def deform(ct: Path | None, labels: Path | None, seed: int, **options: Any) -> None:
    """Deform CT, with its vertebra labels, into a scoliosis of the Cobb angle asked.

    Without CT and labels the built-in phantom is deformed. With labels alone, the label map is.
    """
    from spinesim.pathology.scoliosis import Scoliosis

    asked = {key: options.pop(key) for key in Scoliosis.model_fields if key in options}
    scoliosis = Scoliosis(**asked)
    named = Path(f"scoliosis_cobb-{scoliosis.cobb_deg:g}_apex-{scoliosis.apex.replace('/', '')}")
    run_and_tell(ct, labels, scoliosis, options.pop("out") or named, seed, options)
