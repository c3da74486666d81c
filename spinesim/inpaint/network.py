"""The networks: MONAI's, on voxels that are folded into channels."""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.nets import DiffusionModelUNet, PatchDiscriminator
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, RFlowScheduler, Scheduler
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from spinesim.inpaint.conditions import COUNT, GUIDE, TEXTURE


class NetworkConfig(BaseModel):
    """Size of a network.

    ``fold``: voxels along each axis that are folded into channels (2: eight times fewer places, three times faster on
    a CPU). ``channels`` and ``attention``: of each level. ``prior``: channels of each level of the network that says
    what is likeliest. ``process``: rectified flow, or DDPM (painted with DDIM).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fold: int = Field(default=2, ge=1, le=4)
    channels: tuple[int, ...] = Field(default=(64, 64, 96), min_length=1)
    attention: tuple[bool, ...] = (False, False, False)
    prior: tuple[int, ...] = Field(default=(32, 48, 64), min_length=1)
    res_blocks: int = Field(default=1, ge=1)
    head_channels: int = Field(default=32, ge=1)
    groups: int = Field(default=8, ge=1)
    process: Process = "flow"

    @model_validator(mode="after")
    def _fits(self) -> NetworkConfig:
        if len(self.attention) != len(self.channels):
            raise ValueError(f"expected attention for each of {len(self.channels)} levels, got {len(self.attention)}")
        if any(n % self.groups for n in (*self.channels, *self.prior)) or any(
            each[-1] % self.head_channels for each in (self.channels, self.prior)
        ):
            raise ValueError(
                f"expected channels that are multiples of groups ({self.groups}), the last ones also of head_channels "
                f"({self.head_channels}), got {self.channels} and {self.prior}"
            )
        return self

    @property
    def multiple(self) -> int:
        """Sides of a patch are multiples of this."""
        return self.fold * 2 ** (max(len(self.channels), len(self.prior)) - 1)


TIME = 1000.0
"""Timesteps of pure noise, as MONAI's schedulers count them."""

BETAS = {"schedule": "scaled_linear_beta", "beta_start": 0.0015, "beta_end": 0.0195}
"""How fast DDPM adds noise (as MONAI's tutorials have it)."""

Process = Literal["flow", "ddpm"]


MEAN_SCALE, WIDEST = 0.3, 3.0
"""The mean is the guide and this share of what the network says; the spread is e to this of the texture's at most."""


class FoldedUNet(nn.Module):
    """Two of MONAI's ``DiffusionModelUNet`` between a folding and an unfolding of voxels into channels.

    The first is told the conditions alone and gives the *prior*: at each voxel the mean of the tissue, and the spread
    of its texture. The second paints the texture, in spreads about the mean (as Mardani et al. 2023 do it for weather:
    regression first, then diffusion of the residue), from noise that has the correlation of the known texture:
    rectified flow with a coupling that depends on the data (Albergo et al. 2023). What it gives is the turn from noise
    to texture: were both Gaussian and alike, there would be none. So untrained the pair paints the guide with the
    texture of what is known.

    The volumes that are painted keep every voxel (``fold``³ channels each); the other conditions are averaged.
    """

    kept: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        cell = config.fold**3
        if config.process == "ddpm":
            self.register_buffer("kept", training_scheduler("ddpm").alphas_cumprod, persistent=False)
        # what is known, the mask and the guide keep every voxel; for painting also volume and prior mean
        self.first = _unet(config, 3 * cell + COUNT - 3, 2 * cell, config.prior, (False,) * len(config.prior))
        self.net = _unet(config, 4 * cell + COUNT - 1, cell, config.channels, config.attention)

    def prior(self, conditions: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of texture, (n, 1, ...) each in the network's numbers, from (n, c, ...) conditions."""
        fold = self.config.fold
        folded = _folded(conditions[:, :3], conditions[:, 3:], fold)
        found = unfold_voxels(self.first(folded, torch.zeros(len(folded)).to(folded)), fold).float()
        guide, texture = conditions[:, GUIDE : GUIDE + 1], conditions[:, TEXTURE : TEXTURE + 1]
        return guide + MEAN_SCALE * found[:, :1], texture * torch.exp(found[:, 1:].clamp(-WIDEST, WIDEST))

    def forward(self, x: Tensor, timesteps: Tensor, until: Tensor | None = None) -> Tensor:
        """Velocity (n, 1, ...) of (n, 3 + c, ...): the noisy volume, mean and spread of the prior, then the conditions.

        ``until`` is the time that a step of the flow goes to: the velocity is then the mean on the way, so that steps
        of any size keep the variance of what needs no turn.
        """
        fold, volume = self.config.fold, x[:, :1]
        kept, noise = (each.reshape(-1, 1, 1, 1, 1) for each in self._levels(timesteps))
        size = (kept**2 + noise**2).sqrt()
        conditions = x[:, 3:]
        spread = torch.log(x[:, 2:3] / conditions[:, TEXTURE : TEXTURE + 1])
        whole = torch.cat([volume / size, x[:, 1:2], conditions[:, :2]], dim=1)
        folded = _folded(whole, torch.cat([spread, conditions[:, 2:]], dim=1), fold)
        turn = unfold_voxels(self.net(folded, timesteps), fold).float()
        if self.config.process == "ddpm":
            return turn
        if until is None:
            return (kept - noise) / size**2 * volume + turn / size
        then, noise_then = (each.reshape(-1, 1, 1, 1, 1) for each in self._levels(until))
        angle = torch.atan2(then, noise_then) - torch.atan2(kept, noise)
        reached = (then**2 + noise_then**2).sqrt() * (volume / size + angle * turn)
        return (reached - volume) / (noise - noise_then)

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Share of the truth and of the noise at some times."""
        if self.config.process == "flow":
            return 1 - timesteps / TIME, timesteps / TIME
        kept = self.kept[timesteps.long()]
        return kept.sqrt(), (1 - kept).sqrt()


def _unet(
    config: NetworkConfig, given: int, found: int, channels: tuple[int, ...], attention: tuple[bool, ...]
) -> DiffusionModelUNet:
    return DiffusionModelUNet(
        spatial_dims=3,
        in_channels=given,
        out_channels=found,
        channels=channels,
        num_res_blocks=config.res_blocks,
        attention_levels=attention,
        num_head_channels=config.head_channels,
        norm_num_groups=config.groups,
        use_flash_attention=True,
    )


def _folded(whole: Tensor, rest: Tensor, fold: int) -> Tensor:
    """What a U-Net sees: volumes that keep every voxel, and the others averaged."""
    return torch.cat([fold_voxels(whole, fold), nn.functional.avg_pool3d(rest, fold)], dim=1)


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
    """Build the network that paints; untrained, it gives the guide the texture of what is known."""
    return FoldedUNet(config)


def half_precision(device: torch.device) -> torch.dtype | None:
    """The half precision that a device computes with as it is; None where it has none, or would only imitate it."""
    if device.type != "cpu":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    told: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return torch.bfloat16 if told.get("avx512_bf16") or told.get("amx_bf16") else None


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
