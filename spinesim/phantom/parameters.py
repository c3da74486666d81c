"""What the user may choose about the built-in phantom."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from spinesim.anatomy.levels import RARE, USUAL, Level, parse_level, region
from spinesim.errors import LabelError

FIRST = Level.C3
"""The highest level that the table of dimensions knows whole."""


def _read_level(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_level(value)
    except LabelError as error:
        raise ValueError(str(error)) from error


Sex = Literal["male", "female"]
Kernel = Literal["soft", "standard", "bone"]

SEX_SIZE = {"male": 1.04, "female": 0.96}
"""Size of a vertebra against the mean table: male over female 1.06 to 1.10 in every dimension (Duman: L1 height
25.94/23.57; Yadav: widths 1.06 to 1.09), shipped as mean x 1.04 and mean x 0.96."""

STATURE_CM = {"male": 171.0, "female": 159.0, None: 165.0}
"""Mean adult stature, world: NCD-RisC (2016), eLife 5:e13410 (recalled); None is the mean of both."""

NamedLevel = Annotated[Level, BeforeValidator(_read_level)]
Spacing = Annotated[float, Field(ge=0.4, le=3.0)]


class PhantomParameters(BaseModel):
    """Person, range of levels, grid and scanner of the built-in healthy phantom.

    Parameters
    ----------
    upper, lower : Level or str
        First and last level that is whole and labelled; C3 to S, without the rare T13 and L6.
    spacing_mm : (3,) tuple of float
        Voxel size along x, y and z, 0.4 to 3 mm each.
    noise_hu : float
        Standard deviation of the image noise in a voxel, 0 to 100 HU.
    seed : int
        Seed of what makes a person (processes, end plates, the lie of the soft tissue), of texture and of noise; the
        dimensions of the bones do not depend on it.
    morphology_seed : int or None
        Draws the vertebrae, C3 to L5, from the shipped morphology model: canals, pedicles, transverse processes and
        the plates' hollows, while heights, widths and depths of bodies stay the table's; None is the table's vertebrae.
    age_years : float
        Age that sets the trabecular HU, 18 to 100 years.
    sex : "male", "female" or None
        Makes the whole trunk 4 % larger or smaller than the mean of both sexes.
    height_cm : float or None
        Standing height, 140 to 210 cm; the whole trunk is scaled by its ratio to the mean of the sex.
    kernel : "soft", "standard" or "bone"
        Reconstruction kernel: how sharp edges are, and how fine the grain of the noise.
    slice_mm : float or None
        Thickness of a slice, at most 10 mm; None is the voxel's size along z, and it cannot be thinner than that.

    Raises
    ------
    pydantic.ValidationError
        When a value is out of its range, or ``upper`` lies below ``lower``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    upper: NamedLevel = Level.C7
    lower: NamedLevel = Level.S
    spacing_mm: tuple[Spacing, Spacing, Spacing] = (1.5, 1.5, 1.5)
    noise_hu: float = Field(default=12.0, ge=0.0, le=100.0)
    seed: int = Field(default=0, ge=0)
    morphology_seed: int | None = Field(default=None, ge=0)
    age_years: float = Field(default=40.0, ge=18.0, le=100.0)
    sex: Sex | None = None
    height_cm: float | None = Field(default=None, ge=140.0, le=210.0)
    kernel: Kernel = "standard"
    slice_mm: float | None = Field(default=None, gt=0.0, le=10.0)

    @field_validator("upper", "lower")
    @classmethod
    def _is_in_the_table(cls, level: Level) -> Level:
        if level < FIRST or level in RARE:
            raise ValueError(
                f"phantom: expected a level from C3 to S without T13 and L6, got {level.name}; choose a neighbour"
            )
        return level

    @field_validator("slice_mm")
    @classmethod
    def _leaves_no_gap(cls, slice_mm: float | None, info: ValidationInfo) -> float | None:
        spacing = info.data.get("spacing_mm")
        if slice_mm is not None and spacing is not None and slice_mm < spacing[2]:
            raise ValueError(
                f"phantom: expected slices at least as thick as their distance of {spacing[2]:g} mm, got {slice_mm:g}; "
                "make them thicker or the spacing along z smaller"
            )
        return slice_mm

    @model_validator(mode="after")
    def _runs_from_the_head_down(self) -> PhantomParameters:
        if self.upper > self.lower:
            raise ValueError(
                f"phantom: expected upper at or above lower, got {self.upper.name} to {self.lower.name}; swap the two"
            )
        return self

    @property
    def size(self) -> float:
        """How many times as large as the mean table the person is."""
        stature = STATURE_CM[self.sex]
        return SEX_SIZE.get(self.sex or "", 1.0) * (self.height_cm or stature) / stature

    @property
    def levels(self) -> tuple[Level, ...]:
        """The levels that are whole and labelled, from the head down."""
        return tuple(level for level in USUAL if self.upper <= level <= self.lower)

    def trabecular_hu(self, level: Level) -> float:
        """Mean HU of the cancellous bone of a level.

        L1 follows 226 - 2.5 (age - 25), flat before 25 and after 80 years (Jang 2019, Radiology
        291:360-367, n = 20 374); thoracic levels read 1.05 (T12) to 1.2 (T4-T8) times as much,
        cervical levels 1.4 times (recalled from the QCT literature).
        """
        lumbar = 226.0 - 2.5 * (min(max(self.age_years, 25.0), 80.0) - 25.0)
        if region(level) == "cervical":
            return 1.4 * lumbar
        if region(level) == "thoracic":
            return lumbar * (1.2 - 0.15 * max(0, level - Level.T8) / 4)
        return lumbar
