"""The loops of ``kernels`` on a device of PyTorch, for machines with a GPU: the same formulas.

Positions of the flow are double precision here and single precision there; there, too, anchors that hardly count are
looked up once for several points. So sources agree to 1e-2 mm; a voxel whose value falls on a half may be rounded the
other way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from spinesim.deform.kernels import SOFT_MM
from spinesim.errors import ConfigError

SLAB_VOXELS = 4_000_000
"""Output voxels computed at once: their coordinates take 32 bytes each several times over."""

CPU = "cpu"
"""The device of the compiled loops: none of PyTorch's."""


def open_device(name: str) -> Any:
    """Find a device of PyTorch by its name (``cuda``, ``cuda:1``).

    Raises
    ------
    ConfigError
        When PyTorch is not installed, or does not see such a device.
    """
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            f"--device: expected PyTorch for {name!r}, which is not installed; pip install 'spinesim[gpu]'"
        ) from error
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"--device: expected a device that PyTorch {torch.__version__} can use, got {name!r}; leave it out"
        ) from error
    return device


class TorchCarrier:
    """``kernels.carry_back`` for the anchors of one flow, which are put on the device once.

    Parameters are those of the kernel; the call takes ``points`` and ``nearest`` and overwrites both.
    """

    def __init__(self, maps: tuple[np.ndarray, ...], motions: tuple[np.ndarray, ...], power: float, device: Any):
        import torch

        flat, offsets, shapes, spacings, softness = maps
        self._device, self._power, self._softness = device, power, softness
        self._flat = torch.from_numpy(flat).to(device)
        self._offsets, self._shapes = offsets.tolist(), shapes.tolist()
        self._spacings = torch.from_numpy(spacings).to(device).double()
        self._rest_from_now, self._step_back = (torch.from_numpy(motion).to(device).double() for motion in motions)

    def __call__(self, points: Float[np.ndarray, "n 3"], nearest: Float[np.ndarray, " n"]) -> None:
        """Carry points from t = 1 to t = 0, in place."""
        import torch

        steps, anchors = self._rest_from_now.shape[:2]
        here = torch.from_numpy(points).to(self._device).double()
        least = torch.full_like(here[:, 0], 1e9, dtype=torch.float64)
        for step in range(steps):
            total, move = torch.zeros_like(least), torch.zeros_like(here)
            for anchor in range(anchors):
                distance = self._distance(anchor, _affine(self._rest_from_now[step, anchor], here))
                softness = float(self._softness[anchor])
                if softness < SOFT_MM:
                    least = torch.minimum(least, distance)
                weight = (distance * distance + softness * softness) ** -self._power
                total += weight
                move += weight[:, None] * _affine(self._step_back[step, anchor], here)
            here = here + move / total[:, None]
        points[:] = here.cpu().numpy()
        nearest[:] = least.cpu().numpy()

    def _distance(self, anchor: int, voxels: Any) -> Any:
        """Distance to an anchor at voxel coordinates of its map; beyond the map, plus the way to it."""
        import torch

        shape = self._shapes[anchor]
        last = torch.tensor(shape, dtype=voxels.dtype, device=self._device) - 1
        inside = voxels.clamp(torch.zeros_like(last), last)
        low = torch.minimum(inside.long(), last.long() - 1)
        part = (inside - low).float().unbind(1)
        row, plane = shape[2], shape[1] * shape[2]
        base = self._offsets[anchor] + low[:, 0] * plane + low[:, 1] * row + low[:, 2]
        value = _blend(lambda a, b, c: self._flat[base + (a * plane + b * row + c)], part)
        return value.double() + torch.linalg.vector_norm((voxels - inside) * self._spacings[anchor], dim=1)


class TorchImage:
    """``kernels.sample_linear`` for one image and field, which are put on the device once."""

    def __init__(
        self,
        image: np.ndarray,
        displacement: Float[np.ndarray, "i j k 3"],
        scale: Float[np.ndarray, " 3"],
        shift: Float[np.ndarray, " 3"],
        world: Float[np.ndarray, "3 4"],
        voxel: Float[np.ndarray, "3 4"],
        device: Any,
    ):
        import torch

        self._device = device
        self._image = torch.tensor(image if image.dtype != np.uint16 else image.astype(np.int32), device=device)
        self._displacement = torch.tensor(displacement, device=device)
        self._scale, self._shift, self._world = (torch.tensor(part, device=device) for part in (scale, shift, world))
        self._voxel = torch.tensor(voxel, device=device)

    def fill(self, air: float, out: np.ndarray, outside: Bool[np.ndarray, "i j k"], *, whole: bool) -> None:
        """Fill the output and the mask of what came from outside the image, slab by slab along axis 0."""
        planes = max(1, SLAB_VOXELS // (out.shape[1] * out.shape[2]))
        for first in range(0, len(out), planes):
            part = slice(first, first + planes)
            self._fill(first, air, out[part], outside[part], whole=whole)

    def _fill(
        self, first: int, air: float, out: np.ndarray, outside: Bool[np.ndarray, "i j k"], *, whole: bool
    ) -> None:
        """Fill the slab that begins with plane ``first``."""
        import torch

        sides = [torch.arange(n, device=self._device, dtype=torch.float64) for n in out.shape]
        sides[0] += first
        index = torch.stack(torch.meshgrid(*sides, indexing="ij"), dim=-1).reshape(-1, 3)
        node = index * self._scale + self._shift
        low = node.long()
        part = (node - low)[..., None].unbind(1)
        i, j, k = low.unbind(1)
        moved = _blend(lambda a, b, c: self._displacement[i + a, j + b, k + c].double(), part)
        source = _affine(self._voxel, moved + _affine(self._world, index))
        shape = torch.tensor(self._image.shape, device=self._device)
        beyond = ((source < -0.5) | (source > shape - 0.5)).any(dim=1)
        source = source.clamp(torch.zeros_like(shape), shape - 1)
        low = source.long()
        part = (source - low).unbind(1)
        corners = [low.unbind(1), torch.minimum(low + 1, shape - 1).unbind(1)]
        value = _blend(lambda a, b, c: self._image[corners[a][0], corners[b][1], corners[c][2]].double(), part)
        value = torch.where(beyond, torch.full_like(value, air), torch.floor(value + 0.5) if whole else value)
        out[:] = value.cpu().numpy().reshape(out.shape)
        outside[:] = beyond.cpu().numpy().reshape(out.shape)


def _affine(matrix: Any, points: Any) -> Any:
    """Carry points (rows) with a 3 x 4 matrix."""
    return points @ matrix[:, :3].T + matrix[:, 3]


def _blend(corner: Any, part: Any) -> Any:
    """Trilinear mean of the eight corners of a cell, ``part`` of the way along each axis."""
    u, v, w = part

    def edge(a: int, b: int) -> Any:
        return corner(a, b, 0) * (1 - w) + corner(a, b, 1) * w

    near, far = (edge(a, 0) * (1 - v) + edge(a, 1) * v for a in (0, 1))
    return near * (1 - u) + far * u
