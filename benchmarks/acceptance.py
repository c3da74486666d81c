"""Ask the planner of curves for a thousand spines of every Lenke type, and hold them against the request and the rules.

README.md beside it says how to read it.

python benchmarks/acceptance.py [--count 1000] [--vertebral-share 0.4] [--sacrum] [--out rows.csv]
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

import spinesim
from spinesim.anatomy.curves import coronal_tilt, find_curves
from spinesim.anatomy.levels import Level, region
from spinesim.anatomy.measure import measure_discs, measure_spine
from spinesim.anatomy.vertebra import Spine, Vertebra
from spinesim.errors import PathologyError
from spinesim.pathology.curve import curve_at
from spinesim.pathology.proposal import goals_of, propose, read_goals
from spinesim.shape.chain import Chain, measure_chain, pose_spine
from spinesim.shape.shipped import read_shipped_model

APICES = {"PT": ("T3", "T4"), "MT": ("T7", "T8", "T9"), "TL": ("T12", "L1", "L2")}
TYPES = {1: ("MT",), 2: ("MT", "PT"), 3: ("MT", "TL"), 4: ("MT", "PT", "TL"), 5: ("TL",), 6: ("TL", "MT")}
"""Structural curves of the Lenke types, the largest first (Lenke 2001, J Bone Joint Surg Am 83:1169)."""

SMALLER = (0.5, 0.8)
"""Size of the other structural curves, as a share of the largest (assumed)."""

DISC_SPREAD, DISC_SHARED = 0.2, 0.8
"""Standard deviation of a disc's height as a share of it (Clouthier 2023, Shin 2024), and what share of the variance
a person's discs have in common (assumed, as for sizes)."""

COBB_DEG = (10.0, 70.0)

FLEXION_DEG = {"cervical": 9.0, "thoracic": 5.0, "lumbar": 16.0, "sacral": 24.0}
FLEXION_DEG |= {"T7": 7.0, "T8": 8.0, "T9": 8.0, "T10": 8.0, "T11": 14.0, "T12": 20.0}
FLEXION_DEG |= {"T1": 9.0, "L1": 20.0, "L3": 18.0, "L4": 17.0, "L5": 21.0}
"""Flexion or extension of a joint from its own neutral place, by its lower level (White & Panjabi 1990, high range)."""

TWIST_DEG = {"cervical": 11.0, "thoracic": 11.0, "lumbar": 5.0, "sacral": 5.0}
"""Axial rotation of a joint in scoliosis (White & Panjabi 1990, Pearcy 1984)."""

SLIDE_MM = {"cervical": 3.5, "thoracic": 2.5, "lumbar": 4.5, "sacral": 4.5}
"""Translation of a joint (White & Panjabi 1990)."""

LOWEST_MM = {"cervical": 1.5, "thoracic": 1.0, "lumbar": 2.0, "sacral": 2.0}
HIGHEST_MM = {"cervical": 8.0, "thoracic": 9.0, "lumbar": 16.0, "sacral": 16.0}
"""Disc heights (Fletcher 2015, Clouthier 2023; Zhang 2018)."""

DISC_WEDGE_DEG = {"cervical": 10.0, "thoracic": 10.0, "lumbar": 15.0, "sacral": 15.0}
"""Usual coronal wedge of a disc in scoliosis (spread of the shares in Ding 2011)."""

WEDGE_DEG, LENGTHENING = 16.0, 2.0
"""Coronal wedge of a vertebra (Okuwaki 2023), and what a bend may add to the length of the centre line in percent."""

