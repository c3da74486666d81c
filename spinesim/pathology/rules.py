"""Rules that a bent spine must keep, with their sources."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from spinesim.anatomy.levels import Level, region
from spinesim.anatomy.measure import measure_discs
from spinesim.pathology.bend import BentSpine

MEASURED_MM, MEASURED_DEG = 0.5, 1.0
"""How well heights and shifts, and angles, are read off labels: rules about results leave so much room."""

LENGTHENING_LIMIT = 0.02
"""Bending keeps the length of the centre line within 2 % (geometry)."""

TURN_LIMIT_DEG = {"cervical": 5.0, "thoracic": 5.0, "lumbar": 3.0, "sacral": 2.0}
"""What a joint turns about the long axis at most, by its lower level (White & Panjabi 1990, upper range).

C2 to T9 give more, and are held to 5 so that the rotation spreads.
"""

STIFF_THORACIC_DEG = 3.0
"""The same for T10/T11 and T11/T12, whose facets turn towards the sagittal plane."""

WEDGE_LIMIT_DEG = {"cervical": 11.0, "thoracic": 10.0, "lumbar": 15.0}
"""Usual coronal wedge of a disc in scoliosis (spread of the shares in Ding 2011)."""

WEDGE_REFUSED = 1.8
"""How often the usual wedge no disc may be given (its own course: rigid facets enter each other from about there).

On LIDC-IDRI-0001 discs of 20 degrees took the worst bone 0.3 mm from a rigid motion, those of 18 less than 0.2.
"""

TWIST_LIMIT_DEG = {"cervical": 11.0, "thoracic": 11.0, "lumbar": 5.0, "sacral": 5.0}
"""What a joint is twisted about its long axis at most in scoliosis, by its lower level (White & Panjabi 1990)."""

FLEXION_LIMIT_DEG = {"cervical": 9.0, "thoracic": 5.0, "lumbar": 16.0, "sacral": 24.0}
FLEXION_OF_DEG = {
    Level.T1: 9.0,
    Level.T7: 7.0,
    **dict.fromkeys((Level.T8, Level.T9, Level.T10), 8.0),
    Level.T11: 14.0,
    **dict.fromkeys((Level.T12, Level.T13, Level.L1), 20.0),
    Level.L3: 18.0,
    Level.L4: 17.0,
    **dict.fromkeys((Level.L5, Level.L6), 21.0),
}
"""What a joint is bent forward or back at most, by the region of its lower level, or by the level itself
(White & Panjabi 1990, high range; C7/T1 for the neck and T1, whose neighbours give more)."""

VERTEBRAL_WEDGE_LIMIT_DEG = 16.0
"""Coronal wedge of one vertebra: mean plus three standard deviations at the apex, 6.8 + 3 x 3.1 (Okuwaki 2023)."""


@dataclass(frozen=True)
class Breach:
    """A rule that a bend breaks: ``hard`` ones refuse it, the others are told."""

    rule: str
    value: str
    hard: bool

    def __str__(self) -> str:
        return f"{self.rule}, got {self.value}"


def first_hard(breaches: Iterable[Breach]) -> Breach | None:
    """The first rule that refuses a bend."""
    return next((breach for breach in breaches if breach.hard), None)


def joint_turns_deg(levels: tuple[Level, ...]) -> np.ndarray:
    """What each joint between neighbouring levels can turn about the long axis (degrees, from the head down)."""
    return np.array(
        [
            STIFF_THORACIC_DEG if Level.T11 <= lower <= Level.T13 else TURN_LIMIT_DEG[region(lower)]
            for lower in levels[1:]
        ]
    )


def check_bend(bent: BentSpine, wedge_deg: np.ndarray) -> tuple[Breach, ...]:
    """Hold a bent spine against the rules; ``wedge_deg`` is the wedge given to each vertebra."""
    return (*_check_length(bent), *_check_vertebrae(bent, wedge_deg), *_check_discs(bent), *_check_joints(bent))


def _check_length(bent: BentSpine) -> list[Breach]:
    centres = np.array([v.centre for v in bent.spine])
    length = np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()
    growth = bent.opened_mm.sum() / length
    if growth <= LENGTHENING_LIMIT:
        return []
    rule = (
        "the rims of neighbouring bodies may not meet on the concave side "
        f"while the spine keeps its length within {LENGTHENING_LIMIT:.0%}"
    )
    return [Breach(rule, f"{growth:.1%}", hard=True)]


def _check_vertebrae(bent: BentSpine, wedge_deg: np.ndarray) -> list[Breach]:
    worst = int(np.abs(wedge_deg).argmax())
    if abs(wedge_deg[worst]) <= VERTEBRAL_WEDGE_LIMIT_DEG:
        return []
    rule = f"a vertebra is wedged by at most {VERTEBRAL_WEDGE_LIMIT_DEG:.0f} degrees (Okuwaki 2023)"
    return [Breach(rule, f"{abs(wedge_deg[worst]):.1f} at {bent.spine.levels[worst].name}", hard=True)]


def _check_discs(bent: BentSpine) -> list[Breach]:
    breaches = []
    for native, disc in zip(measure_discs(bent.spine), measure_discs(bent.moved), strict=True):
        usual = WEDGE_LIMIT_DEG.get(region(disc.upper), 15.0)
        before, wedge = (float(np.rad2deg(abs(each.coronal_wedge))) for each in (native, disc))
        refused = wedge > max(before, WEDGE_REFUSED * usual)
        if refused:
            rule = f"no disc is wedged by more than {WEDGE_REFUSED * usual:.0f} degrees while bones stay rigid"
        else:
            rule = f"discs are usually wedged by at most {usual:.0f} degrees in scoliosis (Ding 2011)"
        if wedge > usual:
            breaches.append(Breach(rule, f"{wedge:.1f} at {disc.upper.name}/{disc.lower.name}", hard=refused))
    return breaches


def _check_joints(bent: BentSpine) -> list[Breach]:
    turned, below = joint_turns(bent), bent.spine.levels[1:]
    twist = np.array([TWIST_LIMIT_DEG[region(level)] for level in below])
    flexion = np.array([flexion_limit_deg(level) for level in below])
    found = []
    for way, values, limits in (
        ("twisted about its long axis", turned[:, 2], twist),
        ("bent forward or back", turned[:, 0], flexion),
    ):
        worst = int((np.abs(values) / limits).argmax())
        if abs(values[worst]) > limits[worst]:
            upper, lower = bent.spine.levels[worst : worst + 2]
            rule = f"no joint is {way} by more than {limits[worst]:.0f} degrees (White & Panjabi 1990)"
            found.append(Breach(rule, f"{abs(values[worst]):.1f} at {upper.name}/{lower.name}", hard=True))
    return found


def flexion_limit_deg(lower: Level) -> float:
    """What a joint is bent forward or back at most, by its lower level."""
    return FLEXION_OF_DEG.get(lower, FLEXION_LIMIT_DEG[region(lower)])


def joint_turns(bent: BentSpine) -> Float[np.ndarray, "m 3"]:
    """What a bend turns each plate against the one under it: a rotation vector in the lower level's axes, in degrees.

    The numbers are extension, lean to the left, and turn of the front to the left.
    """
    above, below = bent.inferior[:-1, :3, :3], bent.superior[1:, :3, :3]
    lower = np.array([v.axes for v in bent.spine])[1:]
    between = np.swapaxes(lower, 1, 2) @ np.swapaxes(below, 1, 2) @ above @ lower
    return np.rad2deg(Rotation.from_matrix(between).as_rotvec())
