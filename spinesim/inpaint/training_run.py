"""A training from files to weights: reads the scans, trains, and writes weights with their card."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from spinesim.errors import ConfigError
from spinesim.inpaint.conditions import LIMITS_HU
from spinesim.inpaint.samples import WIDEST_ZOOM
from spinesim.inpaint.training import Tell, train
from spinesim.inpaint.training_config import TrainingConfig
from spinesim.inpaint.training_scans import TrainingScan, find_pairs, read_training_scan
from spinesim.inpaint.weights import PREPROCESSING, Card, read_weights, write_weights

WEIGHTS = "weights.safetensors"
"""Name of the file that a training ends with."""


def run_training(
    config: TrainingConfig,
    places: Sequence[Path],
    folder: Path,
    *,
    licence: str = "",
    told: Callable[[str], None] = lambda _: None,
    tell: Tell = lambda *_: None,
) -> Path:
    """Train on all CTs in some places, and write weights with their card to a folder; go on if it holds a beginning.

    Parameters
    ----------
    config : TrainingConfig
        How to train.
    places : sequence of Path
        CTs, and folders of them.
    folder : Path
        Made if it is not there; checkpoints, the log for TensorBoard and the weights lie in it.
    licence : str
        Terms of the scans, for the card.
    told, tell : callable
        Told of each scan that is read, and of the progress.

    Raises
    ------
    ScanError, LabelError, GeometryError, ConfigError
        When a scan cannot be read, or none is left to train on.
    """
    pairs = find_pairs(places)
    _check_held_out(config, [path for path, _ in pairs])
    folder.mkdir(parents=True, exist_ok=True)
    scans = []
    for path, labels in pairs:
        told(f"reading {path.name}{' with labels' if labels else ''}")
        scans.append(read_training_scan(path, labels))
    held_out = [scan for scan in scans if scan.name.startswith(config.held_out)] if config.held_out else []
    seen = [scan for scan in scans if scan not in held_out]
    earlier = read_weights(config.start).card if config.start else None
    trained = train(config, seen, held_out, folder, tell)
    card = Card(
        method=config.method,
        network=config.network,
        preprocessing=PREPROCESSING,
        spacing_mm=_spacings(seen),
        hu=LIMITS_HU,
        steps=config.steps + (earlier.steps if earlier else 0),
        loss=round(trained.loss, 4),
        held_out_loss=None if trained.held_out_loss is None else round(trained.held_out_loss, 4),
        data=tuple(dict.fromkeys((*(earlier.data if earlier else ()), *(scan.name for scan in seen)))),
        licence=licence or "not said",
        training=config.model_dump(mode="json", exclude={"network", "method"})
        | {"start": config.start and config.start.name},
        hours=round(trained.hours + (earlier.hours if earlier else 0), 2),
        machine=torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}",
    )
    write_weights(trained.network, card, folder / WEIGHTS)
    return folder / WEIGHTS


def _check_held_out(config: TrainingConfig, paths: Sequence[Path]) -> None:
    for name in config.held_out:
        if not any(path.name.startswith(name) for path in paths):
            raise ConfigError(f"held_out: expected a scan that begins with {name!r}, got none; mend the configuration")


def _spacings(scans: Sequence[TrainingScan]) -> tuple[float, float]:
    """The narrowest and the widest voxels that were seen."""
    narrow = min(float(scan.spacing_mm.min()) for scan in scans)
    wide = max(
        float(np.max(np.maximum(scan.spacing_mm, np.minimum(2.0, scan.spacing_mm * WIDEST_ZOOM)))) for scan in scans
    )
    return round(narrow, 3), round(wide, 3)
