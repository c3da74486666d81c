"""Recipe of the model ``scoliosis``: T1 to L5 of adolescents with idiopathic scoliosis.

python -m spinesim.shape_models.build_scoliosis    writes scoliosis.npz, scoliosis_scores.csv and scoliosis.md's table
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import gaussian_filter1d
from scipy.stats import chisquare

from spinesim.anatomy.levels import Level, parse_level, region
from spinesim.anatomy.vertebra import Spine
from spinesim.pathology.bend import Bend, bend_spine
from spinesim.shape.chain import stack_joints
from spinesim.shape.constraints import Kyphosis, Posture, measure_posture
from spinesim.shape.latent import Mixture, facing_up, principal_gaussian, weighted_gaussian
from spinesim.shape.population import Spread, build_pose_model, meet_spreads
from spinesim.shape.pose_model import PoseModel

from .published import (  # noqa: TID251 - relative, as it must be
    HERE,
    add_up,
    compactness,
    fading,
    held,
    publish,
    published_spine,
    read_rows,
)

FILMS, COBB_QUANTILES_DEG = 607, {5: 11.6, 25: 24.8, 50: 37.2, 75: 50.6, 95: 70.5}
"""The films, and quantiles (%) of their major Cobb angles."""


@dataclass(frozen=True)
class Angle:
    """A published angle of a population seen from the side, from the upper plate of one level to the lower of another.

    Degrees; a lordosis is positive as one.
    """

    quantity: str
    upper: Level
    lower: Level
    mean_deg: float
    sd_deg: float

    @property
    def forward(self) -> int:
        """Whether joints that bend forward add to it (1) or take from it (-1)."""
        return -1 if self.quantity == "lordosis" else 1

    def read(self, posture: Posture) -> Float[np.ndarray, " b"]:
        """What spines have (degrees)."""
        return self.forward * np.rad2deg(Kyphosis(self.upper, self.lower, target=0.0).read(posture))


PATIENTS = 458
ANGLES = (
    Angle("kyphosis", Level.T1, Level.T12, 34.1, 17.1),
    Angle("kyphosis", Level.T4, Level.T12, 27.1, 18.8),
    Angle("kyphosis", Level.T5, Level.T12, 24.9, 15.8),
    Angle("lordosis", Level.L1, Level.L5, 46.4, 13.2),
)
"""Mean and SD of adolescents with idiopathic scoliosis, standing (Scoliosis Spinal Disord 2018 Table 2)."""

ROTATION_PER_COBB = {"thoracic": 0.28, "lumbar": 0.17}
"""Apical rotation per degree of Cobb, lying (Brink 2017, 62 patients, supine MRI)."""

NOD_DEG, ALONE_DEG = {"thoracic": 3.3, "lumbar": 4.0}, 2.0
"""Assumed: what a joint nods, and what of it its neighbours of the region do not share, before the sums of joints are
brought to their published spreads."""

ROTATION_REST_DEG, SIZE, JOINT_MM = 4.0, 0.06, 0.2
"""Assumed: rotation that no tilt explains; SD of the spine's length; rest of each number of a row."""

CALIBRATIONS, CALIBRATION_DRAWS = 3, 6000

KIND_DRAWS, KIND_MODES, KIND_FEWEST, KIND_MOST = 200_000, 49, 40, 0.0025
"""Spines that kinds are made of, modes of each, spines that a kind has at least, and share of the films that it has at
most, where there are spines enough to part it."""

SETTLINGS, SETTLING_DRAWS = 15, 1000
"""Times that the kinds' shares are mended, and spines drawn of each kind for it."""

SCORED = 20_000
"""Spines that are drawn to be held against what is published."""

TYPES = (*(f"Lenke {number}" for number in range(1, 7)), "proximal")

STRUCTURAL_DEG, STRUCTURAL_SHARE = 25.0, 0.7
"""A smaller curve counts as structural from this angle and share of the largest on (assumed: no films show bending)."""

