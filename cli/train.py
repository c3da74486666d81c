"""``spinesim train``: train the networks that paint."""

from __future__ import annotations

from pathlib import Path

import click

from .options import quiet_option, telling  # noqa: TID251 - relative, as it must be


@click.group()
def train() -> None:
    """Train networks on your own scans."""


@train.command()
@click.argument("data", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--config",
    "source",
    default="inpaint-cpu",
    show_default=True,
    help="YAML file, or one that ships: inpaint-cpu, inpaint-gpu, inpaint-smoke, pix2pix-cpu.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder; a training that was begun there goes on."
)
@click.option("--licence", default="", help="Terms of the scans, for the card of the weights.")
@quiet_option
def inpaint(data: tuple[Path, ...], source: str, out: Path, licence: str, quiet: bool) -> None:
    """Train the network that paints, on DATA: CTs, or folders of them.

    Labels are not needed; where some lie beside a CT (NAME_ct.nii.gz, NAME_seg-vert….nii.gz) they are used.
    """
    from spinesim.errors import ConfigError
    from spinesim.inpaint.brush import missing_packages

    missing = missing_packages(training=True)
    if missing:
        raise ConfigError(f"train: expected {', '.join(missing)}, got none installed; pip install 'spinesim[train]'")
    from spinesim.inpaint.training_config import find_training_config
    from spinesim.inpaint.training_run import run_training

    config = find_training_config(source)

    def tell(step: int, loss: float, held_out: float | None, seconds: float) -> None:
        if not quiet:
            beside = "" if held_out is None else f", held out {held_out:.4f}"
            click.echo(f"step {step} of {config.steps}: loss {loss:.4f}{beside} ({seconds / 60:.0f} min)")

    with telling(quiet) as told:
        weights = run_training(config, data, out, licence=licence, told=told, tell=tell)
    click.echo(f"written: {weights}")
