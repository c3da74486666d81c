"""Recipe of the model ``adult``: C3 to S of healthy adults.

python -m spinesim.shape_models.build_adult                      writes adult.npz, adult_scores.csv and adult.md's table
python -m spinesim.shape_models.build_adult --centroids FOLDER   first makes its correlations of VerSe's centroids
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from jaxtyping import Float

from spinesim.anatomy.levels import USUAL, Level, parse_level, region
from spinesim.anatomy.vertebra import Spine
from spinesim.shape.constraints import Posture, measure_posture
from spinesim.shape.latent import fit_gaussian
from spinesim.shape.population import Spread, build_pose_model, meet_spreads
from spinesim.shape.pose_model import PoseModel

from .published import (  # noqa: TID251 - relative, as it must be
    HERE,
    PLATE_MM,
    add_up,
    fading,
    held,
    publish,
    published_spine,
    read_rows,
)

LEVELS = tuple(level for level in USUAL if Level.C3 <= level <= Level.S)
CASES = 193
"""Scans that the correlations are of; the spreads are of others."""

CHEST_SD = 3.5
"""What a thoracic joint nods before its sums are brought to their published spreads (12.7 degrees from T1 to T12)."""

CERVICAL_SD, LUMBAR_SD, TILT_SD, ROTATION_SD, SIZE, JOINT_MM = 4.0, 5.0, 1.3, 1.5, 0.05, 0.2
"""Assumed: what a cervical joint nods, and a lumbar one before its published spread is given to it; tilt and axial
rotation of a level (coronal curves stay below 10 degrees); SD of the spine's length; rest of each number of a row."""

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
        joints = joints_of(read_centroids(folder))
        write_correlation(correlate(joints))
        print("left out one by one: {:.1f} degrees, their mean {:.1f}".format(*leave_one_out(joints)))  # noqa: T201
    model, anatomy = build_adult()
    publish("adult", model, score(model, anatomy, 4000))


def read_centroids(folder: Path) -> Float[np.ndarray, "n 24 3"]:
    """Centroids C1 to L5 of all scans (mm; right-left, posterior, superior), NaN where a level is not there."""
    cases = []
    for year in (2019, 2020):
        with (folder / f"payer_verse{year}_landmarks.csv").open(encoding="utf-8") as stream:
            rows = np.array([[float(number) for number in row[1:]] for row in csv.reader(stream)])
        cases.append(rows.reshape(len(rows), -1, 3)[:, :24])
    return np.concatenate(cases)


def joints_of(centroids: Float[np.ndarray, "n 24 3"]) -> Float[np.ndarray, "n m"]:
    """Forward turns of neighbouring joints (degrees) in scans that each show a part of the spine.

    A level leans as the mean of the lines to its neighbours does, so joints are seen through a window of three levels.
    """
    up = centroids[:, :-1] - centroids[:, 1:]
    up[np.linalg.norm(up, axis=2) > FARTHEST_MM] = np.nan
    lines = np.rad2deg(np.arctan2(-up[..., 1], up[..., 2]))
    lean = np.concatenate([(lines[:, :-1] + lines[:, 1:]) / 2, lines[:, -1:]], axis=1)  # C2 to L5
    joints = (lean[:, :-1] - lean[:, 1:])[:, 1:]  # from C3 on C4 to L4 on L5
    joints[np.abs(joints - np.nanmedian(joints, axis=0)) > STEEPEST_DEG] = np.nan
    return joints[np.isfinite(joints).sum(axis=1) >= 3]


def correlate(joints: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "m m"]:
    """Correlation of joints that rows show in part."""
    covariance = fit_gaussian(joints, MODES).covariance()
    sd = np.sqrt(np.diag(covariance))
    return covariance / np.outer(sd, sd)


def leave_one_out(joints: Float[np.ndarray, "n m"]) -> tuple[float, float]:
    """Tell each joint of a scan from its others, by a fit to all other scans: RMS misses (degrees), and the mean's."""
    told, plain = [], []
    for rank, row in enumerate(joints):
        fitted = fit_gaussian(np.delete(joints, rank, axis=0), MODES)
        for joint in np.flatnonzero(np.isfinite(row)):
            hidden = row.copy()
            hidden[joint] = np.nan
            told.append(row[joint] - fitted.inverse(fitted.transform(hidden))[joint])
            plain.append(row[joint] - fitted.mean[joint])
    return float(np.sqrt(np.mean(np.square(told)))), float(np.sqrt(np.mean(np.square(plain))))


def write_correlation(correlation: Float[np.ndarray, "m m"]) -> None:
    """Write the one thing that is kept of the centroids."""
    names = [f"{upper.name}-{lower.name}" for upper, lower in zip(LEVELS[:-1], LEVELS[1:-1], strict=False)]
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
    assert [parse_level(joint.split("-")[0]) for joint in joints] == list(LEVELS[:-2])  # noqa: S101
    return (found + found.T) / 2


def build_adult() -> tuple[PoseModel, Spine]:
    """The model, and the mean spine whose plates its angles are read with."""
    mean, count = published_spine(LEVELS), len(LEVELS)
    nod = add_up(joint_spread(read_correlation(), mean))
    turn = np.deg2rad(ROTATION_SD) ** 2 * fading(count)
    spread = Spread(np.deg2rad(TILT_SD) ** 2 * fading(count), nod, turn, np.zeros((count, count)), SIZE, JOINT_MM)
    return build_pose_model(mean, spread, CASES), mean


