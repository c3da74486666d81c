"""An inferer for MONAI that paints a volume where a mask says, and nowhere else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from monai.networks.schedulers import RFlowScheduler, Scheduler
from torch import Tensor

from spinesim.anatomy.boxes import Box
from spinesim.errors import ConfigError
from spinesim.inpaint.patches import hann, place_patches

Beside = Callable[[Box], Tensor]
"""What goes beside a patch of the noisy volume, by its box."""


class InpaintInferer(Inferer):
    """Paint volumes of any size with a network that sees patches.

    The velocities (or whatever the scheduler wants) of overlapping patches are blended *inside each step*, with Hann
    weights, so that there are no seams between them. After each step known voxels are put back, as noisy as the step
    is; after the last one the volume outside the mask is the one that came in, bit for bit.

    Parameters
    ----------
    roi_size : sequence of int
        Voxels along each side of a patch.
    scheduler : Scheduler
        ``RFlowScheduler``, or one of the diffusion kind (DDPM, DDIM) that the network was trained for.
    steps : int
        Steps from pure noise to the volume.
    overlap : float
        Share of a side that neighbouring patches have in common.
    repaint : int
        Times that each step is taken; before another, noise is added again (RePaint; Lugmayr et al. 2022). More than 1
        helps a network that was trained without a mask.
    batch : int
        Patches that go through the network at once.
    amp : torch.dtype, optional
        Half precision of the network, where the device has it.
    progress : callable, optional
        Told after each patch how many are done, and of how many.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        scheduler: Scheduler | None = None,
        *,
        steps: int = 8,
        overlap: float = 0.5,
        repaint: int = 1,
        batch: int = 1,
        amp: torch.dtype | None = None,
        progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> None:
        super().__init__()
        if steps < 1 or repaint < 1 or batch < 1 or not 0 <= overlap < 1:
            raise ConfigError(
                "inferer: expected steps, repaint and batch from 1 and an overlap from 0 to below 1, "
                f"got {steps}, {repaint}, {batch} and {overlap}"
            )
        self.roi_size, self.steps, self.overlap, self.repaint = tuple(roi_size), steps, overlap, repaint
        self.batch, self.amp, self.progress = batch, amp, progress
        self.scheduler = scheduler or RFlowScheduler(use_discrete_timesteps=False)

    @torch.no_grad()
    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Paint a volume.

        Parameters
        ----------
        inputs : (1, 1, i, j, k) tensor
            The volume; what it is inside the mask does not matter. No side is shorter than that of a patch.
        network : callable
            Called with (n, 1 + c, ...) patches, noisy volume and conditions, and (n,) timesteps.
        *args, **kwargs
            ``mask``: (1, 1, i, j, k) bool tensor. ``noise``: what painting begins from, of the shape of the volume.
            ``conditions``: called with a box (three slices), the (c, ...) tensor that goes beside the patch there;
            or None. ``generator``: of the noise that RePaint adds.

        Returns
        -------
        (1, 1, i, j, k) tensor

        Raises
        ------
        ConfigError
            When shapes do not fit.
        """
        mask, noise, conditions, generator = _arguments(*args, **kwargs)
        if inputs.shape != mask.shape or inputs.shape != noise.shape or inputs.shape[:2] != (1, 1):
            raise ConfigError(
                "inferer: expected volume, mask and noise of one shape (1, 1, i, j, k), "
                f"got {tuple(inputs.shape)}, {tuple(mask.shape)} and {tuple(noise.shape)}"
            )
        if any(side < size for side, size in zip(inputs.shape[2:], self.roi_size, strict=True)):
            raise ConfigError(
                f"inferer: expected sides of {self.roi_size} at least, got {tuple(inputs.shape[2:])}; pad it"
            )
        boxes = place_patches(mask[0, 0].cpu().numpy(), self.roi_size, self.overlap)
        if not boxes:
            return inputs
        known = torch.where(mask, torch.zeros_like(inputs), inputs)
        self.scheduler.set_timesteps(self.steps, device=inputs.device)
        times = [*self.scheduler.timesteps.unbind(), None]
        weight, covered = blending_weights(boxes, inputs)
        ticks = itertools.count(1)
        work = len(boxes) * self.repaint * self.steps
        x = noise
        for now, then in itertools.pairwise(times):
            for turn in range(self.repaint):
                wanted = self._blend(
                    network, x, conditions, boxes, weight, now, lambda: self.progress(next(ticks), work)
                )
                x = self._step(wanted / covered, x, now, then)
                if then is not None:
                    again = self.scheduler.add_noise(known, noise, then[None])
                    x = torch.where(mask, x, again)
                    if turn + 1 < self.repaint:
                        x = self._noised(x, then, now, generator)
        return torch.where(mask, x, inputs)

    def _blend(
        self,
        network: Callable[..., Tensor],
        x: Tensor,
        conditions: Beside | None,
        boxes: Sequence[Box],
        weight: Tensor,
        now: Tensor,
        tick: Callable[[], None],
    ) -> Tensor:
        """Ask the network about all patches, and add up what it says by weight; 0 where none is."""
        total = torch.zeros_like(x)
        for first in range(0, len(boxes), self.batch):
            some = boxes[first : first + self.batch]
            patches = torch.stack([_patch(x, conditions, box) for box in some])
            with torch.autocast(x.device.type, self.amp, enabled=self.amp is not None):
                found = network(patches, now.to(x).expand(len(some)))
            for box, out in zip(some, found.to(x), strict=True):
                total[(..., *box)] += weight * out
                tick()
        return total

    def _step(self, wanted: Tensor, x: Tensor, now: Tensor, then: Tensor | None) -> Tensor:
        """The volume after a step."""
        if isinstance(self.scheduler, RFlowScheduler):
            size = float(now - (0 if then is None else then)) / self.scheduler.num_train_timesteps
            return x + size * wanted  # as RFlowScheduler.step, which rounds times to whole numbers
        return self.scheduler.step(wanted, int(now), x)[0]

    def _levels(self, t: Tensor) -> tuple[float, float]:
        """Share of the volume and of the noise at a time."""
        if isinstance(self.scheduler, RFlowScheduler):
            share = float(t) / self.scheduler.num_train_timesteps
            return 1 - share, share
        kept = float(self.scheduler.alphas_cumprod[int(t)])
        return kept**0.5, (1 - kept) ** 0.5

    def _noised(self, x: Tensor, then: Tensor, now: Tensor, generator: torch.Generator | None) -> Tensor:
        """Go back in time by adding noise."""
        (kept, noise), (kept_then, noise_then) = self._levels(now), self._levels(then)
        ratio = kept / kept_then
        fresh = torch.randn(x.shape, generator=generator, device=x.device)
        return ratio * x + max(0.0, noise**2 - (ratio * noise_then) ** 2) ** 0.5 * fresh


def blending_weights(boxes: Sequence[Box], volume: Tensor) -> tuple[Tensor, Tensor]:
    """Hann weights of a patch, and their sum over all patches (never 0) on the grid of a (1, 1, i, j, k) volume."""
    i, j, k = boxes[0]
    weight = torch.from_numpy(hann((i.stop - i.start, j.stop - j.start, k.stop - k.start))).to(volume.device)
    covered = torch.zeros_like(volume)
    for box in boxes:
        covered[(..., *box)] += weight
    return weight, covered.clamp_min(1e-12)


def _patch(x: Tensor, conditions: Beside | None, box: Box) -> Tensor:
    """The noisy volume in a box, with what goes beside it: (1 + c, ...)."""
    noisy = x[(0, slice(None), *box)]
    return noisy if conditions is None else torch.cat([noisy, conditions(box).to(x)])


def _arguments(
    mask: Tensor, noise: Tensor, conditions: Beside | None = None, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Beside | None, torch.Generator | None]:
    """What ``InpaintInferer`` is called with beside volume and network (its interface says ``*args, **kwargs``)."""
    return mask, noise, conditions, generator
