"""The morphology model of a group of levels: mean vertebrae by level, sex, age and size, and modes of what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from spinesim.anatomy.levels import Level
from spinesim.errors import ConfigError
from spinesim.shape.latent import Gaussian, fit_principal
from spinesim.shape.procrustes import align, centroid_size, lay_on
from spinesim.shape.specimen import NOBODY, SEXES, Person, Specimen
from spinesim.shape.surface import Surface

COVARIATES = ("sex", "size", "decades")
"""Beside the level: +1 male, -1 female, 0 not known; the logarithm of the centroid size to the level's mean; the age
from the mean one, in tens of years, 0 where it is not known."""


@dataclass(frozen=True, eq=False)
class Code:
    """A vertebra in the terms of a model: the weights are standard deviations of its modes."""

    level: Level
    person: Person
    log_size: float
    weights: Float[np.ndarray, " q"]


@dataclass(frozen=True, eq=False)
class MorphologyModel:
    """How vertebrae of neighbouring levels are shaped in a population.

    A vertebra is a row of coordinates of its vertices in its own frame (origin in the middle of the body; right,
    anterior, superior; mm), laid on the mean of its level by a rigid motion: size is in the shape, and a covariate.

    Parameters
    ----------
    levels : tuple of Level
        From the head down.
    triangles : (t, 3) array
        Between the vertices, the same for all levels.
    coefficients : (levels + 3, 3 v) array
        Mean row of each level, then what ``COVARIATES`` add to it.
    gaussian : Gaussian
        Of what is left.
    log_sizes : (levels,) array
        Mean logarithm of the centroid size of each level.
    size_by_sex, size_sd : float
        Mean of the covariate size for men (women: the opposite), and its standard deviation in either.
    age_years : float
        Mean age; NaN where no age was known.
    measures : tuple of str
        Names of what is read off a vertebra.
    readout : (levels + 3 + q, m) array
        Measures by level, covariates and weights, linearly.
    cases : int
        Vertebrae that it was fitted to.

    References
    ----------
    Cootes TF et al. (1995). Active shape models: their training and application. Comput Vis Image Underst 61:38-59.
    """

    levels: tuple[Level, ...]
    triangles: Int[np.ndarray, "t 3"]
    coefficients: Float[np.ndarray, "k d"]
    gaussian: Gaussian
    log_sizes: Float[np.ndarray, " l"]
    size_by_sex: float
    size_sd: float
    age_years: float
    measures: tuple[str, ...]
    readout: Float[np.ndarray, "c m"]
    cases: int

    def __post_init__(self) -> None:
        count, modes = len(self.levels) + len(COVARIATES), self.gaussian.modes.shape[1]
        shapes = self.coefficients.shape, self.readout.shape, self.log_sizes.shape
        expected = (count, len(self.gaussian.mean)), (count + modes, len(self.measures)), (len(self.levels),)
        if shapes != expected:
            raise ConfigError(f"morphology model: expected arrays of shapes {expected}, got {shapes}; fit it again")

    def mean(self, level: Level, person: Person = NOBODY, size: float | None = None) -> Surface:
        """The mean vertebra of a level, of such persons; ``size`` is how many times as large as the level's mean."""
        return self._surface(self._row(Code(level, person, self._log_size(person, size), self._no_weights())))

    def encode(self, level: Level, vertices: Float[np.ndarray, "v 3"], person: Person = NOBODY) -> Code:
        """Tell a vertebra, wherever it lies, in the terms of the model."""
        log_size = float(np.log(centroid_size(vertices))) - self._of(level, self.log_sizes)
        bare = Code(level, person, log_size, self._no_weights())
        return replace(bare, weights=self.gaussian.transform(self._residual(bare, vertices)))

    def decode(self, code: Code) -> Surface:
        """The vertebra that is told, in its own frame."""
        return self._surface(self._row(code))

    def sample(
        self,
        level: Level,
        person: Person = NOBODY,
        size: float | None = None,
        *,
        rng: np.random.Generator,
    ) -> Code:
        """Draw a vertebra of a level: its weights, its size and its sex where they are not given.

        What the modes do not tell is not drawn: it would roughen the surface.
        """
        weights, drawn, coin = rng.standard_normal(len(self._no_weights())), rng.standard_normal(), rng.random()
        sex = person.sex or ("male" if coin < 0.5 else "female")
        log_size = self.size_by_sex * SEXES[sex] + self.size_sd * drawn if size is None else np.log(size)
        return Code(level, replace(person, sex=sex), float(log_size), weights)

    def measure(self, code: Code) -> dict[str, float]:
        """What the model reads off a vertebra (mm and degrees), to first order."""
        values = np.append(self._design(code), code.weights) @ self.readout
        return dict(zip(self.measures, values.tolist(), strict=True))

    def log_likelihood(self, level: Level, vertices: Float[np.ndarray, "v 3"], person: Person = NOBODY) -> float:
        """Log density of a vertebra's row (mm) given its level, size and person."""
        log_size = float(np.log(centroid_size(vertices))) - self._of(level, self.log_sizes)
        off = self._residual(Code(level, person, log_size, self._no_weights()), vertices)
        return log_density(self.gaussian, off)

    def truncated(self, modes: int) -> MorphologyModel:
        """The same model with its first modes alone."""
        kept = len(self.coefficients) + modes
        return replace(self, gaussian=self.gaussian.truncated(modes), readout=self.readout[:kept])

    def _no_weights(self) -> Float[np.ndarray, " q"]:
        return np.zeros(self.gaussian.modes.shape[1])

    def _log_size(self, person: Person, size: float | None) -> float:
        return self.size_by_sex * SEXES[person.sex] if size is None else float(np.log(size))

    def _of(self, level: Level, values: Float[np.ndarray, " l"]) -> float:
        if level not in self.levels:
            raise ConfigError(
                f"morphology model: expected a level from {self.levels[0].name} to {self.levels[-1].name}, "
                f"got {level.name}; take the model of its group"
            )
        return float(values[self.levels.index(level)])

    def _design(self, code: Code) -> Float[np.ndarray, " k"]:
        ones = [float(self._of(code.level, row)) for row in np.eye(len(self.levels))]
        return np.array([*ones, *_covariates(code.person, code.log_size, self.age_years)])

    def _row(self, code: Code) -> Float[np.ndarray, " d"]:
        return self._design(code) @ self.coefficients + self.gaussian.inverse(code.weights)

    def _residual(self, bare: Code, vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, " d"]:
        row = self._row(bare)
        return lay_on(vertices, row.reshape(-1, 3)).ravel() - row

    def _surface(self, row: Float[np.ndarray, " d"]) -> Surface:
        return Surface(row.reshape(-1, 3), self.triangles)