ROUNDING = 0.05
"""A rule is broken by more than this (degrees, mm, percent)."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the requests, plan them, and print what came of them by type."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="requests [1000]")
    parser.add_argument("--vertebral-share", type=float, default=0.0, help="share that bodies take by wedging [0]")
    parser.add_argument("--sacrum", action="store_true", help="spines down to the sacrum, which holds still [to L5]")
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")
    parser.add_argument("--out", type=Path, help="file for a row of each request")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    with ProcessPoolExecutor(options.workers) as pool:
        plan = partial(run, share=options.vertebral_share, lowest=Level.S if options.sacrum else Level.L5)
        rows = list(pool.map(plan, range(options.count), chunksize=8))
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    print(render(rows))
    print(f"{options.count} requests in {time.perf_counter() - start:.0f} s", file=sys.stderr)


def run(seed: int, share: float, lowest: Level = Level.L5) -> dict[str, object]:
    """One request on one healthy adult, drawn by a seed: what was asked, and what came of it."""
    rng = np.random.default_rng(seed)
    lenke = seed % 6 + 1
    spine, asked = draw_adult(lowest, rng), draw_request(lenke, share, rng)
    said = {"lenke": lenke, "cobb": asked.cobb_deg, "apex": asked.apex}
    said["also"] = " ".join(f"{curve.cobb_deg:g}@{curve.apex}" for curve in asked.also)
    try:
        proposal = propose(asked, spine, goals_of(asked), seed)
    except PathologyError as refusal:
        empty = {"off_deg": "", "apex_off": "", "variability": "", "broken": str(refusal), "told": ""}
        return said | {"outcome": "refused", **empty}
    measured = read_goals(asked, measure_spine(proposal.moved), measure_spine(spine))
    off = max(abs(measured[name] - value) for name, value in goals_of(asked).items())
    broken = "; ".join(broken_rules(spine, proposal.moved))
    told = "; ".join(told_rules(spine, proposal.moved, asked))
    outcome = "missed" if off > 1.0 else "broken" if broken else "met"
    taken = proposal.details["variability_taken"]
    numbers = {"off_deg": round(off, 3), "apex_off": round(apex_off(proposal.moved, asked), 2), "variability": taken}
    return said | {"outcome": outcome, **numbers, "broken": broken, "told": told}


def draw_request(lenke: int, share: float, rng: np.random.Generator) -> spinesim.Scoliosis:
    """A patient of a Lenke type, drawn from the shipped model."""
    largest, *others = TYPES[lenke]
    cobb = float(np.round(rng.uniform(*COBB_DEG), 1))
    also = tuple(
        {"cobb_deg": max(5.0, round(cobb * rng.uniform(*SMALLER), 1)), "apex": str(rng.choice(APICES[other]))}
        for other in others
    )
    apex = str(rng.choice(APICES[largest]))
    return spinesim.Scoliosis(cobb_deg=cobb, apex=apex, also=also, variability=1.0, vertebral_share=share)


def draw_adult(lowest: Level, rng: np.random.Generator) -> Spine:
    """A healthy adult from C7 down."""
    model = read_shipped_model("adult")
    (chain,) = model.sample(1, np.eye(4), rng=rng)
    size = length_of(chain.lower_from_upper) / length_of(model.mean)
    bones = Spine(tuple(grown(vertebra, size) for vertebra in anatomy()))
    chain = vary_discs(chain, bones, rng=rng.spawn(1)[0])
    return pose_spine(bones, chain.part(model.levels.index(Level.C7), model.levels.index(lowest)))


def length_of(joints: np.ndarray) -> float:
    """Length of the line through the centres of a chain's joints, mm."""
    return float(np.linalg.norm(joints[:, :3, 3], axis=1).sum())


def grown(vertebra: Vertebra, size: float) -> Vertebra:
    """A vertebra of a larger or smaller person: the model's longer spines have larger bones, not only higher discs."""
    own = vertebra.world_from_vertebra
    return vertebra.moved(own @ np.diag([size, size, size, 1.0]) @ np.linalg.inv(own))


def vary_discs(chain: Chain, bones: Spine, *, rng: np.random.Generator) -> Chain:
    """Draw how high a person's discs are."""
    heights = np.array([disc.height_mm for disc in measure_discs(pose_spine(bones, chain))])
    shared, own = rng.standard_normal(), rng.standard_normal(len(heights))
    higher = DISC_SPREAD * (np.sqrt(DISC_SHARED) * shared + np.sqrt(1 - DISC_SHARED) * own) * heights
    joints = chain.lower_from_upper.copy()
    joints[:, :3, 3] *= (1 + higher / np.linalg.norm(joints[:, :3, 3], axis=1))[:, None]
    return replace(chain, lower_from_upper=joints)


@cache
def anatomy() -> Spine:
    """The mean vertebrae of the shipped adults."""
    found = read_shipped_model("adult").anatomy
    if found is None:
        raise SystemExit("acceptance: expected plates in the model 'adult', got none; run its recipe again")
    return found


