"""``spinesim deform``: a scoliosis of a given Cobb angle on a scan, or on the phantom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import labels_option, mapping_option, quiet_option, resample_option, scheme_option, telling  # noqa: TID251


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
@click.option(
    "--grid",
    "extent",
    type=click.Choice(["same", "fit"]),
    default="same",
    show_default=True,
    help="fit: loses no bone.",
)
@click.option("--spacing", type=float, nargs=3, help="Other voxels, mm along the file's own axes.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write [default: named after the request].")
@click.option("--overwrite", is_flag=True, help="Replace a folder that an earlier case was written to.")
@click.option("--device", default="cpu", show_default=True, help="cpu, or a GPU through PyTorch: cuda, cuda:1.")
@click.option(
    "--compress/--no-compress", default=True, show_default=True, help="Write .nii.gz, or plain .nii, which is faster."
)
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
def deform(ct: Path | None, labels: Path | None, extent: Any, spacing: Any, seed: int, **options: Any) -> None:
    """Deform CT, with its vertebra labels, into a scoliosis of the Cobb angle asked.

    Without CT and labels the built-in phantom is deformed. With labels alone, the label map is.
    """
    from spinesim.pathology.scoliosis import Scoliosis
    from spinesim.series.case import OutputGrid
    from spinesim.series.job import Job, run_job

    reading = {key: options.pop(key) for key in ("scheme", "mapping", "resample_labels", "device")}
    quiet, out = (options.pop(key) for key in ("quiet", "out"))
    writing = {key: options.pop(key) for key in ("overwrite", "compress")}
    scoliosis = Scoliosis(**options)
    target = out or Path(f"scoliosis_cobb-{scoliosis.cobb_deg:g}_apex-{scoliosis.apex.replace('/', '')}")
    job = Job(ct, labels, scoliosis, target, OutputGrid(extent, spacing or None), seed, **writing, **reading)
    with telling(quiet) as told:
        case, files = run_job(job, told)
    if not quiet:
        for line in [*(f"warning: {text}" for text in (*case.findings, *case.warnings))]:
            click.echo(line, err=True)
        for name, (asked, measured, native) in case.goals.items():
            click.echo(f"{name}: asked {asked:g}, measured {measured:.1f} (before: {native:.1f})")
        click.echo(f"picture: {files['picture']}")
        click.echo(f"written: {target}")
