"""``spinesim phantom``: the built-in healthy CT with its labels, written to a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .options import quiet_option  # noqa: TID251 - relative, as it must be


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--sex", type=click.Choice(["male", "female"]), help="4 % larger or smaller [default: the mean of both].")
@click.option("--age", "age_years", type=float, help="Sets the density of the marrow, 18 to 100 years [default: 40].")
@click.option("--height", "height_cm", type=float, help="Stature, 140 to 210 cm [default: 165, male 171, female 159].")
@click.option("--upper", help="First whole vertebra, C3 or lower [default: C7].")
@click.option("--lower", help="Last whole vertebra [default: S].")
@click.option("--spacing", "spacing_mm", type=float, nargs=3, help="Voxel size, 0.4 to 3 mm [default: 1.5 1.5 1.5].")
@click.option("--slice", "slice_mm", type=float, help="Thickness of a slice, mm [default: the spacing along z].")
@click.option("--noise", "noise_hu", type=float, help="Standard deviation of the noise, 0 to 100 HU [default: 12].")
@click.option("--kernel", type=click.Choice(["soft", "standard", "bone"]), help="Sharpness [default: standard].")
@click.option("--seed", type=int, help="Another person: left and right, texture, noise [default: 0].")
@click.option(
    "--morphology-seed", type=int, help="Draw the vertebrae from the morphology model [default: the table's]."
)
@click.option("--overwrite", is_flag=True, help="Replace a folder that an earlier phantom was written to.")
@quiet_option
def phantom(out: Path, overwrite: bool, quiet: bool, **options: Any) -> None:
    """Make the built-in healthy CT, with labels of its vertebrae and of all its structures."""
    from spinesim.phantom import PhantomParameters
    from spinesim.series.phantom_folder import make_phantom

    parameters = PhantomParameters(**{key: value for key, value in options.items() if value is not None})
    files = make_phantom(parameters, out, overwrite=overwrite)
    if not quiet:
        click.echo(f"levels: {parameters.upper.name} to {parameters.lower.name}, {parameters.size:.3g} times the mean")
        for path in files.values():
            click.echo(f"written: {path}")