def apex_off(spine: Spine, asked: spinesim.Scoliosis) -> float:
    """How many levels the apex of the worst curve lies from where it was asked."""
    found, whole = find_curves(spine), [vertebra.level for vertebra in spine.whole]
    places = [np.mean([whole.index(level) for level in curve.apex_levels]) for curve in asked.curves]
    curves = [curve_at(found, curve.apex_levels, asked.side_of(curve)) for curve in asked.curves]
    return max(abs(curve.apex_position - place) for curve, place in zip(curves, places, strict=True) if curve)


def broken_rules(before: Spine, after: Spine) -> list[str]:
    """Hard rules of ``acceptance.csv`` that a planned spine breaks, read off its plates; its own excess is allowed."""
    readings = (
        ("flexion", turns_deg(before, after)[:, 0], limits(before, FLEXION_DEG)),
        ("axial rotation", turns_deg(before, after)[:, 2], limits(before, TWIST_DEG)),
        ("translation", slides_mm(before, after), limits(before, SLIDE_MM)),
        ("body penetration", -rim_gaps_mm(after), np.maximum(0.0, -rim_gaps_mm(before))),
        ("disc too low", -heights_mm(after), -np.minimum(limits(before, LOWEST_MM), heights_mm(before))),
        ("wedge of a vertebra", wedges_deg(after) - wedges_deg(before), np.full(len(before), WEDGE_DEG)),
        ("length in %", np.array([100 * (length_mm(after) / length_mm(before) - 1)]), np.array([LENGTHENING])),
    )
    return [exceeded for reading in readings for exceeded in _exceeded(before, *reading)]


def told_rules(before: Spine, after: Spine, asked: spinesim.Scoliosis) -> list[str]:
    """Soft rules of ``acceptance.csv`` that a planned spine breaks."""
    measures, own = measure_spine(after), measure_discs(before)
    wedges, native = (np.array([np.rad2deg(disc.coronal_wedge) for disc in discs]) for discs in (measures.discs, own))
    turn = np.rad2deg([measures.rotation[level] for level in asked.apex_levels])
    kyphosis = np.rad2deg(measures.kyphosis[Level.T1, Level.T12])
    lordosis = np.rad2deg(measures.lordosis.get((Level.L1, Level.S), np.deg2rad(55.0)))  # without S there is none
    readings = (
        ("disc wedge", wedges, np.maximum(limits(before, DISC_WEDGE_DEG), np.abs(native))),
        ("disc too high", heights_mm(after), np.maximum(limits(before, HIGHEST_MM), heights_mm(before))),
        ("apical rotation", turn, np.full(len(turn), min(60.0, 0.32 * asked.cobb_deg + 24.0))),
        ("kyphosis T1-T12", np.array([kyphosis - 40.0]), np.array([40.0])),
        ("lordosis L1-S", np.array([lordosis - 55.0]), np.array([40.0])),
    )
    return [exceeded for reading in readings for exceeded in _exceeded(before, *reading)]


def _exceeded(spine: Spine, rule: str, values: np.ndarray, most: np.ndarray) -> list[str]:
    """A line for the joint (or vertebra, or spine) that exceeds a rule the most, if one does."""
    if rule in (
        "flexion",
        "axial rotation",
        "disc wedge",
        "wedge of a vertebra",
        "apical rotation",
        "kyphosis T1-T12",
        "lordosis L1-S",
    ):
        values = np.abs(values)
    worst = int((values - most).argmax())
    where = spine.levels[worst].name if len(values) > 1 else ""
    return [f"{rule} {where} {values[worst]:.2f}"] if values[worst] > most[worst] + ROUNDING else []


def limits(spine: Spine, by_lower: dict[str, float]) -> np.ndarray:
    """What each joint may have, by the region of its lower level, or by the level itself where it is named."""
    return np.array([by_lower.get(lower.name, by_lower[region(lower)]) for lower in spine.levels[1:]])


def turns_deg(before: Spine, after: Spine) -> np.ndarray:
    """What each joint was turned by, as a rotation vector in the axes of its lower level, from the head down."""
    new, old = (measure_chain(spine).lower_from_upper[:, :3, :3] for spine in (after, before))
    return np.rad2deg(Rotation.from_matrix(new @ np.swapaxes(old, 1, 2)).as_rotvec())