def joint_spread(correlation: Float[np.ndarray, "m m"], mean: Spine) -> Float[np.ndarray, "j j"]:
    """Covariance of the joints' forward turns (rad^2): correlated as in the scans, as near as published spreads leave.

    The joint on the sacrum, which the centroids do not show, begins without correlation.
    """
    first = {"cervical": CERVICAL_SD, "thoracic": CHEST_SD, "lumbar": LUMBAR_SD}
    sd = np.array([first[region(level)] for level in LEVELS[:-1]])
    whole = np.eye(len(sd))
    whole[:-1, :-1] = correlation
    rows = [row for row in read_published() if row["used"] in ("sd", "both")]
    weights = np.stack([sums_of(row, mean) for row in rows])
    spreads = np.array([float(row["sd_deg"]) for row in rows])
    return np.deg2rad(np.deg2rad(meet_spreads(whole * np.outer(sd, sd), weights, spreads)))


def read_published() -> list[dict[str, str]]:
    """Published angles of healthy people, a row each."""
    return read_rows(HERE / "published_alignment.csv")


def sums_of(row: dict[str, str], mean: Spine) -> Float[np.ndarray, " j"]:
    """Weights of the joints' forward turns that sum up to the change of a published angle."""
    if row["kind"] == "slope":  # what the sacrum leans, less what the line to C7 does, which is held upright
        line = _line_to_the_sacrum(mean)
        return -(line @ np.triu(np.ones((len(line), len(line) - 1))))
    upper, lower = (LEVELS.index(parse_level(row[end])) for end in ("upper", "lower"))
    ranks = np.arange(len(LEVELS) - 1)
    return 1.0 * ((ranks >= upper) & (ranks < lower))


def _line_to_the_sacrum(mean: Spine) -> Float[np.ndarray, " n"]:
    """Share that each level's lean has in the lean of the line from the sacrum to C7."""
    centres = np.array([mean[Level.S].superior.centre if v.level == Level.S else v.centre for v in mean])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1) * (np.arange(len(mean) - 1) >= LEVELS.index(Level.C7))
    shares = (np.append(steps, 0.0) + np.append(0.0, steps)) / 2
    return shares / shares.sum()


def score(model: PoseModel, anatomy: Spine, count: int) -> list[tuple[str, ...]]:
    """Draw spines and hold their angles against published ones: quantity, published, model, within."""
    chains = model.sample(count, np.eye(4), rng=np.random.default_rng(1))
    posture = measure_posture(anatomy, np.stack([chain.poses() for chain in chains]))
    rows: list[tuple[str, ...]] = [
        _held(row, _angles(row, posture, anatomy[Level.S].depth_mm)) for row in read_published()
    ]
    first, last = np.triu_indices(len(LEVELS) - 1, 1)
    tilt = np.rad2deg(posture.coronal[:, :-1].mean(axis=2))
    cobb = np.abs(tilt[:, last] - tilt[:, first]).max(axis=1)
    straight = float(np.quantile(cobb, 0.95))
    return [*rows, ("largest coronal angle, 95 % quantile (deg)", "below 10 (healthy)", f"{straight:.1f}", "")]


def _angles(row: dict[str, str], posture: Posture, depth_mm: float) -> Float[np.ndarray, " b"]:
    """A published angle, as drawn spines have it (degrees).

    The slope of the sacrum is told from the line from the back of its plate to C7: the plumb line of who stands.
    """
    lean = np.rad2deg(posture.sagittal)
    upper, lower = (posture.rank(parse_level(row[end])) for end in ("upper", "lower"))
    if row["kind"] == "slope":
        tilt = posture.sagittal[:, lower, :1]
        up, forward = np.hstack([np.sin(tilt), np.cos(tilt)]), np.hstack([np.cos(tilt), -np.sin(tilt)])
        corner = posture.centres[:, lower, 1:] + PLATE_MM * up - depth_mm / 2 * forward
        line = posture.centres[:, posture.rank(Level.C7), 1:] - corner
        return lean[:, lower, 0] - np.rad2deg(np.arctan2(line[:, 0], line[:, 1]))
    kyphosis = lean[:, upper, 0] - lean[:, lower, 0 if row["kind"] == "segment" or row["lower"] == "S" else 1]
    return kyphosis if row["quantity"] == "kyphosis" else -kyphosis


def _held(row: dict[str, str], got: Float[np.ndarray, " b"]) -> tuple[str, ...]:
    """Hold a drawn angle against a published one: within a tenth of it, or within the standard error."""
    mean, sd, people = (float(row[column] or "nan") for column in ("mean_deg", "sd_deg", "n"))
    name = row["quantity"] if row["kind"] == "slope" else f"{row['quantity']} {row['upper']}-{row['lower']}"
    published = f"{mean:.1f}" + (f" +- {sd:.1f}" if np.isfinite(sd) else "")
    people_of = f"{row['population']}, n = {row['n']}, {row['position']}: {row['source']}, {row['confidence']}"
    drawn = f"{got.mean():.1f} +- {got.std():.1f}"
    return f"{name} (deg)", f"{published} ({people_of})", drawn, held(got, mean, sd, people)


if __name__ == "__main__":
    main()
