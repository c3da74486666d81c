"""Write a phantom into a folder: CT, vertebra labels, all structures, and what it was made from."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spinesim.anatomy.schemes import STRUCTURES
from spinesim.anatomy.writing import write_labels, write_volume
from spinesim.phantom import Phantom, PhantomParameters, build_whole_phantom
from spinesim.series.claim import claimed
from spinesim.series.writer import check_claimed, whole_folder

PHANTOM_FILES = {
    "ct": "sub-phantom_ct.nii.gz",
    "labels": "sub-phantom_seg-vert_msk.nii.gz",
    "structures": "sub-phantom_seg-total_msk.nii.gz",
    "about": "sub-phantom_about.json",
}
"""Name of each file of a phantom's folder."""


def make_phantom(parameters: PhantomParameters, out: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Build a phantom and write it; a folder that may not be written is refused before anything is built.

    Raises
    ------
    OutputError
        When the folder exists and ``overwrite`` is not set, holds anything else, or cannot be written.
    """
    out = Path(out)
    with claimed(out):
        check_claimed(out, overwrite=overwrite, own=PHANTOM_FILES.values())
        return _write_claimed(build_whole_phantom(parameters), out, overwrite=overwrite)


def write_phantom(phantom: Phantom, out: str | Path, *, overwrite: bool = False) -> dict[str, Path]:
    """Write a phantom's folder, all of it or nothing.

    Returns
    -------
    dict
        Path of each file, by what it is.

    Raises
    ------
    OutputError
        As :func:`make_phantom`.
    """
    out = Path(out)
    with claimed(out):
        return _write_claimed(phantom, out, overwrite=overwrite)


def _write_claimed(phantom: Phantom, out: Path, *, overwrite: bool) -> dict[str, Path]:
    check_claimed(out, overwrite=overwrite, own=PHANTOM_FILES.values())
    with whole_folder(out) as partial:
        if phantom.scan.image is not None:
            write_volume(phantom.scan.image, partial / PHANTOM_FILES["ct"])
        write_labels(phantom.scan.labels, partial / PHANTOM_FILES["labels"])
        write_labels(phantom.structures, partial / PHANTOM_FILES["structures"])
        text = json.dumps(describe_phantom(phantom), indent=1)
        (partial / PHANTOM_FILES["about"]).write_text(text + "\n", encoding="utf-8")
    return {key: out / name for key, name in PHANTOM_FILES.items()}


def describe_phantom(phantom: Phantom) -> dict[str, Any]:
    """Say what a phantom was made from: parameters, its vertebrae's dimensions (mm), and its structures' numbers."""
    present, size = set(phantom.structures.present), phantom.parameters.size
    return {
        "spinesim_version": version("spinesim"),
        "parameters": phantom.parameters.model_dump(mode="json")
        | {"upper": phantom.parameters.upper.name, "lower": phantom.parameters.lower.name},
        "size_to_mean": round(size, 4),
        "trabecular_hu": {v.name: round(phantom.parameters.trabecular_hu(v), 1) for v in phantom.parameters.levels},
        "dimensions_mm": {
            level.name: {key: round(size * value, 3) for key, value in asdict(dims).items() if key != "level"}
            for level, dims in phantom.dimensions.items()
            if level in phantom.parameters.levels
        },
        "structures": {name: number for name, number in STRUCTURES.items() if number in present},
    }
