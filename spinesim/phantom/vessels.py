"""The great vessels of chest and belly.

World RAS, S1 end plate at the origin; places are working values, drawn by eye after chest and abdomen CTs.
"""

from __future__ import annotations

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.phantom.canvas import Slab
from spinesim.phantom.column import Column
from spinesim.phantom.solids import Rod, ellipse_distance
from spinesim.phantom.sweep import Tube

BLOOD_HU = 43.0

_FRONT = (0.0, 1.0, 0.0)
_ROOTS = (
    ("aorta", Rod((10.0, 62.0, 295.0), (14.0, 60.0, 335.0), (15.0, 15.0), (14.5, 14.5), up=_FRONT)),
    ("aorta", Rod((14.0, 60.0, 335.0), (-12.0, 24.0, 362.0), (14.0, 14.0), (12.0, 12.0))),
    ("aorta", Rod((-12.0, 24.0, 362.0), (-16.0, 20.0, 345.0), (12.0, 12.0), (11.0, 11.0), up=_FRONT)),
    ("", Rod((-14.0, 66.0, 295.0), (-16.0, 48.0, 330.0), (13.0, 13.0), (12.0, 12.0), up=_FRONT)),
    ("", Rod((-30.0, 36.0, 326.0), (32.0, 40.0, 322.0), (10.0, 10.0), (9.0, 9.0))),
    ("superior_vena_cava", Rod((24.0, 42.0, 300.0), (24.0, 44.0, 388.0), (9.0, 9.0), (8.0, 8.0), up=_FRONT)),
    ("brachiocephalic_trunk", Rod((10.0, 50.0, 360.0), (24.0, 40.0, 430.0), (6.5, 6.5), (5.5, 5.5), up=_FRONT)),
    (
        "common_carotid_artery_left",
        Rod((-10.0, 42.0, 360.0), (-22.0, 36.0, 430.0), (5.0, 5.0), (4.5, 4.5), up=_FRONT),
    ),
)
"""Aorta's root and arch, pulmonary trunk and arteries, superior vena cava, carotids: x, offset before the bodies, z."""

_ILIAC = (
    ("iliac_artery_{side}", Rod((3.0, 8.0, 40.0), (38.0, 12.0, -18.0), (6.0, 6.0), (5.0, 5.0))),
    ("iliac_artery_{side}", Rod((38.0, 12.0, -18.0), (62.0, 44.0, -90.0), (5.0, 5.0), (4.5, 4.5))),
    ("iliac_vena_{side}", Rod((13.0, 5.0, 22.0), (40.0, 2.0, -22.0), (7.5, 6.5), (7.0, 6.0))),
    ("iliac_vena_{side}", Rod((40.0, 2.0, -22.0), (60.0, 34.0, -90.0), (7.0, 6.0), (6.5, 6.0))),
)
"""From the forks at L4 and L5 into the pelvis: x of the right side, offset before the bodies, z."""


def paint_roots(slab: Slab, bodies: Tube) -> None:
    """Paint the vessels at the heart's base and the arch into a slab."""
    slab = slab.near_middle(60.0)
    x, y, z = slab.place
    _, forward = bodies.line.coordinates(y, z)
    for name, vessel in _ROOTS:
        low, high = sorted((vessel.start[2], vessel.end[2]))
        if slab.meets(low - 20, high + 20):
            slab.paint(vessel.distance(x, forward, z), BLOOD_HU, name=name)


def paint_vessels(slab: Slab, column: Column, bodies: Tube) -> None:
    """Paint the aorta to the left in front of the bodies, the inferior vena cava to the right, and their forks."""
    slab = slab.near_middle(80.0)
    x, y, z = slab.place
    along, forward = bodies.line.coordinates(y, z)
    place = {dims.level: float(at) for dims, at in zip(column.upwards, bodies.along_mm, strict=True)}
    beside = np.interp(along, [place[level] for level in (Level.L3, Level.T10, Level.T5)], [6, 9, 17])
    before = forward - bodies.section(along)[1]
    aorta = np.hypot(x + beside.astype(np.float32), before - 11) - np.float32(10.5)
    aorta = np.maximum(aorta, np.maximum(place[Level.L4] - along, along - place[Level.T4] - 8))
    cava = ellipse_distance(x - 17, before - 10, np.float32(11.0), np.float32(9.0))
    cava = np.maximum(cava, np.maximum(place[Level.L5] + 8 - along, along - place[Level.T10]))
    if slab.meets(-np.inf, 70.0):
        for name, vessel in _ILIAC:
            slab.paint(vessel.distance(np.abs(x), before, z), BLOOD_HU, name=name)
    slab.paint(aorta, BLOOD_HU, name="aorta")
    slab.paint(cava, BLOOD_HU - 3, name="inferior_vena_cava")