def log_density(gaussian: Gaussian, row: Float[np.ndarray, " d"]) -> float:
    """Log density of a whole row: as :meth:`Gaussian.log_likelihood`, without a matrix of its length squared."""
    off, modes, noise = row - gaussian.mean, gaussian.modes, gaussian.noise_var
    inner = np.eye(modes.shape[1]) + modes.T @ modes / noise
    told = modes.T @ off / noise
    square = off @ off / noise - told @ np.linalg.solve(inner, told)
    volume = len(row) * np.log(2 * np.pi * noise) + np.linalg.slogdet(inner)[1]
    return float(-0.5 * (square + volume))


def _covariates(person: Person, log_size: float, age_years: float) -> tuple[float, float, float]:
    """Numbers of ``COVARIATES``; what is not known counts as the mean."""
    known = person.age_years is not None and np.isfinite(age_years)
    return SEXES[person.sex], log_size, (person.age_years - age_years) / 10 if known else 0.0  # type: ignore[operator]


def fit_morphology(
    specimens: Sequence[Specimen], triangles: Int[np.ndarray, "t 3"], modes: int | None = None
) -> MorphologyModel:
    """Fit a model to vertebrae in correspondence.

    Shapes are aligned level by level (generalised Procrustes, rigid), and regressed on level, sex, size and age by
    least squares; a covariate that does not vary gets no coefficient, nor does age where fewer than three are known.
    Principal components of the residuals are the modes.

    Parameters
    ----------
    modes : int, optional
        By default so many that 98 % of the residual variance is told.

    Raises
    ------
    ConfigError
        When a level has fewer than two vertebrae, or there are too few for the modes.
    """
    levels = tuple(sorted({specimen.level for specimen in specimens}))
    ranks = np.array([levels.index(specimen.level) for specimen in specimens])
    if (np.bincount(ranks) < 2).any():
        lone = levels[int(np.bincount(ranks).argmin())]
        raise ConfigError(
            f"morphology: expected two vertebrae or more of each level, got one {lone.name}; leave it out"
        )
    shapes = np.stack([specimen.vertices for specimen in specimens])
    for rank in range(len(levels)):
        shapes[ranks == rank] = align(shapes[ranks == rank])
    sizes = np.log(centroid_size(shapes))
    log_sizes = np.array([sizes[ranks == rank].mean() for rank in range(len(levels))])
    relative = sizes - log_sizes[ranks]
    ages = np.array([s.person.age_years for s in specimens if s.person.age_years is not None], dtype=float)
    age_years = float(ages.mean()) if len(ages) >= 3 and np.ptp(ages) > 0 else float("nan")
    people = [specimen.person for specimen in specimens]
    extra = np.array([_covariates(p, s, age_years) for p, s in zip(people, relative, strict=True)])
    design = np.column_stack([np.eye(len(levels))[ranks], extra])
    rows = shapes.reshape(len(shapes), -1)
    coefficients = _regress(design, rows)
    residuals, spent = rows - design @ coefficients, int(np.linalg.matrix_rank(design))
    count = modes or _enough(residuals, len(rows) - spent)
    gaussian = fit_principal(residuals, count, spent)
    weights = np.stack([gaussian.transform(row) for row in residuals])
    names = tuple(specimens[0].measures)
    read = np.array([[specimen.measures[name] for name in names] for specimen in specimens])
    by_sex, sd = _size_law(relative, extra[:, 0])
    return MorphologyModel(
        levels,
        triangles.astype(np.int32),
        rounded(coefficients),
        replace(gaussian, modes=rounded(gaussian.modes)),
        log_sizes,
        by_sex,
        sd,
        age_years,
        names,
        _read_out(np.column_stack([design, weights]), read),
        len(specimens),
    )


