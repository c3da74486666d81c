"""Vertebrae drawn from a morphology model, with what the model reads off them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.anatomy.report import write_csv
from spinesim.errors import ConfigError, OutputError
from spinesim.shape.morphology import MorphologyModel, model_of
from spinesim.shape.specimen import NOBODY, Person

DECIMALS = 3


def sample_vertebrae(
    models: Sequence[MorphologyModel],
    level: Level,
    count: int,
    person: Person = NOBODY,
    *,
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Draw vertebrae of a level: one row each, with sex, size to the level's mean, and measures in mm and degrees.

    Raises
    ------
    ConfigError
        When no group has the level, or fewer than one vertebra is asked for.
    """
    if count < 1:
        raise ConfigError(f"count: expected 1 or more, got {count}; ask for more")
    model, rows = model_of(models, level), []
    for number in range(count):
        code = model.sample(level, person, rng=rng)
        measures = {name: round(value, DECIMALS) for name, value in model.measure(code).items()}
        told = {"sample": number, "level": level.name, "sex": code.person.sex}
        rows.append(told | {"size": round(float(np.exp(code.log_size)), 4)} | measures)
    return rows


def write_table(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write drawn vertebrae as CSV, under a temporary name first.

    Raises
    ------
    OutputError
        When the name ends otherwise, or the file cannot be written there.
    """
    if path.suffix.lower() != ".csv":
        raise OutputError(f"{path}: expected a name that ends in .csv, got {path.name}; rename it")
    write_csv(rows, path)
