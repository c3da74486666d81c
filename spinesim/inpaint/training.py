"""Training of the network that paints: rectified flow, or a GAN in one step; resumed where it was left."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from monai.losses import PatchAdversarialLoss
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.tensorboard import SummaryWriter

from spinesim.errors import ConfigError
from spinesim.inpaint.conditions import FILL_MM, GUIDE, SPACING, TEXTURE
from spinesim.inpaint.network import TIME, Critic, FoldedUNet, build_network, half_precision, training_scheduler
from spinesim.inpaint.samples import draw_batch
from spinesim.inpaint.training_config import TrainingConfig
from spinesim.inpaint.training_scans import TrainingScan
from spinesim.inpaint.weights import read_weights

LOOKS = 12
"""Batches of the held-out scans on which the loss is followed."""

Tell = Callable[[int, float, float | None, float], None]
"""Called with step, mean loss since the last time, loss on the held-out scans, and seconds since the start."""

Tensors = tuple[Tensor, ...]
"""Truth, conditions, mask, weight and noise of a batch (``samples.Batch``)."""

FARTHEST = 6.0
"""The flow learns what lies so many spreads from the prior's mean at most."""


class Batches(Dataset[Tensors]):
    """The batch of each step: it depends on the seed, the step and the process alone, so a run can go on anywhere."""

    def __init__(self, scans: Sequence[TrainingScan], config: TrainingConfig, steps: range, stream: int) -> None:
        self.scans, self.config, self.steps, self.stream = scans, config, steps, stream

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, rank: int) -> Tensors:
        """Draw the batch of a step."""
        rng = np.random.default_rng([self.config.seed, self.stream, self.steps[rank]])
        batch = draw_batch(self.scans, self.config.batch, self.config.patch_voxels, rng=rng)
        arrays = (batch.truth, batch.conditions, batch.mask, batch.weight, batch.noise)
        return tuple(torch.from_numpy(each) for each in arrays)


@dataclass(frozen=True)
class Trained:
    """What training gave: the averaged network, its loss, and how long it took."""

    network: FoldedUNet
    loss: float
    held_out_loss: float | None
    hours: float


def precision_of(config: TrainingConfig) -> str:
    """The precision that a configuration stands for on this machine, as Fabric names it."""
    if config.precision != "auto":
        return {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}[config.precision]
    half = half_precision(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return "32-true" if half is None else "bf16-mixed" if half is torch.bfloat16 else "16-mixed"


def train(
    config: TrainingConfig,
    scans: Sequence[TrainingScan],
    held_out: Sequence[TrainingScan],
    folder: Path,
    tell: Tell,
) -> Trained:
    """Train a network, or go on with the training that a folder holds.

    A checkpoint, and the loss for TensorBoard, are written to the folder every ``look_every`` steps. Two runs with the
    same configuration, scans and machine give the same weights, wherever they were interrupted.

    Raises
    ------
    ConfigError
        When the folder holds a training with another configuration, or no scan is left to train on.
    """
    if not scans:
        raise ConfigError("train: expected at least one scan that is not held out, got none; hold fewer out")
    fabric = Fabric(devices=config.devices, precision=precision_of(config))
    fabric.launch()
    run = _Run(config, fabric)
    run.resume(folder / "last.pt")
    looks = [Batches(held_out, config, range(LOOKS), stream=1)[n] for n in range(LOOKS)] if held_out else []
    steps = range(run.step, config.steps)
    data = Batches(scans, config, steps, stream=2 + fabric.global_rank)
    loader = DataLoader(data, batch_size=None, num_workers=0 if fabric.device.type == "cpu" else os.cpu_count() or 1)
    since, losses, held = time.monotonic() - run.seconds, [], None
    writer = SummaryWriter(folder / "tensorboard", purge_step=run.step) if fabric.global_rank == 0 else None
    for batch in loader:
        losses.append(run.learn(fabric.to_device(batch)))
        if run.step % config.look_every == 0 or run.step == config.steps:
            run.loss, run.seconds = float(np.mean(losses)), time.monotonic() - since
            held = run.look(looks)
            losses.clear()
            if writer is not None:
                run.write(folder / "last.pt")
                _follow(writer, run.step, run.loss, held)
                tell(run.step, run.loss, held, run.seconds)
    if writer is not None:
        writer.close()
    if held is None:
        held = run.look(looks)
    return Trained(run.averaged, run.loss, held, run.seconds / 3600)


def _follow(writer: SummaryWriter, step: int, loss: float, held: float | None) -> None:
    """Write the losses for TensorBoard."""
    writer.add_scalar("loss/train", loss, step)
    if held is not None:
        writer.add_scalar("loss/held_out", held, step)


def fast(volume: Tensor, conditions: Tensor) -> Tensor:
    """What is faster than the Gaussian that guides, of (n, 1, ...) patches with voxels of one size."""
    slow = volume
    for axis, mm in enumerate(conditions[0, SPACING, 0, 0, 0].exp().tolist()):
        width = FILL_MM[-1] / mm
        reach = max(1, int(2 * width + 0.5))
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=volume.device) / width) ** 2).to(volume)
        shape, pad = [1] * 5, [0] * 3
        shape[2 + axis], pad[axis] = 2 * reach + 1, reach
        slow = torch.nn.functional.conv3d(slow, (kernel / kernel.sum()).reshape(shape), padding=pad)
    return volume - slow


