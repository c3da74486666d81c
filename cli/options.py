"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from spinesim.inpaint.brush import PLAIN

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

_output_options = (
    click.option(
        "--grid",
        "extent",
        type=click.Choice(["same", "fit"]),
        default="same",
        show_default=True,
        help="fit: loses no bone.",
    ),
    click.option("--spacing", type=float, nargs=3, help="Other voxels, mm along the file's own axes."),
    click.option(
        "--interpolation",
        type=click.Choice(["linear", "bspline"]),
        default="linear",
        show_default=True,
        help="Of the CT; bspline is slower, and keeps most of the noise that linear has to give back.",
    ),
    click.option("--out", type=click.Path(path_type=Path), help="Folder to write [default: named after the request]."),
    click.option("--overwrite", is_flag=True, help="Replace a folder that an earlier case was written to."),
    click.option(
        "--allow-implausible", is_flag=True, help="Tell a rule of plausibility that is broken, do not refuse."
    ),
    click.option(
        "--inpaint",
        type=click.Choice(["auto", "none", "noise", "diffusion", "pix2pix"]),
        default="auto",
        show_default=True,
        help="noise: give back what the warp took of it; diffusion, pix2pix: a network paints, too; auto: it does so "
        "where bone broke, a lesion grew, tissue was changed or came from beyond the field of view.",
    ),
    click.option("--weights", type=click.Path(path_type=Path), help="Of the network [default: those that ship]."),
    click.option("--steps", type=int, default=PLAIN.steps, show_default=True, help="Steps in which diffusion paints."),
    click.option(
        "--repaint", type=int, default=PLAIN.repaint, show_default=True, help="Times that it takes each (RePaint)."
    ),
    click.option("--device", default="cpu", show_default=True, help="cpu, or a GPU through PyTorch: cuda, cuda:1."),
    click.option(
        "--compress/--no-compress",
        default=True,
        show_default=True,
        help="Write .nii.gz, or plain .nii, which is faster.",
    ),
)


def output_options(command: Any) -> Any:
    """Add the options of a command that writes a case."""
    for option in reversed(_output_options):
        command = option(command)
    return command


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


def run_and_tell(
    ct: Path | None, labels: Path | None, pathology: Any, target: Path, seed: int, options: dict[str, Any]
) -> None:
    """Run a job with the options of ``output_options`` and of reading (and a prompt), and say what came of it."""
    from spinesim.anatomy.memory import keep_modules
    from spinesim.inpaint.brush import Brush
    from spinesim.series.case import OutputGrid
    from spinesim.series.job import Job, run_job

    keep_modules()
    quiet = options.pop("quiet")
    if options.pop("allow_implausible", False):
        pathology = pathology.allowed()
    options["brush"] = Brush(options.pop("weights"), options.pop("steps"), options.pop("repaint"))
    output = OutputGrid(options.pop("extent"), options.pop("spacing") or None, options.pop("interpolation"))
    job = Job(ct, labels, pathology, target, output, seed, **options)
    with telling(quiet) as told:
        case, files = run_job(job, told)
    if quiet:
        return
    for text in (*case.findings, *case.warnings):
        click.echo(f"warning: {text}", err=True)
    if case.noise_hu is not None:
        click.echo(f"noise: {case.noise_hu:.0f} HU in the scan, given back where the warp took it")
    if case.repainted is not None:
        reasons = ", ".join(reason.name.lower() for reason in case.repainted.reasons)
        click.echo(
            f"painted: {case.repainted.voxels} voxels with {case.repainted.method} (where unknown for: {reasons})"
        )
    if case.no_network is not None:
        click.echo(f"painted: nothing but noise ({case.no_network})")
    for name, (asked, measured, native) in case.goals.items():
        click.echo(f"{name}: asked {asked:g}, measured {measured:.1f} (before: {native:.1f})")
    click.echo(f"picture: {files['picture']}")
    if "lesions_picture" in files:
        click.echo(f"picture of the lesions: {files['lesions_picture']}")
    click.echo(f"written: {target}")
