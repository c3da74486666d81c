"""The vessels of a lung: a tree that forks from the hilum until its twigs are thinner than a voxel."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from spinesim.phantom.bundle import Bundle, bundle
from spinesim.phantom.solids import Rod
from spinesim.phantom.trunk import CAVITY

_HILA = {1.0: (34.0, 26.0, 316.0), -1.0: (-38.0, 26.0, 322.0)}
_LOBAR = ((0.5, 0.3, 1.0), (0.8, 0.9, 0.4), (0.9, -0.6, 0.4), (0.8, 0.7, -0.5), (0.7, -0.3, -0.9), (0.4, -0.9, -0.6))
"""Directions of the first branches, outwards, forwards and up."""

ROOT_MM, TWIG_MM = 4.6, 0.5
THINNER, SHORTER = 0.78, 0.9
FIRST_MM = 26.0
MIDDLE_MM, WALL_MM = 18.0, 7.0
SEED = 7
"""The tree is anatomy, not noise: it is the same in every phantom."""

_HEIGHTS = np.arange(150.0, 480.0, 2.0)
_EDGES = tuple(edge(_HEIGHTS) for edge in (CAVITY.half_width, CAVITY.back, CAVITY.front))


@cache
def build_tree() -> Bundle:
    """Give the vessels of both lungs as rods, from the root to the twigs; world RAS, millimetres."""
    rng = np.random.default_rng(SEED)
    rods: list[Rod] = []
    for side, hilum in _HILA.items():
        for out, forward, up in _LOBAR:
            direction = np.array([side * out, forward, up])
            _grow(rods.append, np.array(hilum), direction / np.linalg.norm(direction), ROOT_MM, FIRST_MM, rng)
    return bundle(rods)


def _grow(
    keep: Callable[[Rod], None],
    start: np.ndarray,
    direction: np.ndarray,
    radius: float,
    length: float,
    rng: np.random.Generator,
) -> None:
    length = next((part for part in (length, length / 2, length / 4) if _inside(start + part * direction)), 0.0)
    if radius < TWIG_MM or not length:
        return
    end = start + length * direction
    thin = radius * THINNER
    keep(
        Rod(
            (start[0], start[1], start[2]),
            (end[0], end[1], end[2]),
            (radius, radius),
            (thin, thin),
            up=_across(direction),
        )
    )
    turn = rng.uniform(0, 2 * np.pi)
    first = np.cross(direction, _across(direction))
    first /= np.linalg.norm(first)
    second = np.cross(direction, first)
    for sign in (1, -1):
        bend = np.tan(np.deg2rad(rng.uniform(18, 42)))
        fork = direction + sign * bend * (np.cos(turn) * first + np.sin(turn) * second)
        _grow(
            keep,
            end,
            fork / np.linalg.norm(fork),
            thin * rng.uniform(0.85, 1.1),
            length * SHORTER * rng.uniform(0.75, 1.1),
            rng,
        )


def _inside(point: np.ndarray) -> bool:
    """Tell whether a point lies in the rib cage, a little off its wall and beside the mediastinum."""
    x, y, z = (float(value) for value in point)
    half_w, back, front = (float(np.interp(z, _HEIGHTS, edge)) for edge in _EDGES)
    before = y - back - CAVITY.widest * (front - back)
    power, share = (CAVITY.powers[1], 1 - CAVITY.widest) if before > 0 else (CAVITY.powers[0], CAVITY.widest)
    half_d = share * (front - back) - WALL_MM
    reach = (abs(x) / (half_w - WALL_MM)) ** power + (abs(before) / half_d) ** power
    return reach < 1 and abs(x) > MIDDLE_MM


def _across(direction: np.ndarray) -> tuple[float, float, float]:
    """Some direction that is not along."""
    return (0.0, 0.0, 1.0) if abs(direction[2]) < 0.8 else (0.0, 1.0, 0.0)
