"""The networks: MONAI's, on voxels that are folded into channels."""

from __future__ import annotations

import torch
from monai.networks.nets import DiffusionModelUNet, PatchDiscriminator
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from spinesim.inpaint.conditions import COUNT


class NetworkConfig(BaseModel):
    """Size of a network.

    ``fold``: voxels along each axis that are folded into channels (2: eight times fewer places, three times faster on
    a CPU). ``channels`` and ``attention``: of each level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fold: int = Field(default=2, ge=1, le=4)
    channels: tuple[int, ...] = Field(default=(64, 64, 96), min_length=1)
    attention: tuple[bool, ...] = (False, False, False)
    res_blocks: int = Field(default=1, ge=1)
    head_channels: int = Field(default=32, ge=1)
    groups: int = Field(default=8, ge=1)

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


SPREAD = 0.6
"""Standard deviation of what is painted about its guide, in the network's numbers (measured on the first scans)."""

TIME = 1000.0
"""Timesteps of pure noise, as ``RFlowScheduler`` counts them."""


class FoldedUNet(nn.Module):
    """MONAI's ``DiffusionModelUNet`` between a folding and an unfolding of voxels into channels.

    The volumes that are painted keep every voxel (``fold``³ channels each); the other conditions are averaged. What
    the U-Net gives is added to the best linear estimate: were the truth Gaussian about its guide m with a spread s,
    the noisy volume x = (1 - t) truth + t noise would let expect a velocity of
    m + ((1 - t) s² - t) (x - (1 - t) m) / q², with q² = (1 - t)² s² + t², give or take s / q (as Karras et al. 2022 do
    it for denoising).
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        cell = config.fold**3
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
        t = (timesteps / TIME).reshape(-1, 1, 1, 1, 1)
        variance = (1 - t) ** 2 * SPREAD**2 + t**2
        apart = x[:, :1] - (1 - t) * guide
        whole = torch.cat([apart / variance.sqrt(), x[:, 1:3]], dim=1)
        folded = torch.cat([fold_voxels(whole, fold), nn.functional.avg_pool3d(x[:, 3:], fold)], dim=1)
        found = unfold_voxels(self.net(folded, timesteps, context), fold)
        return guide + ((1 - t) * SPREAD**2 - t) / variance * apart + SPREAD / variance.sqrt() * found


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
    """Build the network that paints; untrained, it gives 0 everywhere."""
    return FoldedUNet(config)


def build_discriminator() -> PatchDiscriminator:
    """Build what tells painted from real patches: it sees the volume, the mask and the conditions."""
    return PatchDiscriminator(
        spatial_dims=3, channels=32, in_channels=1 + COUNT, out_channels=1, num_layers_d=2, norm="INSTANCE"
    )
