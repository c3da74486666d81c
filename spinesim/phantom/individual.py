"""What makes one phantom another person than the next: its vertebrae's small ways, and what no mirror would show.

All spreads are working values, chosen to look like chest CTs of healthy adults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import USUAL, Level
from spinesim.phantom.parameters import FIRST

NODES = (11, 10, 16)
"""Knots of the cubic B-spline that displaces the soft tissue, along x, y and z."""

DRIFT_MM = (8.0, 7.0, 12.0)
"""Standard deviation of its coefficients; tissue moves by about half as much."""


@dataclass(frozen=True)
class Variant:
    """How one vertebra differs from its drawing; the dimensions of the table stay.

    Parameters
    ----------
    spinous_aside_mm : float
        How far the tip of the spinous process stands to the right.
    spinous_down_rad : float
        How much further it points down.
    spinous_longer : float
        Share by which it is longer.
    wings_up_mm, wings_back_mm : (2,) tuple of float
        How far the transverse processes stand higher and further back, left and right.
    hollow : (2,) tuple of float
        Depth of the hollow of the upper and the lower end plate, as a multiple.
    hollow_aside_mm, hollow_back_mm : (2,) tuple of float
        How far the deepest point of each hollow lies to the right and to the back.
    """

    spinous_aside_mm: float = 0.0
    spinous_down_rad: float = 0.0
    spinous_longer: float = 0.0
    wings_up_mm: tuple[float, float] = (0.0, 0.0)
    wings_back_mm: tuple[float, float] = (0.0, 0.0)
    hollow: tuple[float, float] = (1.0, 1.0)
    hollow_aside_mm: tuple[float, float] = (0.0, 0.0)
    hollow_back_mm: tuple[float, float] = (0.0, 0.0)


PLAIN = Variant()
"""The vertebra as it is drawn, its own mirror image."""


@dataclass(frozen=True, eq=False)
class Individual:
    """A person's draw.

    Parameters
    ----------
    variants : mapping of Level to Variant
        Of each vertebra from C3 down.
    drift_mm : (3, a, b, c) array
        Coefficients of the displacement of the soft tissue along x, y and z.
    """

    variants: Mapping[Level, Variant]
    drift_mm: Float[np.ndarray, "3 a b c"]

    def __post_init__(self) -> None:
        self.drift_mm.setflags(write=False)


def sample_individual(*, rng: np.random.Generator) -> Individual:
    """Sample a person; the same draw for every range of levels and every grid."""
    levels = [level for level in USUAL if FIRST <= level < Level.S]
    variants = {level: _sample_variant(rng) for level in levels}
    drift = rng.normal(0.0, 1.0, (3, *NODES)) * np.array(DRIFT_MM)[:, None, None, None]
    return Individual(MappingProxyType(variants), drift.astype(np.float32))


def _sample_variant(rng: np.random.Generator) -> Variant:
    draw = rng.standard_normal(12).clip(-2, 2)
    aside, down, longer, *pairs = (float(value) for value in draw)
    left_up, right_up, left_back, right_back, hollow_up, hollow_down, aside_up, aside_down, back = pairs
    return Variant(
        spinous_aside_mm=2.3 * aside,
        spinous_down_rad=0.07 * down,
        spinous_longer=0.08 * longer,
        wings_up_mm=(1.1 * left_up, 1.1 * right_up),
        wings_back_mm=(1.2 * left_back, 1.2 * right_back),
        hollow=(1.0 + 0.15 * hollow_up, 1.0 + 0.15 * hollow_down),
        hollow_aside_mm=(0.3 * aside_up, 0.3 * aside_down),
        hollow_back_mm=(0.8 + 0.3 * back, 0.8 - 0.3 * back),
    )
