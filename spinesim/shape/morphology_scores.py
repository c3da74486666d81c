"""How good a morphology model is: vertebrae of persons that were left out, and drawn vertebrae against real ones.

Vertebrae are compared after a rigid motion has laid one on the other: the mean distance of corresponding vertices (mm).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from spinesim.errors import ConfigError
from spinesim.shape.morphology import MorphologyModel, fit_morphology
from spinesim.shape.procrustes import lay_on
from spinesim.shape.specimen import Specimen


def measure_generalisation(
    specimens: Sequence[Specimen],
    triangles: Int[np.ndarray, "t 3"],
    modes: int,
    owner: Callable[[Specimen], Hashable] = lambda specimen: specimen.source.rsplit("_", 1)[-1],
    fewer: Sequence[int] = (),
) -> Float[np.ndarray, "m n"]:
    """How far each vertebra is from what a model of the other persons makes of it; a person is left out whole.

    Parameters
    ----------
    owner : callable
        Tells persons apart; by default the last part of the source's name, after ``_``.
    fewer : sequence of int
        Told with so many of the model's first modes each, beside all.

    Returns
    -------
    (m, n) array
        A row for each number in ``fewer``, and one for all modes; a column for each vertebra, mm.

    Raises
    ------
    ConfigError
        When there is one person, or the others are too few for the modes.
    """
    owners = [owner(specimen) for specimen in specimens]
    if len(set(owners)) < 2:
        raise ConfigError("generalisation: expected two persons or more, got one; give more cases")
    errors = np.empty((len(fewer) + 1, len(specimens)))
    for left_out in sorted(set(owners), key=str):
        others = [each for each, whose in zip(specimens, owners, strict=True) if whose != left_out]
        whole = fit_morphology(others, triangles, modes)
        fitted = [*map(whole.truncated, fewer), whole]
        for rank, (each, whose) in enumerate(zip(specimens, owners, strict=True)):
            if whose == left_out:
                errors[:, rank] = [measure_rebuilt(model, each) for model in fitted]
    return errors


def score_morphology(
    models: Sequence[MorphologyModel],
    specimens: Sequence[Specimen],
    *,
    modes: int | None = None,
    samples: int = 100,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Compactness, generalisation and specificity of the model of each group by modes, on what it was fitted to.

    Compactness is the share of the variance beyond level and size that the modes tell. A label map is left out whole;
    where the others do not allow that many modes, or a level would have one vertebra, generalisation is None.

    Parameters
    ----------
    modes : int, optional
        Most modes; by default the model's.
    samples : int
        Draws for specificity, of each number of modes.

    Returns
    -------
    list of dict
        A row for each group and number of modes from 1.

    Raises
    ------
    ConfigError
        When fewer than one mode is asked for.
    """
    if modes is not None and modes < 1:
        raise ConfigError(f"modes: expected 1 or more, got {modes}; ask for more")
    rows = []
    for model in models:
        own_modes = model.gaussian.modes.shape[1]
        most = own_modes if modes is None else min(modes, own_modes)
        own = [specimen for specimen in specimens if specimen.level in model.levels]
        compactness = np.cumsum(model.gaussian.explained())
        for count, error in enumerate(_left_out_errors(model, own, most), start=1):
            drawn = measure_specificity(model.truncated(count), own, samples, rng=rng)
            rows.append(
                {
                    "levels": f"{model.levels[0].name}-{model.levels[-1].name}",
                    "vertebrae": len(own),
                    "modes": count,
                    "compactness": round(float(compactness[count - 1]), 4),
                    "generalisation_mm": None if error is None else round(error, 4),
                    "specificity_mm": round(float(drawn.mean()), 4),
                }
            )
    return rows


def _left_out_errors(model: MorphologyModel, specimens: Sequence[Specimen], most: int) -> list[float | None]:
    """Mean generalisation with each number of modes; None where the others do not allow that many."""
    counts = [[s.source for s in specimens if s.level == level] for level in model.levels]
    largest = max(sum(s.source == source for s in specimens) for source in {s.source for s in specimens})
    allowed = min(most, len(specimens) - largest - len(model.levels) - 1)
    if allowed < 1 or min(len(sources) - max(map(sources.count, sources)) for sources in counts) < 2:
        return [None] * most
    fewer = range(1, allowed)
    errors = measure_generalisation(specimens, model.triangles, allowed, lambda s: s.source, fewer)
    return [*map(float, errors.mean(axis=1)), *[None] * (most - allowed)]


def measure_rebuilt(model: MorphologyModel, specimen: Specimen) -> float:
    """Mean distance of a vertebra from what a model makes of it."""
    made = model.decode(model.encode(specimen.level, specimen.vertices, specimen.person)).vertices
    return float(np.linalg.norm(lay_on(specimen.vertices, made) - made, axis=1).mean())


def measure_specificity(
    model: MorphologyModel, specimens: Sequence[Specimen], samples: int, *, rng: np.random.Generator
) -> Float[np.ndarray, " n"]:
    """How far drawn vertebrae are from the nearest one of their level."""
    shapes = {level: np.stack([each.vertices for each in specimens if each.level == level]) for level in model.levels}
    errors = []
    for number in range(samples):
        level = model.levels[number % len(model.levels)]
        drawn = model.decode(model.sample(level, rng=rng)).vertices
        errors.append(np.linalg.norm(lay_on(shapes[level], drawn) - drawn, axis=2).mean(axis=1).min())
    return np.array(errors)