class _Prior(NamedTuple):
    """The loss of the prior, its mean and spread, and what is fast of the truth about that mean; (n, 1, ...) each.

    Outside the mask mean and spread are the guide and the known texture's.
    """

    loss: Tensor
    mean: Tensor
    spread: Tensor
    texture: Tensor


class _Run:
    """A training under way."""

    def __init__(self, config: TrainingConfig, fabric: Fabric) -> None:
        self.config, self.fabric = config, fabric
        self.step, self.loss, self.seconds = 0, float("nan"), 0.0
        torch.manual_seed(config.seed)
        network = self._beginning().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.averaged = build_network(config.network).to(fabric.device)
        self.averaged.load_state_dict(network.state_dict())
        self.network, self.optimizer = fabric.setup(network, torch.optim.AdamW(network.parameters(), weight_decay=0.01))
        self.network.mark_forward_method("prior")
        self.scheduler = training_scheduler(config.network.process)
        if config.method == "pix2pix":
            critic = Critic()
            adam = torch.optim.AdamW(critic.parameters(), lr=config.learning_rate / 2, betas=(0.5, 0.999))
            self.critic, self.critic_optimizer = fabric.setup(critic, adam)
            self.adversarial = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)

    def _beginning(self) -> FoldedUNet:
        """The network before the first step: untrained, or that of the weights to go on from."""
        if self.config.start is None:
            return build_network(self.config.network)
        painter = read_weights(self.config.start)
        if (painter.card.network, painter.card.method) != (self.config.network, self.config.method):
            raise ConfigError(
                f"{self.config.start}: expected weights of the network and method that are trained, got others; "
                "begin with others, or without start"
            )
        return painter.network

    def _parts(self) -> Iterator[tuple[str, torch.nn.Module | torch.optim.Optimizer]]:
        yield from (("network", self.network), ("averaged", self.averaged), ("optimizer", self.optimizer))
        if self.config.method == "pix2pix":
            yield from (("critic", self.critic), ("critic_optimizer", self.critic_optimizer))

    def write(self, path: Path) -> None:
        """Write a checkpoint; the earlier one stays until it is whole."""
        state = {name: part.state_dict() for name, part in self._parts()}
        told = {"step": self.step, "loss": self.loss, "seconds": self.seconds, "config": self.config.model_dump_json()}
        partial = path.with_suffix(".part")
        torch.save(state | told, partial)
        os.replace(partial, path)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, where there is one."""
        if not path.exists():
            return
        state = torch.load(path, map_location=self.fabric.device, weights_only=True)
        said = TrainingConfig.model_validate_json(state["config"])
        if said.model_copy(update={"steps": self.config.steps}) != self.config:
            raise ConfigError(
                f"{path}: expected a training with the same configuration, got another; "
                "take another --out, or the configuration it was begun with (only steps may differ)"
            )
        for name, part in self._parts():
            part.load_state_dict(state[name])
        self.step, self.loss, self.seconds = state["step"], state["loss"], state["seconds"]

    def learn(self, batch: Tensors) -> float:
        """Take a step; the loss on its batch."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        take = self._learn_flow if self.config.method == "diffusion" else self._learn_gan
        self.network.train()
        loss = take(batch)
        self.step += 1
        self._average()
        return loss

    def _rate(self) -> float:
        """Learning rate: a rise, then a cosine."""
        config = self.config
        if self.step < config.warmup:
            return config.learning_rate * (self.step + 1) / config.warmup
        share = (self.step - config.warmup) / max(1, config.steps - config.warmup)
        low = config.final_share
        return float(config.learning_rate * (low + (1 - low) * 0.5 * (1 + np.cos(np.pi * share))))

    @torch.no_grad()
    def _average(self) -> None:
        """Let the averaged weights follow."""
        decay = min(self.config.decay, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True):
            mean.lerp_(now, 1 - decay)

    def _prior(self, network: torch.nn.Module, batch: Tensors) -> _Prior:
        """What the prior says of a batch.

        Both losses are Gaussian: of all that is apart from the mean, and of what is fast of it by the spread. Gradients
        are weighted by the spread so that they do not fade where it is wide (Seitzer et al. 2022).
        """
        truth, conditions, mask, *_ = batch
        told_by: Callable[[Tensor], tuple[Tensor, Tensor]] = network.prior  # type: ignore[assignment]
        mean, spread = told_by(conditions)
        apart, width = truth - mean, spread.detach()
        texture = fast(mask * apart.detach(), conditions)
        told = apart**2 / (2 * width**2) + texture**2 / (2 * spread**2)
        loss = (mask * width * (told + torch.log(spread))).sum() / (mask * width).sum().clamp_min(1e-6)
        known, inside = conditions[:, [GUIDE]], mask > 0
        mean = torch.where(inside, mean.detach(), known)
        return _Prior(loss, mean, torch.where(inside, width, conditions[:, [TEXTURE]].expand_as(spread)), texture)

    def _flow_loss(self, network: torch.nn.Module, batch: Tensors, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What to descend, the prior's loss and the squared error of the velocity (Liu et al. 2023); and what to tell.

        The velocity counts in the mask and its margin. Both losses are in spreads of the prior; told are errors in the
        network's numbers, that of its mean and that of the velocity.
        """
        truth, conditions, mask, weight, noise = batch
        loss, mean, spread, texture = self._prior(network, batch)
        left = (texture / spread).clamp(-FARTHEST, FARTHEST)
        left = torch.where(mask > 0, left, noise)
        times = torch.rand(len(truth), generator=generator, device=truth.device) * TIME
        wanted = left - noise
        if self.config.network.process == "ddpm":
            times = times.long()
            wanted = self.scheduler.get_velocity(left, noise, times)
        noisy = self.scheduler.add_noise(left, noise, times)
        velocity = network(torch.cat([noisy, mean, spread, conditions], dim=1), times)
        error = velocity - wanted
        missed = (mask * ((truth - mean).abs() + spread * error.detach().abs())).sum() / mask.sum()
        return loss + (weight * error**2).sum() / weight.sum(), missed

    def _learn_flow(self, batch: Tensors) -> float:
        if self.step < self.config.prior_steps:
            prior = self._prior(self.network, batch)
            self._descend(prior.loss, self.network, self.optimizer)
            return float((batch[2] * (batch[0] - prior.mean).abs()).sum() / batch[2].sum())
        generator = torch.Generator(self.fabric.device).manual_seed(1_000_003 * self.config.seed + self.step)
        loss, told = self._flow_loss(self.network, batch, generator)
        self._descend(loss, self.network, self.optimizer)
        return float(told)

    def _paint_once(self, network: torch.nn.Module, batch: Tensors) -> tuple[Tensor, Tensor]:
        """The prior's loss, and what a GAN paints: one step of the flow from pure noise."""
        truth, conditions, _, _, noise = batch
        loss, mean, spread, _ = self._prior(network, batch)
        times = torch.full((len(truth),), TIME).to(noise)
        seen = torch.cat([noise, mean, spread, conditions], dim=1)
        return loss, mean + spread * (noise + network(seen, times, until=torch.zeros_like(times)))

    def _learn_gan(self, batch: Tensors) -> float:
        truth, conditions, inside, weight, _ = batch
        prior, painted = self._paint_once(self.network, batch)
        mask = inside > 0
        fake = torch.cat([torch.where(mask, painted, truth), conditions], dim=1)
        error = (weight * (painted - truth).abs()).sum() / weight.sum()
        seen = self.critic(fake)
        loss = error + self.config.adversarial * self.adversarial(seen, target_is_real=True, for_discriminator=False)
        self._descend(prior + loss, self.network, self.optimizer)
        real = torch.cat([truth, conditions], dim=1)
        told = self.adversarial(self.critic(fake.detach()), target_is_real=False, for_discriminator=True)
        told = told + self.adversarial(self.critic(real), target_is_real=True, for_discriminator=True)
        self._descend(told / 2, self.critic, self.critic_optimizer)
        return float(error.detach())

    def _descend(self, loss: Tensor, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad(set_to_none=True)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(network, optimizer, max_norm=1.0)
        optimizer.step()

    @torch.no_grad()
    def look(self, looks: Sequence[Tensors]) -> float | None:
        """Loss of the averaged network on held-out patches, always the same ones with the same noise."""
        if not looks:
            return None
        losses = []
        for rank, batch in enumerate(looks):
            generator = torch.Generator(self.fabric.device).manual_seed(rank)
            there = self.fabric.to_device(batch)
            if self.config.method == "diffusion":
                losses.append(float(self._flow_loss(self.averaged, there, generator)[1]))
            else:
                truth, _, _, weight, _ = there
                _, painted = self._paint_once(self.averaged, there)
                losses.append(float((weight * (painted - truth).abs()).sum() / weight.sum()))
        return float(np.mean(losses))
