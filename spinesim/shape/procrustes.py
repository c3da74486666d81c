"""Lay shapes on each other by rigid motions; their size stays theirs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

ROUNDS, SETTLED_MM = 20, 1e-6
"""Most rounds of the mean shape, and how little it moves in the last."""


def lay_on(shapes: Float[np.ndarray, "*n v 3"], goal: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "*n v 3"]:
    """Lay shapes on one by the rotation and translation of least squares (Kabsch 1976)."""
    centred = shapes - shapes.mean(axis=-2, keepdims=True)
    left, _, right = np.linalg.svd(np.swapaxes(centred, -1, -2) @ (goal - goal.mean(axis=0)))
    left[..., :, 2] *= np.linalg.det(left @ right)[..., None]  # a rotation, never a mirror
    return centred @ (left @ right) + goal.mean(axis=0)


def motion_between(shape: Float[np.ndarray, "v 3"], goal: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "4 4"]:
    """The rigid motion that lays a shape on another (``goal_from_shape``)."""
    left, _, right = np.linalg.svd((shape - shape.mean(axis=0)).T @ (goal - goal.mean(axis=0)))
    left[:, 2] *= np.linalg.det(left @ right)
    motion = np.eye(4)
    motion[:3, :3] = (left @ right).T
    motion[:3, 3] = goal.mean(axis=0) - motion[:3, :3] @ shape.mean(axis=0)
    return motion


def align(shapes: Float[np.ndarray, "n v 3"]) -> Float[np.ndarray, "n v 3"]:
    """Generalised Procrustes analysis without scale, in the mean frame of the shapes as they come.

    References
    ----------
    Gower JC (1975). Generalized Procrustes analysis. Psychometrika 40:33-51.
    """
    frame = shapes.mean(axis=0)
    mean = frame
    for _ in range(ROUNDS):
        shapes = lay_on(shapes, mean)
        last, mean = mean, lay_on(shapes.mean(axis=0), frame)
        if np.abs(mean - last).max() < SETTLED_MM:
            break
    return lay_on(shapes, mean)


def centroid_size(shapes: Float[np.ndarray, "*n v 3"]) -> Float[np.ndarray, "*n"]:
    """Root mean square distance of vertices from their mean (mm)."""
    return np.sqrt(((shapes - shapes.mean(axis=-2, keepdims=True)) ** 2).sum(axis=-1).mean(axis=-1))
