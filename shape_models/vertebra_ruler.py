"""Measure a vertebra's surface as the papers measure bones: the same rules as those the phantom is tested with.

The frame is the vertebra's own (right, anterior, superior; mm); the body's middle may lie before or behind its origin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from spinesim.phantom.processes import pedicle_height, pedicle_line
from spinesim.phantom.table import Dimensions
from spinesim.shape.bone import Bone
from spinesim.shape.meshing import fill_surface
from spinesim.shape.surface import Surface

STEP, FINE = 0.25, 0.05


@dataclass(frozen=True, eq=False)
class Ruler:
    """A bone, about how large it is, and how far its body's middle lies in front of the origin."""

    bone: Bone
    dims: Dimensions
    middle: float = 0.0

    def inside(self, x: np.ndarray | float, y: np.ndarray | float, z: np.ndarray | float) -> Bool[np.ndarray, ...]:
        """Whether points (from the body's middle) lie in the bone."""
        x, y, z = np.broadcast_arrays(*(np.asarray(part, dtype=float) for part in (x, y, z)))
        points = np.stack([x, y + self.middle, z], axis=-1)
        return (self.bone.at(points.reshape(-1, 3)) > 0).reshape(x.shape)


def measure_surface(surface: Surface, dims: Dimensions) -> dict[str, float]:
    """The dimensions of a vertebra whose dimensions are about ``dims`` (mm)."""
    bone = fill_surface(surface)
    rough = Ruler(bone, dims)
    plates = [_plate_chord(rough, sign) for sign in (1, -1)]
    ruler = Ruler(bone, dims, float(np.mean([(low + high) / 2 for low, high in plates])))
    found = dict(zip(("d_sup", "d_inf"), (high - low for low, high in plates), strict=True))
    found |= _measure_body(ruler) | _measure_arch(ruler)
    found["tp_span"] = float(np.ptp(surface.vertices[:, 0]))
    found["spinous"] = _spinous_length(ruler, surface)
    return found


def _steps(low: float, high: float, step: float = STEP) -> Float[np.ndarray, " n"]:
    return np.arange(low, high, step)


