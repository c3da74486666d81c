"""Recipe of the model ``adult``: C3 to L5 of healthy adults.

python -m spinesim.shape_models.build_adult                      writes adult.npz and adult_scores.csv beside itself
python -m spinesim.shape_models.build_adult --centroids FOLDER   first makes its correlations of VerSe's centroids
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import USUAL, Level, parse_level, region
from spinesim.anatomy.vertebra import Spine
from spinesim.shape.constraints import measure_posture
from spinesim.shape.latent import fit_gaussian
from spinesim.shape.population import Spread, build_pose_model
from spinesim.shape.pose_model import PoseModel

from .published import HERE, add_up, fading, published_spine, read_rows, ship  # noqa: TID251 - relative, as it must be

LEVELS = tuple(level for level in USUAL if Level.C3 <= level <= Level.L5)
CASES = 193
"""Scans that the correlations are of; the spreads are of others."""

KYPHOSIS_T1_T12_SD = 12.7
"""Of 69 healthy adolescents, standing (Scoliosis Spinal Disord 2018 Table 2)."""

SEGMENT_SD = {Level.L1: 3.6, Level.L2: 4.1, Level.L3: 4.2, Level.L4: 5.1}
"""SD of the lordosis from a level to the next, 324 adults, standing (Sci Rep 2022 s41598-022-21840-x Table 2)."""

CERVICAL_SD, TILT_SD, ROTATION_SD, SIZE, JOINT_MM = 4.0, 1.3, 1.5, 0.05, 0.2
"""Assumed: what a cervical joint nods; tilt and axial rotation of a level (coronal curves stay below 10 degrees); SD of
the spine's length; rest of each number of a row."""

MODES = 5
"""Of the correlations between joints."""

FARTHEST_MM, STEEPEST_DEG = 45.0, 20.0
"""Centroids farther apart are of no neighbours; joints farther from their median are mislabelled."""


def main() -> None:
    """Build the model, write it, and score it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--centroids", type=Path, help="folder with payer_verse2019_landmarks.csv and its sister")
    folder = parser.parse_args().centroids
    if folder is not None:
        write_correlation(correlate(read_centroids(folder)))
    model, anatomy = build_adult()
    ship("adult", model, score(model, anatomy, 4000))


def read_centroids(folder: Path) -> Float[np.ndarray, "n 24 3"]:
    """Centroids C1 to L5 of all scans (mm; right-left, posterior, superior), NaN where a level is not there."""
    cases = []
    for year in (2019, 2020):
        with (folder / f"payer_verse{year}_landmarks.csv").open(encoding="utf-8") as stream:
            rows = np.array([[float(number) for number in row[1:]] for row in csv.reader(stream)])
        cases.append(rows.reshape(len(rows), -1, 3)[:, :24])
    return np.concatenate(cases)


def correlate(centroids: Float[np.ndarray, "n 24 3"]) -> Float[np.ndarray, "m m"]:
    """Correlation of the forward turns of neighbouring joints, from scans that each show a part of the spine.

    A level leans as the mean of the lines to its neighbours does, so joints are seen through a window of three levels.
    """
    up = centroids[:, :-1] - centroids[:, 1:]
    up[np.linalg.norm(up, axis=2) > FARTHEST_MM] = np.nan
    lines = np.rad2deg(np.arctan2(-up[..., 1], up[..., 2]))
    lean = np.concatenate([(lines[:, :-1] + lines[:, 1:]) / 2, lines[:, -1:]], axis=1)  # C2 to L5
    joints = (lean[:, :-1] - lean[:, 1:])[:, 1:]  # from C3 on C4 to L4 on L5
    joints[np.abs(joints - np.nanmedian(joints, axis=0)) > STEEPEST_DEG] = np.nan
    joints = joints[np.isfinite(joints).sum(axis=1) >= 3]
    covariance = fit_gaussian(joints, MODES).covariance()
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.outer(sd, sd)


def write_correlation(correlation: Float[np.ndarray, "m m"]) -> None:
    """Write the one thing that is kept of the centroids."""
    names = [f"{upper.name}-{lower.name}" for upper, lower in zip(LEVELS, LEVELS[1:], strict=False)]
    lines = [
        "# Correlation of the forward turns of neighbouring joints, fitted to vertebral centroids of 193 CT scans of",
        "# VerSe 2019 and 2020 (Sekuboyina et al. 2021, Med Image Anal 73:102166; centroids by Payer et al.),",
        "# CC BY-SA 4.0. Made by build_adult.py.",
        ",".join(["joint", *names]),
        *(",".join([name, *(f"{number:.3f}" for number in row)]) for name, row in zip(names, correlation, strict=True)),
    ]
    (HERE / "sagittal_correlation.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_correlation() -> Float[np.ndarray, "m m"]:
    """The correlation of the joints from C3 on C4 to L4 on L5."""
    rows = read_rows(HERE / "sagittal_correlation.csv")
    joints = [row["joint"] for row in rows]
    found = np.array([[float(row[joint]) for joint in joints] for row in rows])
    assert [parse_level(joint.split("-")[0]) for joint in joints] == list(LEVELS[:-1])  # noqa: S101
    return (found + found.T) / 2


def build_adult() -> tuple[PoseModel, Spine]:
    """The model, and the mean spine whose plates its angles are read with."""
    mean, count = published_spine(LEVELS), len(LEVELS)
    nod = add_up(joint_spread(read_correlation()))
    turn = np.deg2rad(ROTATION_SD) ** 2 * fading(count)
    spread = Spread(np.deg2rad(TILT_SD) ** 2 * fading(count), nod, turn, np.zeros((count, count)), SIZE, JOINT_MM)
    return build_pose_model(mean, spread, CASES), mean


def joint_spread(correlation: Float[np.ndarray, "m m"]) -> Float[np.ndarray, "m m"]:
    """Covariance of the joints' forward turns (rad^2): published spreads, correlated as the scans are."""
    uppers = LEVELS[:-1]
    sd = np.array([SEGMENT_SD.get(level, CERVICAL_SD) for level in uppers])
    chest = np.array([region(level) == "thoracic" for level in uppers])
    sd[chest] = 1.0
    within = slice(uppers.index(Level.T1), uppers.index(Level.T12))
    sd[chest] = KYPHOSIS_T1_T12_SD / np.sqrt(correlation[within, within].sum())
    return np.outer(sd, sd) * np.deg2rad(np.deg2rad(correlation))


