"""Recipe of the model ``scoliosis``: T1 to L5 of adolescents with idiopathic scoliosis.

python -m spinesim.shape_models.build_scoliosis    writes scoliosis.npz and scoliosis_scores.csv beside itself
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import cast

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.stats import chisquare

from spinesim.anatomy.levels import Level, parse_level, region
from spinesim.anatomy.vertebra import Spine
from spinesim.pathology.bend import Bend, bend_spine
from spinesim.shape.chain import stack_joints
from spinesim.shape.constraints import measure_posture
from spinesim.shape.latent import Mixture, weighted_gaussian
from spinesim.shape.population import Spread, build_pose_model
from spinesim.shape.pose_model import PoseModel

from .published import HERE, add_up, fading, published_spine, read_rows, ship  # noqa: TID251 - relative, as it must be

FILMS = 607
KYPHOSIS_T5_T12, LORDOSIS_L1_L5 = (24.9, 15.8), (46.4, 13.2)
"""Mean and SD of 458 adolescents with idiopathic scoliosis, standing (Scoliosis Spinal Disord 2018 Table 2)."""

LONGER_KYPHOSES = {Level.T1: "34.1 +- 17.1", Level.T4: "27.1 +- 18.8"}
"""The same down to T12 from levels farther up, told beside what the model draws; it is not built with them."""

ROTATION_PER_COBB = {"thoracic": 0.28, "lumbar": 0.17}
"""Apical rotation per degree of Cobb, lying (Brink 2017, 62 patients, supine MRI)."""

ROTATION_REST_DEG, JOINT_DEG, SIZE, JOINT_MM = 4.0, 2.0, 0.06, 0.2
"""Assumed: rotation that no tilt explains; what a joint varies on its own seen from the side; SD of the spine's length;
rest of each number of a row."""


CALIBRATIONS = 3

KIND_DRAWS, KIND_MODES, KIND_FEWEST, SETTLINGS = 60_000, 49, 40, 3
"""Spines that kinds are made of, modes of each, spines that a kind has at least, and times that shares are mended."""

STRUCTURAL_DEG, STRUCTURAL_SHARE = 25.0, 0.7
"""A smaller curve counts as structural from this angle and share of the largest on (assumed: no films show bending)."""

FILMS_BY_CLASS = {"10-25": 132, "25-40": 187, "40-60": 189, "60-100": 79}
"""Films in each class of major Cobb angle."""

SIZES = (
    (0.0, 15.0, 64.0, "10-25"),
    (15.0, 20.0, 44.0, "10-25"),
    (20.0, 25.0, 44.0, "10-25"),
    (25.0, 40.0, 187.0, "25-40"),
    (40.0, 60.0, 189.0, "40-60"),
    (60.0, 100.0, 79.0, "60-100"),
)
"""Sizes that kinds are told apart by: from, to (degrees), films, and the class whose apices they have.

The smallest class is parted evenly, and the films that are in no class are the smallest (both assumed).
"""


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is measured on drawn spines: the major curve's angle and apex (rank), negative when convex to the left."""

    levels: tuple[Level, ...]
    cobb_deg: Float[np.ndarray, " b"]
    apex: Int[np.ndarray, " b"]
    tilt_rad: Float[np.ndarray, "b n"]
    kyphosis_deg: Float[np.ndarray, " b"]
    longer_kyphoses_deg: Float[np.ndarray, "2 b"]
    lordosis_deg: Float[np.ndarray, " b"]
    apical_turn_deg: Float[np.ndarray, " b"]

    def rotation_per_cobb(self) -> dict[str, float]:
        """Slope of the apical rotation over the Cobb angle, through the origin, by region of the apex."""
        slopes = {}
        for part in ROTATION_PER_COBB:
            there = np.array([region(self.levels[rank]) == part for rank in self.apex])
            cobb = self.cobb_deg[there]
            slopes[part] = float(self.apical_turn_deg[there] @ cobb / (cobb @ cobb))
        return slopes


