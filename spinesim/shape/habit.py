"""A person drawn from morphology models: how each of the vertebrae differs from the mean one of its level."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.errors import ConfigError
from spinesim.shape.change import Change, measure_reach
from spinesim.shape.morphology import MorphologyModel

SHARED = 0.8
"""Share of the variance that the levels of a group have in common: so far do neighbours' dimensions correlate."""

HEALTHY_SD = 2.0
"""Measures of a drawn vertebra lie no farther from the mean: beyond, a pedicle would be too thin for a healthy one."""


def sample_habit(
    models: Sequence[MorphologyModel], kept: Collection[str], carried: Collection[str], *, rng: np.random.Generator
) -> dict[Level, Change]:
    """Draw how a person's vertebrae differ from the mean ones, given that some measures do not.

    Each level's weights and size are drawn from the Gaussian of its model, conditioned on the measures that are
    ``kept`` (to first order, exactly). The levels of a group share ``SHARED`` of the variance. Modes of two groups have
    nothing in common, but measures have: those ``carried`` lie, in the part that a group shares, as many standard
    deviations from the mean, given what is kept, as in the group above; in a vertebra ``HEALTHY_SD`` at most.

    Raises
    ------
    ConfigError
        When a model does not read such a measure.
    """
    changes: dict[Level, Change] = {}
    scores = None
    for model in models:
        free = _free(model, kept)
        ways = free @ _reach_of(model, carried)
        ways /= np.linalg.norm(ways, axis=0)
        shared = free @ rng.standard_normal(len(free))
        scores = shared @ ways if scores is None else scores
        shared = _scoring(shared, ways, scores)
        for level in model.levels:
            own = free @ rng.standard_normal(len(free))
            drawn = np.sqrt(SHARED) * shared + np.sqrt(1 - SHARED) * own
            drawn = _scoring(drawn, ways, np.clip(drawn @ ways, -HEALTHY_SD, HEALTHY_SD))
            changes[level] = Change(level, drawn[:-1], float(drawn[-1]))
    return changes


def _free(model: MorphologyModel, kept: Collection[str]) -> Float[np.ndarray, "c c"]:
    """Projection of weights and size onto those that leave measures as they are."""
    reach = _reach_of(model, kept)
    return np.eye(len(reach)) - reach @ np.linalg.pinv(reach)


def _scoring(
    drawn: Float[np.ndarray, " c"], ways: Float[np.ndarray, "c m"], scores: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " c"]:
    """What is nearest to a draw and lies so far along some ways."""
    return drawn + np.linalg.pinv(ways.T) @ (scores - drawn @ ways)


def _reach_of(model: MorphologyModel, names: Collection[str]) -> Float[np.ndarray, "c m"]:
    missing = set(names) - set(model.measures)
    if missing:
        raise ConfigError(
            f"morphology model: expected one that reads {', '.join(names)}, got none that reads "
            f"{', '.join(sorted(missing))}; take the shipped one"
        )
    return measure_reach(model)[:, [model.measures.index(name) for name in names]]
