"""What the recipes share: the spine of the published dimensions, and how neighbouring joints add up."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import EndPlate, Spine, Vertebra
from spinesim.phantom.column import Pose, body_wedge, build_column
from spinesim.phantom.table import Dimensions
from spinesim.shape.model_file import write_pose_model
from spinesim.shape.pose_model import PoseModel

HERE = Path(__file__).resolve().parent

PLATE_MM = 15.0
"""How far the centre of a sacrum lies below its plate, as where scans are measured."""

REACH = 2.5
"""Levels over which neighbours vary together where nothing is published (assumed)."""


def published_spine(levels: Sequence[Level]) -> Spine:
    """The adult of the published dimensions and alignment, some of its levels (world RAS, mm)."""
    column = build_column()
    bones = [level for level in levels if level != Level.S]
    found = [_vertebra(level, column.poses[level], column.dimensions[level]) for level in bones]
    return Spine((*found, *([_sacrum(column.poses[Level.S], found[-1])] if Level.S in levels else [])))


def _sacrum(pose: Pose, above: Vertebra) -> Vertebra:
    """The sacrum as :func:`spinesim.estimate_spine` tells it: its plate, a centre 15 mm below, as wide as L5."""
    axes, plate = _axes(pose), np.array([0.0, pose.y_mm, pose.z_mm])
    up = axes[:, 2]
    plates = EndPlate(plate, up), EndPlate(plate - 2 * PLATE_MM * up, up)
    return Vertebra(Level.S, plate - PLATE_MM * up, axes, *plates, above.width_mm, above.depth_mm, measured=True)


def _axes(pose: Pose) -> Float[np.ndarray, "3 3"]:
    c, s = np.cos(pose.lean), np.sin(pose.lean)
    return np.array([[1.0, 0, 0], [0, c, s], [0, -s, c]])


def _vertebra(level: Level, pose: Pose, dims: Dimensions) -> Vertebra:
    axes = _axes(pose)
    centre, half = np.array([0.0, pose.y_mm, pose.z_mm]), body_wedge(dims) / 2
    upper, lower = (
        EndPlate(centre + sign * dims.height / 2 * axes[:, 2], axes @ [0.0, np.sin(sign * half), np.cos(half)])
        for sign in (1, -1)
    )
    return Vertebra(level, centre, axes, upper, lower, dims.w_inf, dims.depth, measured=True)


def read_rows(table: Traversable) -> list[dict[str, str]]:
    """Rows of a table whose first lines, marked with ``#``, name its source."""
    lines = table.read_text(encoding="utf-8").splitlines()
    return list(csv.DictReader(line for line in lines if not line.startswith("#")))


HEADER = ("quantity", "published", "model")

SCORES = (*HEADER, "within 10 % or the published standard error")
"""Head of the scores of a model that say what is met."""


def ship(name: str, model: PoseModel, scores: Sequence[tuple[str, ...]], header: tuple[str, ...] = HEADER) -> None:
    """Write a model and its scores beside the recipes, and print the scores."""
    write_pose_model(model, HERE / f"{name}.npz")
    with (HERE / f"{name}_scores.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *scores])
    for row in scores:
        print(*row, sep="\t")  # noqa: T201


def publish(name: str, model: PoseModel, scores: Sequence[tuple[str, ...]], more: Sequence[str] = ()) -> None:
    """Ship a model whose scores say what is met, and write them as the table of its card, with what more it tells."""
    ship(name, model, scores, SCORES)
    card = HERE / f"{name}.md"
    before, begins, rest = card.read_text(encoding="utf-8").partition(f"<!-- made by build_{name}.py -->")
    _, ends, after = rest.partition("<!-- until here -->")
    parts = (f"{before}{begins}\n", render(SCORES, scores), *more, f"{ends}{after}")
    card.write_text("\n".join(parts), encoding="utf-8")


def render(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, as a card has it."""
    first, *rest = (f"| {' | '.join(row)} |".replace("+-", "±") for row in (header, *rows))
    return "\n".join([first, "|" + "---|" * len(header), *rest]) + "\n"


def mean_tolerance(mean: float, sd: float, people: float) -> float:
    """How near is near enough to a published mean: a tenth of it, or its standard error (SD NaN: none)."""
    return float(np.fmax(abs(mean) / 10, sd / np.sqrt(people)))


def held(got: Float[np.ndarray, " b"], mean: float, sd: float, people: float) -> str:
    """Hold drawn numbers against a published mean and SD (NaN: none): within a tenth, or within the standard error."""
    verdicts = [("mean", abs(got.mean() - mean) <= mean_tolerance(mean, sd, people))]
    if np.isfinite(sd):
        verdicts.append(("SD", abs(got.std() - sd) <= max(sd / 10, sd / np.sqrt(2 * people))))
    return ", ".join(f"{what} {'yes' if within else 'no'}" for what, within in verdicts)


def compactness(model: PoseModel) -> list[tuple[str, str, str, str]]:
    """Rows of the scores: what share of the variance the first modes of a model tell."""
    shares = 100 * np.cumsum(model.gaussian.explained())
    counts = {"1 mode": 1, "5 modes": 5, "10 modes": 10, "20 modes": 20}
    return [(f"share of the variance in {name} (%)", "", f"{shares[n - 1]:.1f}", "") for name, n in counts.items()]


def fading(count: int) -> Float[np.ndarray, "n n"]:
    """Correlation of neighbours that fades over ``REACH`` levels."""
    apart = np.subtract.outer(np.arange(count), np.arange(count))
    return np.exp(-0.5 * (apart / REACH) ** 2)


def add_up(joints: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "n n"]:
    """Covariance of the levels' turns, the lowest held, for that of the joints between them (from the head down)."""
    count = len(joints)
    summed = np.triu(np.ones((count + 1, count)))
    return summed @ joints @ summed.T
