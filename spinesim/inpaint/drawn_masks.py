"""Masks for training, like those that a case leaves: slabs in bodies, bands at end plates, lesions, discs, voids."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.inpaint.tissues import PER_MM, Kind, TissueMaps

SMALLEST, LARGEST = 0.004, 0.6
"""Share of a patch that a mask takes."""

TRIES = 20
"""Shapes that are drawn at most until one fits."""

Points = Float[np.ndarray, "i j k 3"]
Shape = Callable[[Points, TissueMaps, np.random.Generator], Bool[np.ndarray, "i j k"]]


def draw_mask(
    tissues: TissueMaps, spacing_mm: Float[np.ndarray, " 3"], *, rng: np.random.Generator
) -> Bool[np.ndarray, "i j k"]:
    """Draw what to paint in a patch: one shape, or two.

    Parameters
    ----------
    tissues : TissueMaps
        Of the patch, whose axes are right, anterior, superior.
    spacing_mm : (3,) array
        Of its voxels.
    rng : Generator
        What is drawn from.
    """
    shape = tissues.bits.shape
    points = points_about_middle(shape, spacing_mm)
    for _ in range(TRIES):
        mask = np.zeros(shape, dtype=bool)
        for _ in range(1 if rng.random() < 0.7 else 2):
            mask |= SHAPES[rng.choice(len(SHAPES), p=SHARES)](points, tissues, rng)
        if SMALLEST < mask.mean() < LARGEST:
            return mask
    return _ball(points, tissues, rng)


def points_about_middle(shape: tuple[int, int, int], spacing_mm: Float[np.ndarray, " 3"]) -> Points:
    """Voxels of a patch from its middle, mm."""
    lattice = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"), axis=-1)
    return (lattice - (np.array(shape) - 1) / 2) * spacing_mm


def _axis(rng: np.random.Generator, upright: float) -> Float[np.ndarray, " 3"]:
    """A unit vector, the more upright the larger the number."""
    vector = rng.normal(size=3) + np.array([0, 0, upright * rng.choice([-1, 1])])
    return vector / np.linalg.norm(vector)


def _slab(points: Points, tissues: TissueMaps, rng: np.random.Generator) -> Bool[np.ndarray, "i j k"]:
    """A crushed band: bone between two planes, and a rim of what lies beside."""
    height = points @ _axis(rng, 3.0) - rng.uniform(-6, 6)
    reach = PER_MM * rng.uniform(0, 3)
    return (np.abs(height) < rng.uniform(1.5, 8)) & (tissues.depth > -reach)


def _end_plate(points: Points, tissues: TissueMaps, rng: np.random.Generator) -> Bool[np.ndarray, "i j k"]:
    """The surface of bone on one side of a plane."""
    width = PER_MM * rng.uniform(1.5, 4)
    side = points @ _axis(rng, 3.0) > rng.uniform(-8, 4)
    return (np.abs(tissues.depth) < width) & side & (np.linalg.norm(points, axis=-1) < rng.uniform(10, 30))


def _ball(points: Points, tissues: TissueMaps, rng: np.random.Generator) -> Bool[np.ndarray, "i j k"]:
    """A lesion: an ellipsoid with an uneven surface."""
    radii, turn = rng.uniform(4, 13, size=3), np.linalg.qr(rng.normal(size=(3, 3)))[0]
    size = np.linalg.norm((points - rng.uniform(-5, 5, size=3)) @ turn / radii, axis=-1)
    return size < 1 + 0.5 * _waves(points, rng.uniform(2, 5), rng)


def _beside_bone(points: Points, tissues: TissueMaps, rng: np.random.Generator) -> Bool[np.ndarray, "i j k"]:
    """A disc with its end plates, where labels tell it; else what is narrow between bones."""
    disc = tissues.of(Kind.DISC)
    if not disc.any():
        near = (tissues.depth < 0) & (tissues.depth > -PER_MM * rng.uniform(2, 5))
        return near & (np.linalg.norm(points, axis=-1) < rng.uniform(10, 25))
    return ndimage.binary_dilation(disc, iterations=int(rng.integers(0, 3)))


def _blob(points: Points, tissues: TissueMaps, rng: np.random.Generator) -> Bool[np.ndarray, "i j k"]:
    """Stretched tissue: anything where slow waves are high."""
    return _waves(points, rng.uniform(3, 8), rng) > rng.uniform(0.4, 1.2)


def _void(points: Points, tissues: TissueMaps, rng: np.random.Generator) -> Bool[np.ndarray, "i j k"]:
    """All beyond a plane."""
    return points @ _axis(rng, 0.0) > rng.uniform(0, 14)


def _waves(points: Points, width_mm: float, rng: np.random.Generator) -> Float[np.ndarray, "i j k"]:
    """Smooth noise with mean 0 and variance 1."""
    step = [float(np.ptp(points[..., n])) / max(1, points.shape[n] - 1) or 1.0 for n in range(3)]
    waves = ndimage.gaussian_filter(rng.normal(size=points.shape[:3]), width_mm / np.array(step), mode="wrap")
    return waves / max(float(waves.std()), 1e-6)


SHAPES: tuple[Shape, ...] = (_slab, _end_plate, _ball, _beside_bone, _blob, _void)
SHARES = (0.32, 0.16, 0.22, 0.1, 0.1, 0.1)
"""How often each is drawn (assumed)."""