def _plate_chord(ruler: Ruler, sign: int) -> tuple[float, float]:
    """Back and front of the widest chord just below an end plate, in the mid-sagittal plane."""
    dims = ruler.dims
    y = _steps(-dims.depth / 2 - 6, dims.depth / 2 + 6)
    layers = _steps(0.2, 3.0, 0.2)[:, None]
    rows = ruler.inside(0.0, y, sign * (dims.height / 2 + dims.slope / 2 * y - layers))
    ends = [(y[row][0], y[row][-1] + STEP) for row in (_run_at(row, len(y) // 2) for row in rows) if row.any()]
    return max(ends, key=lambda end: end[1] - end[0]) if ends else (np.nan, np.nan)


def _run_at(row: Bool[np.ndarray, " n"], place: int) -> Bool[np.ndarray, " n"]:
    """The part of a row that hangs together with a place of it."""
    if not row[place]:
        return np.zeros_like(row)
    low = place - int(row[place::-1].argmin() if not row[place::-1].all() else place + 1) + 1
    high = place + int(row[place:].argmin() if not row[place:].all() else len(row) - place)
    out = np.zeros_like(row)
    out[low:high] = True
    return out


def _measure_body(ruler: Ruler) -> dict[str, float]:
    dims = ruler.dims
    y, z = _steps(-dims.depth / 2 - 4, dims.depth / 2 + 5), _steps(-dims.height / 2 - 6, dims.height / 2 + 6)
    inside = ruler.inside(0.0, y[:, None], z)
    filled = inside.any(axis=1)
    top = np.where(filled, z[-1] - inside[:, ::-1].argmax(axis=1) * STEP + STEP / 2, np.nan)
    bottom = np.where(filled, z[0] + inside.argmax(axis=1) * STEP - STEP / 2, np.nan)
    upper, lower = _rim_line(y, top, 1, dims), _rim_line(y, bottom, -1, dims)
    found = {"h_ant": (upper - lower)(dims.depth / 2), "h_post": (upper - lower)(-dims.depth / 2)}
    x, front = _steps(-35, 35), _steps(0, dims.depth / 2, 1.0)
    for name, sign in (("w_sup", 1), ("w_inf", -1)):
        plate = sign * (dims.height / 2 + dims.slope / 2 * front[:, None] - _steps(0.2, 3.0, 0.4))
        wide = ruler.inside(x[:, None, None], front[:, None], plate).any(axis=(1, 2))
        found[name] = float(np.ptp(x[wide])) + STEP
    return {name: float(value) for name, value in found.items()}


def _rim_line(y: np.ndarray, surface: np.ndarray, sign: int, dims: Dimensions) -> np.poly1d:
    """Line through the two rims of an end plate in the mid-sagittal plane: height as a function of y."""
    level_surface = sign * surface - dims.slope / 2 * y
    ends = []
    for side in (-1, 1):
        near = np.flatnonzero((side * y > 0.2 * dims.depth) & (side * y < 0.62 * dims.depth) & np.isfinite(surface))
        rim = near[np.argmax(level_surface[near])]
        ends.append((y[rim], surface[rim]))
    places, heights = np.array(ends).T
    return np.poly1d(np.polyfit(places, heights, 1))


def _measure_arch(ruler: Ruler) -> dict[str, float]:
    dims = ruler.dims
    x, z = _steps(0, 45), pedicle_height(dims)
    y = _steps(dims.canal_y - 3, dims.canal_y + 3)
    walls = [ruler.inside(side * x[:, None], y, z) for side in (1, -1)]
    found = {"canal_w": sum(_nearest_wall(x, wall) for wall in walls)}
    y = _steps(-dims.depth / 2 - dims.canal_d - 8, -dims.depth / 2 + 4)
    before, behind = y > dims.canal_y, y < dims.canal_y
    wall = y[before & ruler.inside(0.0, y[:, None], _steps(-1, 1, 0.5)).any(axis=1)]
    tall = _steps(-dims.height / 2, dims.height / 2, 0.5)
    lamina = y[behind & ruler.inside(0.0, y[:, None], tall).any(axis=1)]
    found["canal_d"] = wall.min() - lamina.max() - STEP if len(wall) and len(lamina) else np.nan
    front, back, outwards = pedicle_line(dims)
    places = [np.array([*(front + (back - front) * share), z]) for share in np.linspace(0, 1, 13)]
    mirror = np.array([-1.0, 1.0, 1.0])
    for name, way in (("pedicle_w", np.array([*outwards, 0.0])), ("pedicle_h", np.array([0.0, 0.0, 1.0]))):
        sides = [min(_run(ruler, place * side, way * side) for place in places) for side in (1, mirror)]
        found[name] = float(np.mean(sides))
    return {name: float(value) for name, value in found.items()}


def _nearest_wall(x: np.ndarray, wall: Bool[np.ndarray, "n m"]) -> float:
    """How far the canal reaches to one side, at its widest."""
    reached = x[wall.argmax(axis=0)[wall.any(axis=0)]]
    return float(reached.max()) - STEP / 2 if len(reached) else np.nan


def _run(ruler: Ruler, place: np.ndarray, direction: np.ndarray) -> float:
    """Length of bone along a line through a place, as far as it is not interrupted."""
    along = _steps(0, 25, FINE)[:, None]
    both = [ruler.inside(*(place + sign * along * direction).T) for sign in (1, -1)]
    return sum(FINE * (len(part) if part.all() else int(part.argmin())) for part in both) - FINE


def _spinous_length(ruler: Ruler, surface: Surface) -> float:
    """From the back of the canal, in the mid-sagittal plane, to the tip of the spinous process."""
    dims = ruler.dims
    tip = surface.vertices[surface.vertices[:, 1].argmin()]
    back = -dims.depth / 2 - dims.canal_d + ruler.middle
    return float(np.hypot(tip[1] - back, tip[2]))