def rounded(values: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Numbers as the file keeps them: to a ten-thousandth of a millimetre, of single precision."""
    return np.round(values, 4).astype(np.float32).astype(float)


def _regress(design: Float[np.ndarray, "n k"], rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "k d"]:
    """Least squares, the shortest solution where covariates do not vary."""
    return np.linalg.lstsq(design, rows, rcond=1e-9)[0]


def _enough(residuals: Float[np.ndarray, "n d"], free: int, share: float = 0.98) -> int:
    """Fewest modes that tell a share of the residual variance."""
    variances = np.linalg.svd(residuals, compute_uv=False) ** 2
    wanted = int(np.searchsorted(np.cumsum(variances) / variances.sum(), share)) + 1
    return max(1, min(wanted, free - 1))


def _size_law(relative: Float[np.ndarray, " n"], sexes: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Mean of the logarithm of size for men, and its spread about that of either sex."""
    known = sexes != 0
    by_sex = float(relative[known] @ sexes[known] / known.sum()) if len(set(sexes[known])) == 2 else 0.0
    return by_sex, float(np.std(relative - by_sex * sexes, ddof=1))


def _read_out(design: Float[np.ndarray, "n c"], read: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "c m"]:
    """Linear map from level, covariates and weights to the measures, each from the vertebrae that show it."""
    columns = []
    for column in read.T:
        seen = np.isfinite(column)
        if not seen.any():
            columns.append(np.full(design.shape[1], np.nan))
        else:
            columns.append(np.linalg.lstsq(design[seen], column[seen], rcond=1e-6)[0])
    return np.column_stack(columns)


def model_of(models: Sequence[MorphologyModel], level: Level) -> MorphologyModel:
    """The model of the group that a level belongs to.

    Raises
    ------
    ConfigError
        When no group has it.
    """
    for model in models:
        if level in model.levels:
            return model
    known = ", ".join(f"{model.levels[0].name}-{model.levels[-1].name}" for model in models)
    raise ConfigError(f"morphology: expected a level of {known}, got {level.name}; choose another level or model")
