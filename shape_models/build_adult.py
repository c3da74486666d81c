"""Recipe of the model ``adult``: C3 to S of healthy adults.

python -m spinesim.shape_models.build_adult                      writes adult.npz, its scores and its card's tables
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
from spinesim.anatomy.measure import measure_discs, sagittal_angle
from spinesim.anatomy.vertebra import Spine
from spinesim.shape.chain import Chain, pose_spine, stack_joints
from spinesim.shape.constraints import Posture, measure_posture
from spinesim.shape.latent import fit_gaussian
from spinesim.shape.population import Spread, build_pose_model, meet_spreads
from spinesim.shape.pose_model import PoseModel

from .alignment import (  # noqa: TID251 - relative, as it must be
    Row,
    angles_of,
    greatest_of,
    landmarks_of,
    name_of,
    numbers_of,
    read_published,
    sums_of,
)
from .compromise import find_mean, nearest, read_means  # noqa: TID251 - relative, as it must be
from .published import (  # noqa: TID251 - relative, as it must be
    HERE,
    SCORES,
    add_up,
    compactness,
    fading,
    held,
    publish,
    published_spine,
    read_rows,
    render,
)

LEVELS = tuple(level for level in USUAL if Level.C3 <= level <= Level.S)
CASES = 193
"""Scans that the correlations are of; the spreads are of others."""

CHEST_SD = 3.5
"""What a thoracic joint nods before its sums are brought to their published spreads (12.7 degrees from T1 to T12)."""

CERVICAL_SD, LUMBAR_SD, TILT_SD, ROTATION_SD, SIZE, JOINT_MM = 4.0, 5.0, 1.3, 1.5, 0.05, 0.2
"""Assumed: what a cervical joint nods, and a lumbar one before its published spread is given to it; tilt and axial
rotation of a level (coronal curves stay below 10 degrees); SD of the spine's length; rest of each number of a row."""

CONTRADICTS = ("mean (deg)", "published (within)", "where spines keep", "nearest that they come", "held there by")
WEDGES = ("level", "body: lower in front by (deg)", "disc below: higher in front by (deg)")
PROFILE = SCORES
"""Heads of the card's further tables."""

GREATEST = (
    ("kyphosis", 53.8, 10.1, 149, "Boulay 2006 Eur Spine J 15:415-422"),
    ("lordosis", 60.0, 10.0, 300, "Vialle 2005 J Bone Joint Surg Am 87:260-267"),
    ("lordosis", 66.4, 9.5, 149, "Boulay 2006 Eur Spine J 15:415-422"),
)
"""Published greatest angles between any two plates: mean and SD (degrees), people, source. None is aimed at."""

PLACES = (
    ("apex of the kyphosis", "T7", (Level.T6, Level.T9)),
    ("apex of the lordosis", "L4", (Level.L3, Level.L4)),
    ("inflection", "T12-L1", (Level.T11, Level.L3)),
)
"""Where textbooks have apices and inflection of a standing spine, and between which levels they are usual."""

DRAWN = 4000
"""Spines that are held against what is published, half of them the others' opposites."""

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
    scores = score(model, anatomy, DRAWN)
    more = (
        count_met(scores),
        render(CONTRADICTS, contradict(model, anatomy)),
        render(WEDGES, wedges_of(stand(model, anatomy))),
        render(PROFILE, profile_of(model, anatomy)),
    )
    publish("adult", model, scores, more)


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
    sd, count = joint_sd_deg(), len(LEVELS)
    mean = find_mean(published_spine(LEVELS), rows_for("mean"), sd)
    nod = add_up(joint_spread(read_correlation(), sd, mean))
    turn = np.deg2rad(ROTATION_SD) ** 2 * fading(count)
    spread = Spread(np.deg2rad(TILT_SD) ** 2 * fading(count), nod, turn, np.zeros((count, count)), SIZE, JOINT_MM)
    return build_pose_model(mean, spread, CASES), mean


def rows_for(use: str) -> list[Row]:
    """The published rows whose mean (``mean``) or spread (``sd``) the model is built with."""
    return [row for row in read_published() if row["used"] in (use, "both")]


def joint_sd_deg() -> Float[np.ndarray, " j"]:
    """What each joint nods before published spreads are given to sums, from the head down."""
    first = {"cervical": CERVICAL_SD, "thoracic": CHEST_SD, "lumbar": LUMBAR_SD}
    return np.array([first[region(level)] for level in LEVELS[:-1]])


def joint_spread(
    correlation: Float[np.ndarray, "m m"], sd_deg: Float[np.ndarray, " j"], mean: Spine
) -> Float[np.ndarray, "j j"]:
    """Covariance of the joints' forward turns (rad^2): correlated as in the scans, as near as published spreads leave.

    The joint on the sacrum, which the centroids do not show, begins without correlation.
    """
    whole = np.eye(len(sd_deg))
    whole[:-1, :-1] = correlation
    rows = rows_for("sd")
    weights = np.stack([sums_of(row, mean) for row in rows])
    spreads = np.array([numbers_of(row)[1] for row in rows])
    return np.deg2rad(np.deg2rad(meet_spreads(whole * np.outer(sd_deg, sd_deg), weights, spreads)))