def slides_mm(before: Spine, after: Spine) -> np.ndarray:
    """How far each upper plate slid along the middle plane of its disc."""
    return np.linalg.norm(_sides(after) - _sides(before), axis=1)


def _sides(spine: Spine) -> np.ndarray:
    """Where each upper plate's centre lies beside the lower one's, in the lower vertebra's right and forward."""
    found = []
    for above, below in pairwise(spine):
        across = above.inferior.centre - below.superior.centre
        up = above.inferior.normal + below.superior.normal
        up /= np.linalg.norm(up)
        found.append(below.axes[:, :2].T @ (across - (across @ up) * up))
    return np.array(found)


def rim_gaps_mm(spine: Spine) -> np.ndarray:
    """Least height of the upper body's elliptic rim over the plate below it."""
    round_ = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    found = []
    for above, below in pairwise(spine):
        wide = above.axes[:, 0] * (above.width_mm + below.width_mm) / 4
        deep = above.axes[:, 1] * (above.depth_mm + below.depth_mm) / 4
        normal = above.inferior.normal
        rim = np.outer(np.cos(round_), wide) + np.outer(np.sin(round_), deep)
        rim += above.inferior.centre - (rim @ normal)[:, None] * normal
        found.append(((rim - below.superior.centre) @ below.superior.normal).min())
    return np.array(found)


def heights_mm(spine: Spine) -> np.ndarray:
    """Disc heights, from the head down."""
    return np.array([disc.height_mm for disc in measure_discs(spine)])


def wedges_deg(spine: Spine) -> np.ndarray:
    """Coronal angle between the plates of each vertebra."""
    axes = spine.patient_axes
    return np.rad2deg([coronal_tilt(v.superior, axes) - coronal_tilt(v.inferior, axes) for v in spine])


def length_mm(spine: Spine) -> float:
    """Length of the line through the centres."""
    return float(np.linalg.norm(np.diff([v.centre for v in spine], axis=0), axis=1).sum())


def render(rows: Sequence[dict[str, object]]) -> str:
    """A table by type, in Markdown."""
    lines = [
        "| Lenke | requests | met | missed by more than 1° | a hard rule broken | refused |",
        "|---|---|---|---|---|---|",
    ]
    for lenke in (*TYPES, "all"):
        mine = [row for row in rows if lenke in ("all", row["lenke"])]
        outcomes = Counter(row["outcome"] for row in mine)
        counts = (outcomes[outcome] for outcome in ("met", "missed", "broken", "refused"))
        lines.append(f"| {lenke} | {len(mine)} | {' | '.join(map(str, counts))} |")
    planned = [row for row in rows if row["outcome"] != "refused"]
    taken = np.array([float(str(row["variability"])) for row in planned])
    met = sum(row["outcome"] == "met" for row in planned)
    off, apices = (np.array([float(str(row[name])) for row in planned]) for name in ("off_deg", "apex_off"))
    lines += [
        "",
        f"Of {len(planned)} planned spines {100 * met / len(planned):.1f} % meet all; they have"
        f" {taken.mean():.2f} of the drawn difference on average, {100 * (taken == 0).mean():.0f} % none of it.",
        f"Half within {np.median(off):.2f}°, 95 % within {np.quantile(off, 0.95):.2f}°, all within {off.max():.2f}°."
        f" Apices: {100 * (apices <= 1).mean():.0f} % within one level, {100 * (apices <= 2).mean():.0f} % within two.",
        "",
        f"Soft rules, in percent of the planned spines: {_shares(planned, 'told')}.",
        f"Hard rules that were broken: {_shares(planned, 'broken')}.",
    ]
    return "\n".join(lines)


def _shares(rows: Sequence[dict[str, object]], column: str) -> str:
    """How many rows name each rule, in percent."""
    named = Counter(
        re.split(r" (?:[CTL]\d+ )?-?[\d.]+$", rule)[0] for row in rows for rule in str(row[column]).split("; ") if rule
    )
    return ", ".join(f"{rule} {100 * count / len(rows):.1f}" for rule, count in named.most_common()) or "none"


if __name__ == "__main__":
    main()
