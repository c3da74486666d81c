"""Ask the planner of curves for a thousand spines of every Lenke type, and hold them against the request and the rules.

README.md beside it says how to read it.

python benchmarks/acceptance.py [--count 1000] [--vertebral-share 0.4] [--out rows.csv]
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

import spinesim
from spinesim.anatomy.levels import Level, region
from spinesim.anatomy.measure import measure_discs, measure_spine
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import PathologyError
from spinesim.pathology.proposal import Proposal, goals_of, propose, read_goals
from spinesim.pathology.rules import TWIST_LIMIT_DEG, WEDGE_LIMIT_DEG, WEDGE_REFUSED
from spinesim.shape.chain import measure_chain, pose_spine
from spinesim.shape.shipped import read_shipped_model

APICES = {"PT": ("T3", "T4"), "MT": ("T7", "T8", "T9"), "TL": ("T12", "L1", "L2")}
TYPES = {1: ("MT",), 2: ("MT", "PT"), 3: ("MT", "TL"), 4: ("MT", "PT", "TL"), 5: ("TL",), 6: ("TL", "MT")}
"""Structural curves of the Lenke types, the largest first (Lenke 2001, J Bone Joint Surg Am 83:1169)."""

SMALLER = (0.5, 0.8)
"""Size of the other structural curves, as a share of the largest (assumed)."""

COBB_DEG = (10.0, 70.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the requests, plan them, and print what came of them by type."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="requests [1000]")
    parser.add_argument("--vertebral-share", type=float, default=0.0, help="share that bodies take by wedging [0]")
    parser.add_argument("--workers", type=int, default=2, help="processes [2]")
    parser.add_argument("--out", type=Path, help="file for a row of each request")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    with ProcessPoolExecutor(options.workers) as pool:
        rows = list(pool.map(partial(run, share=options.vertebral_share), range(options.count), chunksize=8))
    if options.out:
        with options.out.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    print(render(rows))
    print(f"{options.count} requests in {time.perf_counter() - start:.0f} s", file=sys.stderr)


def run(seed: int, share: float) -> dict[str, object]:
    """One request on one healthy adult, drawn by a seed: what was asked, and what came of it."""
    rng = np.random.default_rng(seed)
    lenke = seed % 6 + 1
    spine, asked = draw_adult(rng), draw_request(lenke, share, rng)
    said = {"lenke": lenke, "cobb": asked.cobb_deg, "apex": asked.apex}
    said["also"] = " ".join(f"{curve.cobb_deg:g}@{curve.apex}" for curve in asked.also)
    try:
        proposal = propose(asked, spine, goals_of(asked), seed)
    except PathologyError as refusal:
        return said | {"outcome": "refused", "off_deg": "", "variability": "", "broken": str(refusal)}
    measured = read_goals(asked, measure_spine(proposal.moved))
    off = max(abs(measured[name] - value) for name, value in goals_of(asked).items())
    broken = "; ".join(broken_rules(spine, proposal))
    outcome = "missed" if off > 1.0 else "broken" if broken else "met"
    variability = proposal.details["variability_taken"]
    return said | {"outcome": outcome, "off_deg": round(off, 3), "variability": variability, "broken": broken}


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


def draw_adult(rng: np.random.Generator) -> Spine:
    """A healthy adult from C7 to L5."""
    model = read_shipped_model("adult")
    (chain,) = model.sample(1, np.eye(4), rng=rng)
    return pose_spine(anatomy(), chain.part(model.levels.index(Level.C7), len(model.levels) - 1))


@cache
def anatomy() -> Spine:
    """The mean vertebrae of the shipped adults."""
    found = read_shipped_model("adult").anatomy
    if found is None:
        raise SystemExit("acceptance: expected plates in the model 'adult', got none; run its recipe again")
    return found


def broken_rules(spine: Spine, proposal: Proposal) -> list[str]:
    """Hard rules of ``acceptance.csv`` that a planned spine breaks, read off the spine itself."""
    moved, broken = proposal.moved, []
    for rank, turn in enumerate(_joint_turns_deg(spine, moved)):
        upper, lower = spine.levels[rank : rank + 2]
        if turn > TWIST_LIMIT_DEG[region(lower)]:
            broken.append(f"axial rotation {upper.name}/{lower.name} {turn:.1f}")
    for native, disc in zip(measure_discs(spine), measure_discs(moved), strict=True):
        wedge, own = (float(np.rad2deg(abs(each.coronal_wedge))) for each in (disc, native))
        if wedge > max(own, WEDGE_REFUSED * WEDGE_LIMIT_DEG[region(disc.upper)]):
            broken.append(f"disc wedge {disc.upper.name}/{disc.lower.name} {wedge:.1f}")
    return broken


def _joint_turns_deg(before: Spine, after: Spine) -> np.ndarray:
    """What each joint was turned by about the long axis of its lower level, from the head down."""
    turned = Rotation.from_matrix((_joints(after) @ np.linalg.inv(_joints(before)))[:, :3, :3])
    return np.abs(np.rad2deg(turned.as_rotvec()[:, 2]))


def _joints(spine: Spine) -> np.ndarray:
    return measure_chain(spine).lower_from_upper


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
    lines += [
        "",
        f"Of {len(planned)} planned spines {100 * met / len(planned):.1f} % meet all; they have"
        f" {taken.mean():.2f} of the drawn difference on average, {100 * (taken == 0).mean():.0f} % none of it.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