def score(model: PoseModel, anatomy: Spine, count: int) -> list[tuple[str, ...]]:
    """Draw spines and hold their angles against published ones: quantity, published, model, within."""
    posture = _draw(model, anatomy, count)
    depth = anatomy[Level.S].depth_mm
    rows: list[tuple[str, ...]] = [_held(row, angles_of(row, posture, depth)) for row in read_published()]
    first, last = np.triu_indices(len(LEVELS) - 1, 1)
    tilt = np.rad2deg(posture.coronal[:, :-1].mean(axis=2))
    cobb = np.abs(tilt[:, last] - tilt[:, first]).max(axis=1)
    straight = float(np.quantile(cobb, 0.95))
    rows.append(("largest coronal angle, 95 % quantile (deg)", "below 10 (healthy)", f"{straight:.1f}", ""))
    return [*rows, *compactness(model)]


def _draw(model: PoseModel, anatomy: Spine, count: int) -> Posture:
    """Draw spines, each with its opposite, so that their means are not left to chance."""
    half = model.gaussian.sample(count // 2, rng=np.random.default_rng(1))
    joints = model.decode(np.concatenate([half, 2 * model.gaussian.mean - half]))
    return measure_posture(anatomy, stack_joints(joints, np.eye(4)))


def _held(row: Row, got: Float[np.ndarray, " b"]) -> tuple[str, ...]:
    """Hold a drawn angle against a published one: within a tenth of it, or within the standard error."""
    mean, sd, people = numbers_of(row)
    published = f"{mean:.1f}" + (f" +- {sd:.1f}" if np.isfinite(sd) else "")
    people_of = f"{row['population']}, n = {row['n']}, {row['position']}: {row['source']}, {row['confidence']}"
    drawn = f"{got.mean():.1f} +- {got.std():.1f}"
    return f"{name_of(row)} (deg)", f"{published} ({people_of})", drawn, held(got, mean, sd, people)


def count_met(scores: Sequence[Sequence[str]]) -> str:
    """How many of the rows of standing people are met, in a sentence."""
    words = [row[-1] for row in scores if ", standing:" in row[1]]
    means, sds = (
        f"{sum(f'{what} yes' in row for row in words)} of {sum(what in row for row in words)}"
        for what in ("mean", "SD")
    )
    return f"Of standing people {means} means and {sds} SDs are within.\n"


def stand(model: PoseModel, anatomy: Spine) -> Spine:
    """The mean spine of the model."""
    return pose_spine(anatomy, Chain(model.levels, model.mean, np.eye(4)))


def profile_of(model: PoseModel, anatomy: Spine) -> list[tuple[str, ...]]:
    """What is told of whole curves: their greatest angles in drawn spines, apices and inflection of the mean spine."""
    posture = _draw(model, anatomy, DRAWN)
    rows: list[tuple[str, ...]] = []
    for quantity, mean, sd, people, source in GREATEST:
        got = greatest_of(quantity, posture)
        published = f"{mean:.1f} +- {sd:.1f} (healthy adults, n = {people}, standing: {source}, recalled)"
        within = held(got, mean, sd, people)
        rows.append((f"greatest {quantity} (deg)", published, f"{got.mean():.1f} +- {got.std():.1f}", within))
    found = landmarks_of(stand(model, anatomy))
    for (name, usual, (first, last)), level in zip(PLACES, found.values(), strict=True):
        within = "yes" if first <= level <= last else "no"
        rows.append((name, f"{usual} ({first.name} to {last.name}; textbooks, recalled)", level.name, within))
    return rows


def wedges_of(mean: Spine) -> list[tuple[str, ...]]:
    """Wedges of bodies and discs from the side: the rows of a table."""
    bodies = [sagittal_angle(mean, v.level, v.level) for v in mean.vertebrae[:-1]]
    return [
        (v.level.name, f"{np.rad2deg(body):.1f}", f"{np.rad2deg(disc.sagittal_wedge):.1f}")
        for v, body, disc in zip(mean.vertebrae, bodies, measure_discs(mean), strict=False)
    ]


def contradict(model: PoseModel, anatomy: Spine) -> list[tuple[str, ...]]:
    """Means that are aimed at and not met, and why: the rows of a table.

    First how near to each of them any spine of these bodies comes that keeps all that are met; then each that is met
    and could be given up instead, how near to it spines come that keep all others.
    """
    means = read_means(rows_for("mean"), stand(model, anatomy))
    met = np.abs(means.misses(np.zeros(means.sums.shape[1]))) <= 1
    rows: list[tuple[str, ...]] = []
    for rank in (*np.flatnonzero(~met), *np.flatnonzero(met)):
        others = np.arange(len(met)) != rank
        bound = nearest(means, rank, others if met[rank] else met)
        if bound is not None:
            low, high = means.aims[rank] + np.array([-1, 1]) * means.tolerances[rank]
            wanted = f"{means.aims[rank]:.1f} ({low:.1f} to {high:.1f})"
            kept = "all others" if met[rank] else "all that are met"
            rows.append((means.names[rank], wanted, kept, f"{bound.angle_deg:.1f}", ", ".join(bound.holding)))
    return rows


if __name__ == "__main__":
    main()
