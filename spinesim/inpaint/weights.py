"""Weights of a network in a safetensors file, with the card that says what they are."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from spinesim.errors import ConfigError
from spinesim.inpaint.brush import Brush
from spinesim.inpaint.conditions import CENTRE_HU, COUNT, FILL_MM, SCALE_HU
from spinesim.inpaint.network import MEAN_SCALE, WIDEST, FoldedUNet, NetworkConfig, build_network

FORMAT = "spinesim-inpaint-2"
"""What a file of weights says of itself; changes with the channels and their order."""

PREPROCESSING: dict[str, float] = {
    "centre_hu": CENTRE_HU,
    "scale_hu": SCALE_HU,
    "guide_mm": FILL_MM[-1],
    "mean_scale": MEAN_SCALE,
    "widest": WIDEST,
    "conditions": COUNT,
}
"""What a network must be given as it was in training."""


class Card(BaseModel):
    """What weights are: how they were trained, and on what.

    ``better_than_noise``: whether they were seen to be, on scans that were held out; ``auto`` takes no others.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["diffusion", "pix2pix"]
    network: NetworkConfig
    preprocessing: dict[str, float]
    spacing_mm: tuple[float, float]
    hu: tuple[float, float]
    steps: int
    loss: float
    held_out_loss: float | None
    data: tuple[str, ...]
    licence: str
    training: dict[str, Any]
    hours: float
    machine: str
    better_than_noise: bool = False


@dataclass(frozen=True, eq=False)
class Painter:
    """A trained network and its card."""

    network: FoldedUNet
    card: Card
    source: str

    def steps(self, brush: Brush) -> int:
        """Steps that it paints in with a brush; a GAN takes one."""
        return 1 if self.card.method == "pix2pix" else brush.steps


def write_weights(network: FoldedUNet, card: Card, path: Path) -> None:
    """Write weights in 16 bits, with their card inside and beside as JSON."""
    tensors = {
        name: value.detach().to("cpu", torch.float16).contiguous() for name, value in network.state_dict().items()
    }
    text = card.model_dump_json(indent=1)
    partial = path.with_name(path.name + ".part")
    save_file(tensors, partial, metadata={"format": FORMAT, "card": text})
    os.replace(partial, path)
    path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def read_weights(path: Path, device: str = "cpu") -> Painter:
    """Read weights.

    Raises
    ------
    ConfigError
        When the file is missing, is not one of spinesim's, or was trained for other channels.
    """
    if not path.is_file():
        raise ConfigError(
            f"{path}: expected weights (.safetensors), got no such file; train some: spinesim train inpaint"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            told = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name).float() for name in opened.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{path}: expected a safetensors file, got something else; train weights anew") from error
    if told.get("format") != FORMAT:
        raise ConfigError(f"{path}: expected weights of format {FORMAT}, got {told.get('format')}; train them anew")
    try:
        card = Card(**json.loads(told["card"]))
        network = build_network(card.network)
        network.load_state_dict(tensors)
    except (KeyError, ValueError, ValidationError, RuntimeError) as error:
        raise ConfigError(f"{path}: expected weights that fit their card, got others; train them anew") from error
    if card.preprocessing != PREPROCESSING:
        raise ConfigError(
            f"{path}: expected weights trained on {PREPROCESSING}, got {card.preprocessing}; train them anew"
        )
    return Painter(network.to(device).eval(), card, path.name)
