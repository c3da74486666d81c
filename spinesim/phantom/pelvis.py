"""The iliac wings: a fan of flat rods under a crest; right half only, the left is its mirror.

World RAS, S1 end plate at the origin; working values, drawn by eye.
"""

from __future__ import annotations

import numpy as np

from spinesim.phantom.solids import Rod, smooth_union

_AURICLE = Rod((73.0, -18.0, -6.0), (66.0, -36.0, -54.0), (15.0, 6.0), (13.0, 6.0), up=(0.85, 0.5, 0.0))
"""The part of the iliac bone that meets the sacrum."""

_WING_CENTRE = (88.0, 12.0, -82.0)
_CREST = (
    (48.0, -58.0, -28.0),
    (64.0, -56.0, 4.0),
    (88.0, -38.0, 28.0),
    (112.0, -6.0, 36.0),
    (126.0, 28.0, 24.0),
    (124.0, 54.0, -4.0),
)


def wing_distance(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Signed distance to the iliac wings; world coordinates."""
    x = np.abs(x)
    distance = _AURICLE.distance(x, y, z)
    for crest in _CREST:
        across = np.cross(np.subtract(crest, _WING_CENTRE), (0.3, 1.0, -0.2))
        blade = Rod(_WING_CENTRE, crest, (16.0, 8.0), (20.0, 3.5), up=(across[0], across[1], across[2]))
        distance = smooth_union(distance, blade.distance(x, y, z), 8.0)
    for start, end in zip(_CREST[:-1], _CREST[1:], strict=True):
        distance = smooth_union(distance, Rod(start, end, (6.0, 6.0), (6.0, 6.0)).distance(x, y, z), 5.0)
    return distance
