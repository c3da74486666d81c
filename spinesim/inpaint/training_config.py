"""How a network is trained, said in YAML."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spinesim.errors import ConfigError, first_refusal
from spinesim.inpaint.network import NetworkConfig

Method = Literal["diffusion", "pix2pix"]


class TrainingConfig(BaseModel):
    """How a network is trained.

    ``patch_voxels``: about so many a patch, of sides that are even in mm. ``margin_weight`` is the weight of the loss
    outside the mask and its margin. ``precision``: ``auto`` takes bf16 where the processor has it, 16 bits on a GPU
    without, else 32. ``held_out``: scans whose names begin so are not trained on; the loss is followed on them.
    ``start``: weights of the same network to go on from. In the first ``prior_steps`` the prior learns alone: what is
    painted about its mean can only be learnt once that is about right, and takes twice the time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "diffusion"
    network: NetworkConfig = NetworkConfig()
    start: Path | None = None
    steps: int = Field(default=20_000, ge=1)
    prior_steps: int = Field(default=0, ge=0)
    batch: int = Field(default=2, ge=1)
    patch_voxels: int = Field(default=64_000, ge=4096)
    learning_rate: float = Field(default=3e-4, gt=0)
    warmup: int = Field(default=200, ge=0)
    final_share: float = Field(default=0.05, ge=0, le=1)
    decay: float = Field(default=0.999, ge=0, lt=1)
    adversarial: float = Field(default=0.02, ge=0)
    held_out: tuple[str, ...] = ()
    look_every: int = Field(default=500, ge=1)
    precision: Literal["auto", "32", "bf16", "16"] = "auto"
    devices: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _one_step_is_of_the_flow(self) -> TrainingConfig:
        if self.method == "pix2pix" and self.network.process != "flow":
            raise ValueError("expected process flow for pix2pix, which takes its one step, got ddpm")
        return self

    @model_validator(mode="after")
    def _one_device_learns_in_parts(self) -> TrainingConfig:
        if self.prior_steps and self.devices > 1:
            raise ValueError(f"expected one device where the prior learns alone first, got {self.devices}")
        if self.prior_steps and self.method == "pix2pix":
            raise ValueError("expected no prior_steps for pix2pix, all of which learns at once, got some")
        if self.prior_steps > self.steps:
            raise ValueError(f"expected prior_steps up to steps ({self.steps}), got {self.prior_steps}")
        return self


def find_training_config(source: str) -> TrainingConfig:
    """Read a YAML file, or a configuration that ships by its name.

    Raises
    ------
    ConfigError
        When there is none, or it is not right.
    """
    if "/" in source or source.endswith((".yaml", ".yml")):
        return read_training_config(Path(source))
    folder = resources.files("spinesim.configs") / "train"
    names = sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))
    if source not in names:
        raise ConfigError(f"{source}: expected a YAML file or one of {', '.join(names)}, got neither; choose one")
    with resources.as_file(folder / f"{source}.yaml") as path:
        return read_training_config(path)


def read_training_config(path: Path) -> TrainingConfig:
    """Read a YAML file.

    Raises
    ------
    ConfigError
        When it is none, or a key is unknown or out of its range.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a YAML file, got none that can be read; see configs/train/") from error
    if not isinstance(said, dict):
        raise ConfigError(f"{path}: expected keys like 'steps', got {said!r}; see configs/train/ for examples")
    try:
        return TrainingConfig(**said)
    except ValidationError as error:
        place, rule = first_refusal(error)
        raise ConfigError(f"{path}: {place}: {rule}") from error
