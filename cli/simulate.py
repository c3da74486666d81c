"""``spinesim simulate``: any pathology, or several, from a configuration."""

from __future__ import annotations

import re
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
@click.option("--config", "source", help="YAML file, or the name of a preset.")
@click.option("--set", "changes", multiple=True, help="Another value in it: level=T9, or 2.level=T9 of its second.")
@click.option("--prompt", help="A sentence instead, as '35 degree right thoracic scoliosis, apex T9'.")
@click.option("--presets", "list_presets", is_flag=True, help="List the presets, and do nothing else.")
@output_options
@click.option("--seed", type=click.IntRange(min=0), help="Of all that is drawn [default: the configuration's].")
@scheme_option
@mapping_option
@resample_option
@quiet_option
def simulate(
    ct: Path | None,
    labels: Path | None,
    source: str | None,
    changes: tuple[str, ...],
    prompt: str | None,
    list_presets: bool,
    seed: int | None,
    **options: Any,
) -> None:
    """Deform CT, with its vertebra labels, into what a configuration or a prompt asks for.

    Without CT and labels the built-in phantom is taken. With labels alone, the label map is.
    """
    from spinesim.errors import ConfigError
    from spinesim.pathology.configuration import presets, read_configuration
    from spinesim.pathology.prompt import understand

    if list_presets:
        for name in presets():
            click.echo(f"{name}: {read_configuration(name).about}")
        return
    if (source is None) == (prompt is None):
        raise ConfigError(
            f"simulate: expected either --config or --prompt, got {'neither' if source is None else 'both'}; "
            "list the presets with --presets"
        )
    if changes and source is None:
        raise ConfigError("simulate: expected --set with --config only, got it with --prompt; say it in the prompt")
    if prompt is not None:
        understood = understand(prompt)
        configuration, named = understood.configuration, f"simulated_{understood.name}"
        if not options["quiet"]:
            for line in understood.lines:
                click.echo(f"understood: {line}", err=True)
    else:
        configuration = read_configuration(source or "", changes)
        named = "_".join(["simulated", Path(source or "").stem, *(re.sub(r"[^\w.-]+", "-", each) for each in changes)])
    target, seed = options.pop("out") or Path(named), configuration.seed if seed is None else seed
    run_and_tell(ct, labels, configuration.pathology, target, seed, {**options, "prompt": prompt})
