"""The networks: MONAI's, on voxels that are folded into channels."""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.nets import DiffusionModelUNet, PatchDiscriminator
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler, Scheduler
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from spinesim.inpaint.conditions import COUNT


class NetworkConfig(BaseModel):
    """Size of a network.

    ``fold``: voxels along each axis that are folded into channels (2: eight times fewer places, three times faster on
    a CPU). ``channels`` and ``attention``: of each level. ``process``: rectified flow, or DDPM (painted with DDIM).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fold: int = Field(default=2, ge=1, le=4)
    channels: tuple[int, ...] = Field(default=(64, 64, 96), min_length=1)
    attention: tuple[bool, ...] = (False, False, False)
    res_blocks: int = Field(default=1, ge=1)
    head_channels: int = Field(default=32, ge=1)
    groups: int = Field(default=8, ge=1)
    process: Process = "flow"

    @model_validator(mode="after")
    def _fits(self) -> NetworkConfig:
        if len(self.attention) != len(self.channels):
            raise ValueError(f"expected attention for each of {len(self.channels)} levels, got {len(self.attention)}")
        if any(n % self.groups for n in self.channels) or self.channels[-1] % self.head_channels:
            raise ValueError(
                f"expected channels that are multiples of groups ({self.groups}), the last also of head_channels "
                f"({self.head_channels}), got {self.channels}"
            )
        return self

    @property
    def multiple(self) -> int:
        """Sides of a patch are multiples of this."""
        return self.fold * 2 ** (len(self.channels) - 1)


SPREAD, GUIDED_SPREAD = 0.9, 0.4
"""Standard deviation of the truth about its guide where only what is known around guides, and where the warp does, in
the network's numbers (measured on the first scans)."""

TIME = 1000.0
"""Timesteps of pure noise, as MONAI's schedulers count them."""

BETAS = {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0195}
"""How fast DDPM adds noise (as MONAI's tutorials have it)."""

Process = Literal["flow", "ddpm"]


class FoldedUNet(nn.Module):
    """MONAI's ``DiffusionModelUNet`` between a folding and an unfolding of voxels into channels.

    The volumes that are painted keep every voxel (``fold``³ channels each); the other conditions are averaged. What
    the U-Net gives is added to the best linear estimate (as Karras et al. 2022 do it for denoising): were the truth
    Gaussian about its guide m with a spread s, the noisy volume x = a truth + b noise would let expect a velocity
    (truth - noise) of m + (a s² - b) d / q², give or take s / q, with d = x - a m and q² = a² s² + b²; for DDPM, whose
    velocity is a noise - b truth, of b (a (1 - s²) d / q² - m).
    """

    kept: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        cell = config.fold**3
        if config.process == "ddpm":
            self.register_buffer("kept", training_scheduler("ddpm").alphas_cumprod, persistent=False)
        self.net = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=3 * cell + COUNT - 2,  # the noisy volume, what is known and the mask keep every voxel
            out_channels=cell,
            channels=config.channels,
            num_res_blocks=config.res_blocks,
            attention_levels=config.attention,
            num_head_channels=config.head_channels,
            norm_num_groups=config.groups,
            use_flash_attention=True,
        )

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        """Velocity (n, 1, ...) of (n, 1 + c, ...): the noisy volume, then the conditions."""
        fold, guide = self.config.fold, x[:, 3:4]
        spread = SPREAD + (GUIDED_SPREAD - SPREAD) * x[:, 4:5]
        kept, noise = (each.reshape(-1, 1, 1, 1, 1) for each in self._levels(timesteps))
        variance = kept**2 * spread**2 + noise**2
        apart = x[:, :1] - kept * guide
        whole = torch.cat([apart / variance.sqrt(), x[:, 1:3]], dim=1)
        folded = torch.cat([fold_voxels(whole, fold), nn.functional.avg_pool3d(x[:, 3:], fold)], dim=1)
        found = spread / variance.sqrt() * unfold_voxels(self.net(folded, timesteps, context), fold)
        if self.config.process == "flow":
            return guide + (kept * spread**2 - noise) / variance * apart + found
        return noise * (kept * (1 - spread**2) / variance * apart - guide) + found

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Share of the truth and of the noise at some times."""
        if self.config.process == "flow":
            return 1 - timesteps / TIME, timesteps / TIME
        kept = self.kept[timesteps.long()]
        return kept.sqrt(), (1 - kept).sqrt()


def training_scheduler(process: Process) -> Scheduler:
    """What makes volumes noisy in training."""
    if process == "flow":
        return RFlowScheduler(num_train_timesteps=int(TIME), use_discrete_timesteps=False)
    return DDPMScheduler(num_train_timesteps=int(TIME), prediction_type="v_prediction", **BETAS)


def sampling_scheduler(process: Process) -> Scheduler:
    """What takes the steps from noise to a volume: rectified flow, or DDIM."""
    if process == "flow":
        return training_scheduler(process)
    return DDIMScheduler(num_train_timesteps=int(TIME), prediction_type="v_prediction", clip_sample=False, **BETAS)


def fold_voxels(volume: Tensor, fold: int) -> Tensor:
    """(n, c, i, j, k) to (n, c fold³, i/fold, j/fold, k/fold)."""
    n, c, i, j, k = volume.shape
    cells = volume.reshape(n, c, i // fold, fold, j // fold, fold, k // fold, fold)
    return cells.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, c * fold**3, i // fold, j // fold, k // fold)


def unfold_voxels(volume: Tensor, fold: int) -> Tensor:
    """Undo ``fold_voxels``."""
    n, c, i, j, k = volume.shape
    cells = volume.reshape(n, c // fold**3, fold, fold, fold, i, j, k)
    return cells.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(n, c // fold**3, i * fold, j * fold, k * fold)


def build_network(config: NetworkConfig) -> FoldedUNet:
    """Build the network that paints; untrained, it gives the best linear estimate."""
    return FoldedUNet(config)


class Critic(nn.Module):
    """Tells painted from real patches: it sees the volume, the mask and the conditions.

    It counts in single precision whatever the training does: gradients of its narrow strided convolutions in bf16 come
    out as infinities on some processors (oneDNN, AVX-512).
    """

    def __init__(self) -> None:
        super().__init__()
        self.net = PatchDiscriminator(
            spatial_dims=3, channels=32, in_channels=1 + COUNT, out_channels=1, num_layers_d=2, norm="INSTANCE"
        )

    def forward(self, seen: Tensor) -> Tensor:
        """Judge patches, place by place: (b, 1 + c, i, j, k) to (b, 1, ...), near 1 where they look real."""
        with torch.autocast(seen.device.type, enabled=False):
            judged: Tensor = self.net(seen.float())[-1]
        return judged
