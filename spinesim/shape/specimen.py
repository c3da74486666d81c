"""A specimen: one vertebra with a template's vertices on it, what was measured of it, and whose it is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, read_only
from spinesim.anatomy.vertebra import Vertebra
from spinesim.errors import ConfigError
from spinesim.shape.bone import cut_bone
from spinesim.shape.correspondence import Template, match

MEASURES = (
    "anterior_mm",
    "middle_mm",
    "posterior_mm",
    "left_mm",
    "right_mm",
    "width_mm",
    "depth_mm",
    "kyphotic_deg",
    "left_deg",
)
"""What is measured of a body: heights, extents at the waist, and how far its plates close to the front, to the left."""

SEXES = {"male": 1.0, "female": -1.0, None: 0.0}


@dataclass(frozen=True)
class Person:
    """Whose a vertebra is, as far as that is known."""

    sex: str | None = None
    age_years: float | None = None

    def __post_init__(self) -> None:
        if self.sex not in SEXES:
            raise ConfigError(f"sex: expected male, female or none, got {self.sex!r}; leave it out if it is not known")


NOBODY = Person()


@dataclass(frozen=True, eq=False)
class Specimen:
    """A vertebra in correspondence.

    Parameters
    ----------
    level : Level
    vertices : (v, 3) array
        Of the template's triangles, in the vertebra's own frame (mm).
    measures : dict
        Of ``MEASURES``, and others that are known of all specimens of a cohort; mm and degrees.
    person : Person
    source : str
        The label map that it was cut out of.
    match : dict
        How well the template lies on it (mm).
    """

    level: Level
    vertices: Float[np.ndarray, "v 3"]
    measures: dict[str, float]
    person: Person = NOBODY
    source: str = ""
    match: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", read_only(self.vertices))


def match_specimen(template: Template, labels: LabelMap, vertebra: Vertebra, person: Person = NOBODY) -> Specimen:
    """Cut a vertebra out of its label map and bring a template onto it.

    Raises
    ------
    ConfigError
        When itk-elastix is not installed.
    LabelError
        When the template does not reach what there is of the vertebra.
    """
    name = f"{labels.source}: {vertebra.level.name}"
    found = match(template, cut_bone(labels, vertebra), name)
    return Specimen(vertebra.level, found.vertices, measure_vertebra(vertebra), person, labels.source, found.summary())


def measure_vertebra(vertebra: Vertebra) -> dict[str, float]:
    """Heights, extents and wedges of a measured vertebra (``MEASURES``); NaN for a height that could not be read."""
    heights = vertebra.heights
    values = [getattr(heights, place, np.nan) for place in ("anterior", "middle", "posterior", "left", "right")]
    tilts = [plate.normal @ vertebra.axes for plate in (vertebra.superior, vertebra.inferior)]
    lean, tilt = ([np.arctan2(normal[axis], normal[2]) for normal in tilts] for axis in (1, 0))
    wedges = np.rad2deg([lean[0] - lean[1], tilt[1] - tilt[0]])
    return dict(zip(MEASURES, [*values, vertebra.width_mm, vertebra.depth_mm, *map(float, wedges)], strict=True))