def score(model: PoseModel, anatomy: Spine, count: int) -> list[tuple[str, str, str]]:
    """Draw spines and hold their angles against published ones: quantity, published, model."""
    chains = model.sample(count, np.eye(4), rng=np.random.default_rng(1))
    posture = measure_posture(anatomy, np.stack([chain.poses() for chain in chains]))
    lean, rank = np.rad2deg(posture.sagittal), posture.rank

    def angle(upper: Level, lower: Level, plate: int) -> np.ndarray:
        return lean[:, rank(upper), 0] - lean[:, rank(lower), plate]

    def row(name: str, published: str, got: np.ndarray) -> tuple[str, str, str]:
        return name, published, f"{got.mean():.1f} +- {got.std():.1f}"

    rows = [
        row("kyphosis T1-T12 (deg)", "44.2 (Harrison 2002); SD 12.7", angle(Level.T1, Level.T12, 1)),
        row("kyphosis T2-T11 (deg)", "39.9 (Harrison 2002)", angle(Level.T2, Level.T11, 1)),
        row("kyphosis T3-T10 (deg)", "33.3 (Harrison 2002)", angle(Level.T3, Level.T10, 1)),
        row("kyphosis T5-T12 (deg)", "32.9 +- 15.0 (adolescents)", angle(Level.T5, Level.T12, 1)),
        row("lordosis L1-L5 (deg)", "46.0 +- 9.1 (adolescents)", -angle(Level.L1, Level.L5, 1)),
    ]
    means = {Level.L1: 1.2, Level.L2: 5.9, Level.L3: 9.1, Level.L4: 12.7}
    rows += [
        row(
            f"lordosis {upper.name}-{lower.name} (deg)",
            f"{means[upper]} +- {SEGMENT_SD[upper]} (Sci Rep 2022)",
            -angle(upper, lower, 0),
        )
        for upper, lower in _neighbours(tuple(means))
    ]
    first, last = np.triu_indices(len(LEVELS), 1)
    tilt = np.rad2deg(posture.coronal.mean(axis=2))
    cobb = np.abs(tilt[:, last] - tilt[:, first]).max(axis=1)
    rows.append(("largest coronal angle, 95 % quantile (deg)", "below 10 (healthy)", f"{np.quantile(cobb, 0.95):.1f}"))
    return rows


def _neighbours(uppers: Sequence[Level]) -> list[tuple[Level, Level]]:
    """Each level with the one below it."""
    return [(level, LEVELS[LEVELS.index(level) + 1]) for level in uppers]


if __name__ == "__main__":
    main()