PATTERNS = files("spinesim.pathology").joinpath("curve_patterns.csv")
"""How often the films have each apex, and where their curves begin and end, by size."""

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
    """What is measured on drawn spines: the major curve (its angle is negative when convex to the left) and angles."""

    levels: tuple[Level, ...]
    cobb_deg: Float[np.ndarray, " b"]
    apex: Int[np.ndarray, " b"]
    ends: Int[np.ndarray, "b 2"]
    tilt_rad: Float[np.ndarray, "b n"]
    angles_deg: Float[np.ndarray, "k b"]
    apical_turn_deg: Float[np.ndarray, " b"]

    def mode_shares(self) -> Float[np.ndarray, " 4"]:
        """Shares of variance (%) of the first four coronal modes, each spine's own mean tilt removed."""
        return _mode_shares(np.cov((self.tilt_rad - self.tilt_rad.mean(axis=1, keepdims=True)).T))

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
    model = replace(model, mixture=find_kinds(model, anatomy))
    publish("scoliosis", model, score(model, anatomy, SCORED))


def read_tilts() -> tuple[tuple[Level, ...], Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """Levels, and mean (rad) and covariance (rad^2) of their tilts."""
    rows = read_rows(HERE / "coronal_tilts.csv")
    levels = tuple(parse_level(row["level"]) for row in rows)
    mean = np.deg2rad([float(row["mean_tilt_deg"]) for row in rows])
    covariance = np.array([[float(row[f"cov_{level.name}"]) for level in levels] for row in rows])
    return levels, mean, np.deg2rad(np.deg2rad((covariance + covariance.T) / 2))


def build_scoliosis() -> tuple[PoseModel, Spine]:
    """The model, and the mean spine whose plates its angles are read with.

    Bent and turned spines show other angles from the side than their mean does, these vary more than the joints' nods
    do, and spines show less rotation than they were given: what drawn spines miss of the published numbers is added to
    the aim, and the model is built again.
    """
    levels, tilt_mean, tilt = read_tilts()
    spine = published_spine(levels)
    rest = np.deg2rad(ROTATION_REST_DEG) ** 2 * fading(len(levels))
    means, spreads = [angle.mean_deg for angle in ANGLES], [angle.sd_deg for angle in ANGLES]
    wanted = np.array([*means, *spreads, *ROTATION_PER_COBB.values()])
    aim = wanted.copy()
    for _ in range(CALIBRATIONS):
        means_deg, spreads_deg, ratios = np.split(aim, [len(ANGLES), 2 * len(ANGLES)])
        joints = _joint_spread(levels, spreads_deg)
        turn_per_tilt = _turn_per_tilt(levels, tilt_mean, tilt, dict(zip(ROTATION_PER_COBB, ratios, strict=True)))
        still = np.zeros(len(levels))
        bend = Bend(tilt_mean, _nod_to(spine, means_deg, joints), turn_per_tilt @ tilt_mean, still, still)
        mean = bend_spine(spine, bend).moved
        model = build_pose_model(mean, Spread(tilt, add_up(joints), rest, turn_per_tilt, SIZE, JOINT_MM), FILMS)
        drawn = draw(model, mean, CALIBRATION_DRAWS, seed=2)
        got = drawn.angles_deg.mean(axis=1), drawn.angles_deg.std(axis=1), list(drawn.rotation_per_cobb().values())
        aim += wanted - np.concatenate(got)
    return model, mean


def find_kinds(model: PoseModel, anatomy: Spine) -> Mixture:
    """Part the Gaussian into Lenke's types and the films' classes of size, in the films' proportions.

    Spines are drawn from it and weighed so that size and apex of their largest curves come as often as in the films.
    Those of one type, class, apex and side are a kind, or several of the same name where they are many; a kind has its
    own mean, and those of one class share what is left (a tied mixture). Mending the shares changes how far the means
    lie apart: what the whole varies less by then is given to what is left, so that it varies as the weighed spines do.
    """
    rows = model.gaussian.sample(KIND_DRAWS, rng=np.random.default_rng(3))
    tilts = tilt_plates(model, anatomy, rows)
    found = classify(model.levels, tilts)
    weights = _film_weights(model.levels, found)
    names, shares, kinds = [], [], []
    for size in range(len(SIZES)):
        parts = _parts_of(size, model.levels, tilts.mean(axis=2), found, weights / weights.sum())
        means = [rows[part].mean(axis=0) for _, part in parts]
        about = np.concatenate([rows[part] - mean for (_, part), mean in zip(parts, means, strict=True)])
        within = weighted_gaussian(about, np.concatenate([weights[part] for _, part in parts]), KIND_MODES)
        names += [name for name, _ in parts]
        shares += [weights[part].sum() for _, part in parts]
        kinds += [replace(within, mean=mean) for mean in means]
    mixture = Mixture(tuple(names), np.array(shares) / sum(shares), tuple(kinds))
    drawn = [kind.sample(SETTLING_DRAWS, rng=np.random.default_rng((10, rank))) for rank, kind in enumerate(kinds)]
    falls = [classify(model.levels, tilt_plates(model, anatomy, rows)) for rows in drawn]
    settled = replace(mixture, shares=settle(mixture.shares, falls, found, weights))
    return widen(settled, mixture.covariance() - settled.covariance())


def tilt_plates(model: PoseModel, anatomy: Spine, rows: Float[np.ndarray, "b d"]) -> Float[np.ndarray, "b n 2"]:
    """Tilts of the upper and lower plates of spines seen from the front (rad)."""
    return measure_posture(anatomy, stack_joints(model.decode(rows), np.eye(4))).coronal


def classify(levels: Sequence[Level], tilts: Float[np.ndarray, "b n 2"]) -> Int[np.ndarray, "b 4"]:
    """Lenke's type (rank), size (rank), apex (rank) and side (1: convex to the right) of spines' largest curves."""
    upper, lower, cobb = _largest_between_plates(tilts)
    apex = _most_level(tilts.mean(axis=2), upper, lower)
    size = np.searchsorted([low for low, *_ in SIZES], np.abs(np.rad2deg(cobb)), side="right") - 1
    lenke = [TYPES.index(_lenke(levels, *one)) for one in zip(tilts, upper, lower, np.abs(cobb), apex, strict=True)]
    return np.stack([np.array(lenke), size, apex, cobb > 0], axis=1)


def _parts_of(
    size: int,
    levels: Sequence[Level],
    tilts: Float[np.ndarray, "b n"],
    found: Int[np.ndarray, "b 4"],
    shares: Float[np.ndarray, " b"],
) -> list[tuple[str, Int[np.ndarray, " n"]]]:
    """Kinds of one size: what each is called, and the ranks of its spines."""
    of_size = (found[:, 1] == size) & (shares > 0)
    low, high, *_ = SIZES[size]
    parts = []
    for lenke, _, apex, right in np.unique(found[of_size], axis=0):
        here = np.flatnonzero(of_size & (found == (lenke, size, apex, right)).all(axis=1))
        name = f"{TYPES[lenke]}, {low:g}-{high:g} degrees, {levels[apex].name} {'right' if right else 'left'}"
        if len(here) >= KIND_FEWEST:
            parts += [(name, here[part]) for part in halve(tilts[here], shares[here].sum())]
    return parts


def halve(tilts: Float[np.ndarray, "b n"], share: float) -> list[Int[np.ndarray, " n"]]:
    """Halve spines along the widest direction of their tilts until no part has more than its share: their ranks."""
    if share <= KIND_MOST or len(tilts) < 2 * KIND_FEWEST:
        return [np.arange(len(tilts))]
    off = tilts - tilts.mean(axis=1, keepdims=True)
    off = off - off.mean(axis=0)
    widest = facing_up(np.linalg.eigh(off.T @ off)[1][:, -1:])
    halves = np.array_split(np.argsort((off @ widest)[:, 0], kind="stable"), 2)
    return [half[part] for half in halves for part in halve(tilts[half], share / 2)]


def settle(
    shares: Float[np.ndarray, " k"],
    drawn: Sequence[Int[np.ndarray, "n 4"]],
    films: Int[np.ndarray, "b 4"],
    weights: Float[np.ndarray, " b"],
) -> Float[np.ndarray, " k"]:
    """Give kinds the shares under which what is drawn of them is of each class as often as in the films.

    A kind scatters into the classes beside its own, so its share is not that of its class. Shares alone are mended by
    expectation and maximisation, and few times only, for it sharpens chance too (Lucy 1974, Astron J 79:745).

    Parameters
    ----------
    drawn : one array for each kind
        Classes of spines of the kind.
    films, weights : arrays
        Classes of spines, and how much each of them counts.
    """
    counted = weights > 0
    classes, which = np.unique(films[counted], axis=0, return_inverse=True)
    wanted = np.bincount(which.ravel(), weights[counted]) / weights.sum()
    falls = np.stack([(found[:, None] == classes).all(axis=2).mean(axis=0) for found in drawn])
    for _ in range(SETTLINGS):
        got = shares @ falls
        shares = shares * (falls @ np.divide(wanted, got, out=np.zeros_like(got), where=got > 0))
        shares = shares / shares.sum()
    return shares


def widen(mixture: Mixture, by: Float[np.ndarray, "d d"]) -> Mixture:
    """Let what is left in each kind vary by more, or by less where a covariance is negative, but not by less than 0."""
    tied = {id(kind.modes): principal_gaussian(kind.mean, kind.covariance() + by, KIND_MODES) for kind in mixture.kinds}
    return replace(mixture, kinds=tuple(replace(tied[id(kind.modes)], mean=kind.mean) for kind in mixture.kinds))


def _film_weights(levels: Sequence[Level], found: Int[np.ndarray, "b 4"]) -> Float[np.ndarray, " b"]:
    """Weights that give each class of size and apex the share that it has in the films."""
    rows = read_rows(PATTERNS)
    weights = np.zeros(len(found))
    for size, (_, _, films, its_class) in enumerate(SIZES):
        for row in (row for row in rows if row["major_cobb_class_deg"] == its_class):
            here = (found[:, 1] == size) & (found[:, 2] == levels.index(parse_level(row["apex_level"])))
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


def _nod_to(
    spine: Spine, means_deg: Float[np.ndarray, " k"], joints: Float[np.ndarray, "j j"]
) -> Float[np.ndarray, " n"]:
    """Forward lean of each level that gives a spine the published angles: the most probable one as its joints vary."""
    posture = measure_posture(spine, np.stack([v.world_from_vertebra for v in spine])[None])
    now = np.concatenate([angle.read(posture) for angle in ANGLES])
    forward = np.array([angle.forward for angle in ANGLES])
    weights = _sums(spine.levels)
    along = joints @ weights.T
    bends = along @ np.linalg.solve(weights @ along, forward * np.deg2rad(means_deg - now))
    return np.append(np.cumsum(bends[::-1])[::-1], 0.0)


def _joint_spread(levels: Sequence[Level], spreads_deg: Float[np.ndarray, " k"]) -> Float[np.ndarray, "j j"]:
    """Covariance of the joints' forward nods (rad^2) under which the published angles have these spreads.

    The nearest one to that of joints which vary with their neighbours of the region and alone.
    """
    parts = np.array([region(level) for level in levels[:-1]])
    nods = np.array([NOD_DEG[part] for part in parts])
    together = np.sqrt(nods**2 - ALONE_DEG**2)
    kernel = fading(len(parts)) * (parts[:, None] == parts)
    joints = np.outer(together, together) * kernel + ALONE_DEG**2 * np.eye(len(parts))
    return np.deg2rad(np.deg2rad(meet_spreads(joints, _sums(levels), spreads_deg)))


def _sums(levels: Sequence[Level]) -> Float[np.ndarray, "k j"]:
    """Which joints each published angle is the sum of."""
    ranks = np.arange(len(levels) - 1)
    ends = [(levels.index(angle.upper), levels.index(angle.lower)) for angle in ANGLES]
    return np.array([1.0 * ((ranks >= first) & (ranks < last)) for first, last in ends])


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
    tilts = posture.coronal.mean(axis=2)
    upper, lower, cobb = _largest_between_plates(posture.coronal)
    apex = _most_level(tilts, upper, lower)
    return Drawn(
        anatomy.levels,
        np.rad2deg(cobb),
        apex,
        np.stack([upper, lower], axis=1),
        tilts,
        np.stack([angle.read(posture) for angle in ANGLES]),
        np.rad2deg(posture.turned[np.arange(count), apex]),
    )


def score(model: PoseModel, anatomy: Spine, count: int) -> list[tuple[str, ...]]:
    """Hold drawn spines against the films and the papers: quantity, published, model, within."""
    drawn = draw(model, anatomy, count, seed=1)
    thoracic = drawn.apex < drawn.levels.index(Level.T12)
    return [
        *(
            _held(f"major Cobb, {share} % quantile (deg)", published, np.percentile(np.abs(drawn.cobb_deg), share))
            for share, published in COBB_QUANTILES_DEG.items()
        ),
        *(
            _held(f"share of coronal mode {rank + 1} (%)", *shares)
            for rank, shares in enumerate(zip(_mode_shares(read_tilts()[2]), drawn.mode_shares(), strict=True))
        ),
        *(_held_angle(angle, got) for angle, got in zip(ANGLES, drawn.angles_deg, strict=True)),
        *(
            _held(f"apical rotation per Cobb, {part}", ROTATION_PER_COBB[part], slope, "{:.2f}")
            for part, slope in drawn.rotation_per_cobb().items()
        ),
        _held("thoracic curves convex to the right (%)", 76, 100 * (drawn.cobb_deg[thoracic] > 0).mean(), "{:.0f}"),
        *_score_apices(film_apices(drawn.levels), np.bincount(drawn.apex, minlength=len(drawn.levels)), drawn.levels),
        *_score_ends(drawn),
        *compactness(model),
    ]


def _held(
    quantity: str, published: float, got: float, form: str = "{:.1f}", error: float = 0.0
) -> tuple[str, str, str, str]:
    """One number, within a tenth of what is published or its standard error."""
    within = abs(got - published) <= max(published / 10, error)
    return quantity, form.format(published), form.format(got), "yes" if within else "no"


def _held_angle(angle: Angle, got: Float[np.ndarray, " b"]) -> tuple[str, str, str, str]:
    """A published angle seen from the side."""
    name = f"{angle.quantity} {angle.upper.name}-{angle.lower.name} (deg)"
    published, drawn = f"{angle.mean_deg} +- {angle.sd_deg}", f"{got.mean():.1f} +- {got.std():.1f}"
    return name, published, drawn, held(got, angle.mean_deg, angle.sd_deg, PATIENTS)


def _score_apices(
    films: Float[np.ndarray, " n"], drawn: Int[np.ndarray, " n"], levels: Sequence[Level]
) -> list[tuple[str, ...]]:
    """How often each level is the apex of the largest curve, and whether films and drawn spines are told apart."""
    there, ours = films / films.sum(), drawn / drawn.sum()
    errors = np.sqrt(there * (1 - there) / films.sum())
    rows: list[tuple[str, ...]] = [
        _held(f"apex at {level.name} (% of major curves)", 100 * a, 100 * b, error=100 * error)
        for level, a, b, error in zip(levels, there, ours, errors, strict=True)
        if a
    ]
    seen = films >= 5
    found = chisquare(films[seen], ours[seen] / ours[seen].sum() * films[seen].sum())
    name = f"apices, chi-square ({seen.sum() - 1} free)"
    verdict = f"{'not ' if found.pvalue > 0.05 else ''}told apart at 5 %"
    return [*rows, (name, "", f"{found.statistic:.0f}", verdict)]


def _score_ends(drawn: Drawn) -> list[tuple[str, ...]]:
    """Where major curves of a size and an apex begin and end, by their medians, each as often as the films have it."""
    ours, films, counts = [], [], []
    for row in read_rows(PATTERNS):
        low, high = map(float, row["major_cobb_class_deg"].split("-"))
        size = (np.abs(drawn.cobb_deg) >= low) & (np.abs(drawn.cobb_deg) < high)
        here = size & (drawn.apex == drawn.levels.index(parse_level(row["apex_level"])))
        ours.append(np.median(drawn.ends[here], axis=0))
        films.append([drawn.levels.index(parse_level(row[f"{end}_end_median"])) for end in ("upper", "lower")])
        counts.append(FILMS_BY_CLASS[row["major_cobb_class_deg"]] * float(row["share"]))
    share = np.array(counts) / sum(counts)
    published, got = (share @ (1 + np.ptp(ends, axis=1)) for ends in (np.array(films), np.array(ours)))
    near = 100 * share @ (np.abs(np.array(ours) - films) <= 1).all(axis=1)
    return [
        _held("levels of major curves, mean of their medians by size and apex", published, got),
        ("films of whose size and apex both median ends are within one level (%)", "", f"{near:.0f}", ""),
    ]


def _mode_shares(tilt: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " 4"]:
    """Shares of variance (%) of the first four modes of the levels' tilts."""
    values = np.linalg.eigvalsh(tilt)[::-1]
    return 100 * values[:4] / values.sum()


def film_apices(levels: Sequence[Level]) -> Float[np.ndarray, " n"]:
    """Films whose major curve has its apex at each level."""
    counts = np.zeros(len(levels))
    for row in read_rows(PATTERNS):
        count = FILMS_BY_CLASS[row["major_cobb_class_deg"]] * float(row["share"])
        counts[levels.index(parse_level(row["apex_level"]))] += count
    return counts


if __name__ == "__main__":
    main()
