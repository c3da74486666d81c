"""How the unknown is painted, as it is asked for; knows no torch."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from spinesim.errors import ConfigError

NetworkMethod = Literal["diffusion", "pix2pix"]

Inpainting = Literal["auto", "none", "noise", "diffusion", "pix2pix"]
"""How the unknown is painted. ``noise``: the noise that interpolation took is given back, without a network;
``diffusion`` and ``pix2pix``: that, and a network paints what is unknown for other reasons; ``auto``: diffusion where
bone broke, a lesion grew, the plan changed tissue, or tissue came from beyond the field of view (on a GPU wherever a
network may), else noise; ``none``: not at all."""

NEEDED = ("torch", "monai", "einops", "safetensors")
"""Packages without which no network paints."""

NEEDED_TO_TRAIN = (*NEEDED, "lightning_fabric", "tensorboard")
"""Packages without which none is trained."""


@dataclass(frozen=True)
class Brush:
    """How a network paints.

    ``weights``: a file of ``spinesim train inpaint``, or None for those that ship. ``steps`` of the flow (pix2pix takes
    one), each ``repaint`` times (RePaint; 1: plainly).

    Raises
    ------
    ConfigError
        When a number is out of its range.
    """

    weights: Path | None = None
    steps: int = 4
    repaint: int = 1

    def __post_init__(self) -> None:
        for name, value, most in (("--steps", self.steps, 1000), ("--repaint", self.repaint, 100)):
            if not 1 <= value <= most:
                raise ConfigError(f"{name}: expected a whole number from 1 to {most}, got {value}; give another")


PLAIN = Brush()
"""The shipped weights, four steps."""


def missing_packages(*, training: bool = False) -> tuple[str, ...]:
    """Packages that a network needs, or its training, and that are not installed."""
    return tuple(name for name in (NEEDED_TO_TRAIN if training else NEEDED) if importlib.util.find_spec(name) is None)


def find_weights(method: NetworkMethod, brush: Brush) -> Path | None:
    """The weights that are asked for, else those that ship for a method, if any do."""
    if brush.weights is not None:
        return brush.weights
    with resources.as_file(resources.files("spinesim.assets") / f"inpaint-{method}.safetensors") as shipped:
        return shipped if shipped.is_file() else None


def is_better_than_noise(weights: Path) -> bool:
    """Whether the card beside weights that ship says so: read without torch, which takes seconds to import."""
    return bool(json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))["better_than_noise"])