def main() -> None:
    """Build the model, write it, and score it against the films."""
    model, anatomy = build_scoliosis()
    model = settle(replace(model, mixture=find_kinds(model, anatomy)), anatomy)
    ship("scoliosis", model, score(model, anatomy, count=4000))


def read_tilts() -> tuple[tuple[Level, ...], Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """Levels, and mean (rad) and covariance (rad^2) of their tilts."""
    rows = read_rows(HERE / "coronal_tilts.csv")
    levels = tuple(parse_level(row["level"]) for row in rows)
    mean = np.deg2rad([float(row["mean_tilt_deg"]) for row in rows])
    covariance = np.array([[float(row[f"cov_{level.name}"]) for level in levels] for row in rows])
    return levels, mean, np.deg2rad(np.deg2rad((covariance + covariance.T) / 2))


def build_scoliosis() -> tuple[PoseModel, Spine]:
    """The model, and the mean spine whose plates its angles are read with.

    Bent and turned spines show other angles from the side than their mean does, and less rotation than they were given:
    what drawn spines miss of the published numbers is added to the aim, and the model is built again.
    """
    levels, tilt_mean, tilt = read_tilts()
    spine = published_spine(levels)
    rest = np.deg2rad(ROTATION_REST_DEG) ** 2 * fading(len(levels))
    wanted = np.array([KYPHOSIS_T5_T12[0], LORDOSIS_L1_L5[0], *ROTATION_PER_COBB.values()])
    aim = wanted.copy()
    for _ in range(CALIBRATIONS):
        turn_per_tilt = _turn_per_tilt(levels, tilt_mean, tilt, dict(zip(ROTATION_PER_COBB, aim[2:], strict=True)))
        still = np.zeros(len(levels))
        bend = Bend(tilt_mean, _nod_to(spine, *np.deg2rad(aim[:2])), turn_per_tilt @ tilt_mean, still, still)
        mean = bend_spine(spine, bend).moved
        spread = Spread(tilt, _nod_spread(levels), rest, turn_per_tilt, SIZE, JOINT_MM)
        model = build_pose_model(mean, spread, FILMS)
        drawn = draw(model, mean, 6000, seed=2)
        aim += wanted - [drawn.kyphosis_deg.mean(), drawn.lordosis_deg.mean(), *drawn.rotation_per_cobb().values()]
    return model, mean


def find_kinds(model: PoseModel, anatomy: Spine) -> Mixture:
    """Part the Gaussian into Lenke's types and the films' classes of size, in the films' proportions.

    Spines are drawn from it and weighed so that size and apex of their largest curves come as often as in the films. A
    kind has its own mean for each type, class, apex and side; those of one class share what is left (a tied mixture).
    """
    rows = model.gaussian.sample(KIND_DRAWS, rng=np.random.default_rng(3))
    posture = measure_posture(anatomy, stack_joints(model.decode(rows), np.eye(4)))
    upper, lower, cobb = _largest_between_plates(posture.coronal)
    apex = _most_level(posture.coronal.mean(axis=2), upper, lower)
    sizes = np.searchsorted([low for low, *_ in SIZES], np.abs(np.rad2deg(cobb)), side="right") - 1
    weights = _film_weights(model.levels, sizes, apex)
    types = np.array(
        [_lenke(model.levels, *one) for one in zip(posture.coronal, upper, lower, np.abs(cobb), apex, strict=True)]
    )
    kinds = {}
    for size, (low, high, _, _) in enumerate(SIZES):
        means = {}
        of_size = (sizes == size) & (weights > 0)
        for key in sorted(set(zip(types[of_size], apex[of_size], cobb[of_size] > 0, strict=True))):
            here = of_size & (types == key[0]) & (apex == key[1]) & ((cobb > 0) == key[2])
            if here.sum() >= KIND_FEWEST:
                means[key] = weights[here].sum(), np.average(rows[here], axis=0, weights=weights[here]), here
        about = np.concatenate([rows[here] - mean for _, mean, here in means.values()])
        within = weighted_gaussian(about, np.concatenate([weights[here] for *_, here in means.values()]), KIND_MODES)
        for (lenke, rank, right), (share, mean, _) in means.items():
            said = f"{lenke}, {low:g}-{high:g} degrees, {model.levels[rank].name} {'right' if right else 'left'}"
            kinds[said] = share, replace(within, mean=mean)
    shares = np.array([share for share, _ in kinds.values()])
    return Mixture(tuple(kinds), shares / shares.sum(), tuple(gaussian for _, gaussian in kinds.values()))


def settle(model: PoseModel, anatomy: Spine) -> PoseModel:
    """Give kinds more or less of the whole until drawn spines have their apices as often as the films."""
    films = film_apices(model.levels)
    for seed in range(SETTLINGS):
        mixture = cast(Mixture, model.mixture)
        drawn = np.bincount(draw(model, anatomy, 6000, seed=10 + seed).apex, minlength=len(films))
        ratio = np.where(films > 0, (films / films.sum()) / np.maximum(drawn / drawn.sum(), 1e-3), 1.0)
        apex = [model.levels.index(parse_level(name.split(", ")[2].split()[0])) for name in mixture.names]
        shares = mixture.shares * ratio[apex]
        model = replace(model, mixture=replace(mixture, shares=shares / shares.sum()))
    return model


def _film_weights(levels: Sequence[Level], sizes: np.ndarray, apex: np.ndarray) -> Float[np.ndarray, " b"]:
    """Weights that give each class of size and apex the share that it has in the films."""
    rows = read_rows(files("spinesim.pathology").joinpath("curve_patterns.csv"))
    weights = np.zeros(len(sizes))
    for size, (_, _, films, its_class) in enumerate(SIZES):
        for row in (row for row in rows if row["major_cobb_class_deg"] == its_class):
            here = (sizes == size) & (apex == levels.index(parse_level(row["apex_level"])))
            weights[here] = films * float(row["share"]) / max(here.sum(), 1)
    return weights


def _lenke(
    levels: Sequence[Level], tilts: Float[np.ndarray, "n 2"], upper: int, lower: int, cobb: float, apex: int
) -> str:
    """Lenke's type of a spine (Lenke 2001), its structural curves told by their size."""
    enough = max(np.deg2rad(STRUCTURAL_DEG), STRUCTURAL_SHARE * cobb)
    angles = np.abs(tilts[None, :, 1] - tilts[:, None, 0])
    above = bool(upper >= 2 and np.triu(angles[: upper + 1, : upper + 1], 2).max() >= enough)
    below = bool(lower <= len(levels) - 3 and np.triu(angles[lower:, lower:], 2).max() >= enough)
    if levels[apex] >= Level.T12:
        return "Lenke 6" if above else "Lenke 5"
    if levels[apex] <= Level.T5:  # Lenke has no type whose largest curve is the proximal one
        return "proximal"
    return {(False, False): "Lenke 1", (True, False): "Lenke 2", (False, True): "Lenke 3"}.get(
        (above, below), "Lenke 4"
    )


def _largest_between_plates(tilts: Float[np.ndarray, "b n 2"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks of the end levels of the largest curve of each spine and its angle, as ``find_curves`` measures it."""
    first, last = np.triu_indices(tilts.shape[1], 2)
    angles = tilts[:, last, 1] - tilts[:, first, 0]
    pair = np.abs(angles).argmax(axis=1)
    return first[pair], last[pair], angles[np.arange(len(tilts)), pair]


def _nod_to(spine: Spine, kyphosis: float, lordosis: float) -> Float[np.ndarray, " n"]:
    """Forward lean of each level that gives a spine two sagittal angles: the same from every joint of a region."""
    levels, nod = spine.levels, np.zeros(len(spine))
    posture = measure_posture(spine, np.stack([v.world_from_vertebra for v in spine])[None])
    lean = posture.sagittal[0]
    now = {
        "thoracic": lean[levels.index(Level.T5), 0] - lean[levels.index(Level.T12), 1],
        "lumbar": lean[levels.index(Level.L1), 0] - lean[levels.index(Level.L5), 1],
    }
    more = {"thoracic": (kyphosis - now["thoracic"]) / 7, "lumbar": (-lordosis - now["lumbar"]) / 4}
    for rank in reversed(range(len(levels) - 1)):
        nod[rank] = nod[rank + 1] + more[region(levels[rank])]
    return nod


def _nod_spread(levels: Sequence[Level]) -> Float[np.ndarray, "n n"]:
    """Covariance of the levels' forward leans: of joints that vary with their neighbours of the region and alone."""
    parts = [region(level) for level in levels[:-1]]
    kernel, alone = fading(len(parts)), np.deg2rad(JOINT_DEG) ** 2
    joints = np.zeros_like(kernel)
    wanted = {
        "thoracic": (KYPHOSIS_T5_T12[1], Level.T5, Level.T12),
        "lumbar": (LORDOSIS_L1_L5[1], Level.L1, Level.L5),
    }
    for part, (sd, first, last) in wanted.items():
        here = np.array([part == other for other in parts])
        span = slice(levels.index(first), levels.index(last))
        length = span.stop - span.start
        scale = (np.deg2rad(sd) ** 2 - length * alone) / kernel[span, span].sum()
        joints += np.outer(here, here) * scale * kernel
    joints += alone * np.eye(len(parts))
    return add_up(joints)


def _turn_per_tilt(
    levels: Sequence[Level], mean: Float[np.ndarray, " n"], tilt: Float[np.ndarray, "n n"], ratios: Mapping[str, float]
) -> Float[np.ndarray, "n n"]:
    """Levels turn to the convexity as the column bends: smoothed slope of the tilt, scaled to apical ratios."""
    bend = gaussian_filter1d(np.gradient(np.eye(len(levels)), axis=0), 1.0, axis=0, mode="nearest")
    rng = np.random.default_rng(0)
    tilts = rng.multivariate_normal(mean, tilt, 4000)
    upper, lower, cobb = _largest(tilts)
    apex = _most_level(tilts, upper, lower)
    bent = (tilts @ bend.T)[np.arange(len(tilts)), apex]
    scale = np.empty(len(levels))
    for part, ratio in ratios.items():
        there = np.array([region(levels[rank]) == part for rank in apex])
        slope = (bent[there] @ cobb[there]) / (cobb[there] @ cobb[there])
        scale[[region(level) == part for level in levels]] = ratio / slope
    return scale[:, None] * bend


def _largest(tilts: Float[np.ndarray, "b n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks of the end levels of the largest curve of each spine, and its angle, positive when convex to the right."""
    first, last = np.triu_indices(tilts.shape[1], 1)
    angles = tilts[:, last] - tilts[:, first]
    pair = np.abs(angles).argmax(axis=1)
    return first[pair], last[pair], angles[np.arange(len(tilts)), pair]


def _most_level(tilts: Float[np.ndarray, "b n"], upper: np.ndarray, lower: np.ndarray) -> Int[np.ndarray, " b"]:
    """Rank of the level within each curve whose tilt is nearest to the mean of its ends: the apex, as a vertebra."""
    spine = np.arange(len(tilts))
    middle = (tilts[spine, upper] + tilts[spine, lower]) / 2
    ranks = np.arange(tilts.shape[1])
    inside = (ranks >= upper[:, None]) & (ranks <= lower[:, None])
    return np.where(inside, np.abs(tilts - middle[:, None]), np.inf).argmin(axis=1)


def draw(model: PoseModel, anatomy: Spine, count: int, seed: int) -> Drawn:
    """Draw spines and measure them, their largest curve as ``find_curves`` does."""
    chains = model.sample(count, np.eye(4), rng=np.random.default_rng(seed))
    posture = measure_posture(anatomy, np.stack([chain.poses() for chain in chains]))
    rank, tilts = posture.rank, posture.coronal.mean(axis=2)
    upper, lower, cobb = _largest_between_plates(posture.coronal)
    apex = _most_level(tilts, upper, lower)
    lean = np.rad2deg(posture.sagittal)
    return Drawn(
        anatomy.levels,
        np.rad2deg(cobb),
        apex,
        tilts,
        lean[:, rank(Level.T5), 0] - lean[:, rank(Level.T12), 1],
        np.stack([lean[:, rank(upper), 0] - lean[:, rank(Level.T12), 1] for upper in LONGER_KYPHOSES]),
        lean[:, rank(Level.L5), 1] - lean[:, rank(Level.L1), 0],
        np.rad2deg(posture.turned[np.arange(count), apex]),
    )


def score(model: PoseModel, anatomy: Spine, count: int) -> list[tuple[str, str, str]]:
    """Hold drawn spines against the films and the papers: quantity, published, model."""
    drawn = draw(model, anatomy, count, seed=1)
    shares = (5, 25, 50, 75, 95)
    quantiles = np.percentile(np.abs(drawn.cobb_deg), shares)
    rows = [
        (f"major Cobb, {share} % quantile (deg)", published, f"{got:.1f}")
        for share, published, got in zip(shares, ("11.6", "24.8", "37.2", "50.6", "70.5"), quantiles, strict=True)
    ]
    values = np.linalg.eigvalsh(np.cov((drawn.tilt_rad - drawn.tilt_rad.mean(axis=1, keepdims=True)).T))[::-1]
    rows += [
        (f"share of coronal mode {rank + 1} (%)", published, f"{100 * values[rank] / values.sum():.0f}")
        for rank, published in enumerate(("45", "35", "11", "5"))
    ]
    for name, (mean, sd), got in (
        ("kyphosis T5-T12 (deg)", KYPHOSIS_T5_T12, drawn.kyphosis_deg),
        ("lordosis L1-L5 (deg)", LORDOSIS_L1_L5, drawn.lordosis_deg),
    ):
        rows.append((name, f"{mean} +- {sd}", f"{got.mean():.1f} +- {got.std():.1f}"))
    for (upper, published), got in zip(LONGER_KYPHOSES.items(), drawn.longer_kyphoses_deg, strict=True):
        rows.append((f"kyphosis {upper.name}-T12 (deg, not used)", published, f"{got.mean():.1f} +- {got.std():.1f}"))
    for part, slope in drawn.rotation_per_cobb().items():
        rows.append((f"apical rotation per Cobb, {part}", f"{ROTATION_PER_COBB[part]}", f"{slope:.2f}"))
    thoracic = drawn.apex < drawn.levels.index(Level.T12)
    rows.append(("thoracic curves convex to the right (%)", "76", f"{100 * (drawn.cobb_deg[thoracic] > 0).mean():.0f}"))
    films = film_apices(drawn.levels)
    ours = np.bincount(drawn.apex, minlength=len(films)) / count
    rows += [
        (f"apex at {level.name} (% of major curves)", f"{100 * a / films.sum():.1f}", f"{100 * b:.1f}")
        for level, a, b in zip(drawn.levels, films, ours, strict=True)
        if a
    ]
    seen = films >= 5
    expected = ours[seen] / ours[seen].sum() * films[seen].sum()
    statistic = chisquare(films[seen], expected).statistic
    rows.append((f"apices, chi-square ({seen.sum() - 1} free)", "", f"{statistic:.0f}"))
    return rows


def film_apices(levels: Sequence[Level]) -> Float[np.ndarray, " n"]:
    """Films whose major curve has its apex at each level."""
    counts = np.zeros(len(levels))
    for row in read_rows(files("spinesim.pathology").joinpath("curve_patterns.csv")):
        count = FILMS_BY_CLASS[row["major_cobb_class_deg"]] * float(row["share"])
        counts[levels.index(parse_level(row["apex_level"]))] += count
    return counts


if __name__ == "__main__":
    main()
