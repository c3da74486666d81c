"""The soft tissue moved off its mirror plane, smoothly; the spine and the table stay where they are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from spinesim.phantom.individual import Individual
from spinesim.phantom.kernels import look_up, look_up_nearest
from spinesim.phantom.raster import Axes
from spinesim.phantom.sweep import Tube
from spinesim.phantom.trunk import table_distance

_LOW, _HIGH = (-230.0, -170.0, -200.0), (230.0, 200.0, 600.0)
_HELD_MM = ((10.0, 45.0), (68.0, 46.0))
"""Half-width of what is held still with the spine, over height: wider at the sacrum."""

_BEFORE_MM = 6.0
_FADE_MM, _TABLE_FADE_MM = 42.0, 30.0


def draw_drift(axes: Axes, k: slice, bodies: Tube, individual: Individual) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Evaluate the displacement in some slices: where along x, y and z the tissue comes from, millimetres."""
    slab = axes.slab(k)
    weight = _freedom(slab, bodies)
    bx, by, bz = (
        _spline_weights(at, low, high, n)
        for at, low, high, n in zip((slab.x, slab.y, slab.z), _LOW, _HIGH, individual.drift_mm.shape[1:], strict=True)
    )
    dx, dy, dz = (
        weight
        * np.einsum("ia,ajk->ijk", bx, np.einsum("jb,abk->ajk", by, np.einsum("kc,abc->abk", bz, part)), optimize=True)
        for part in individual.drift_mm
    )
    return dx, dy, dz


def drifted(image: np.ndarray, axes: Axes, k: slice, moved: tuple[np.ndarray, ...]) -> np.ndarray:
    """Look the tissue of some slices up where it comes from; numbers of structures by nearest neighbour."""
    steps = [float(at[1] - at[0]) for at in (axes.x, axes.y, axes.z)]
    dx, dy, dz = (np.ascontiguousarray(part / np.float32(step)) for part, step in zip(moved, steps, strict=True))
    out = np.empty(dx.shape, dtype=image.dtype)
    (look_up if image.dtype == np.float32 else look_up_nearest)(image, dx, dy, dz, k.start, out)
    return out


def _freedom(axes: Axes, bodies: Tube) -> np.ndarray:
    """How much of the displacement each voxel takes part in: none at the spine and the table, all far from both."""
    x, y, z = axes.x[:, None, None], axes.y[None, :, None], axes.z[None, None, :]
    along, forward = bodies.line.coordinates(y, z)
    before = np.maximum(forward - bodies.section(along)[1] - np.float32(_BEFORE_MM), 0)
    beside = np.maximum(np.abs(x) - np.interp(z, *_HELD_MM).astype(np.float32), 0)
    return _smooth_step(np.hypot(beside, before) / np.float32(_FADE_MM)) * _smooth_step(
        (table_distance(x, y) - 2) / np.float32(_TABLE_FADE_MM)
    )


def _smooth_step(share: np.ndarray) -> np.ndarray:
    share = np.clip(share, 0, 1)
    return share * share * (3 - 2 * share)


def _spline_weights(at: np.ndarray, low: float, high: float, n: int) -> Float[np.ndarray, "i n"]:
    """Weights of ``n`` coefficients of a uniform cubic B-spline at places, float32."""
    knot = (n - 3) * (at[:, None] - low) / (high - low) + 1
    away = np.abs(knot - np.arange(n))
    near = 2 / 3 - away**2 + away**3 / 2
    far = np.clip(2 - away, 0, None) ** 3 / 6
    return np.where(away < 1, near, far).astype(np.float32)
