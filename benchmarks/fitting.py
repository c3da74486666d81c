"""Time and memory of fitting the pose model to synthetic spines, and the variance that it finds in four modes.

README.md beside it says how to read it.

python benchmarks/fitting.py [--counts 50 500] [--modes 10]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Sequence

import numpy as np

from spinesim.shape.chain import Chain
from spinesim.shape.pose_model import PoseModel, fit_pose_model
from spinesim.shape.shipped import read_shipped_model

SHOWN = 0.4
"""Share of the spines that are whole, where some are not: the others end at a level drawn evenly, above or below."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit each number of spines in a process of its own, whole and with holes, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="+", default=[50, 500], help="numbers of spines [50 500]")
    parser.add_argument("--modes", type=int, default=10, help="modes of the model [10]")
    options = parser.parse_args(arguments)
    print("| spines | levels missing | processor s | peak MiB | variance in 4 modes: of the model / found |")
    print("|---|---|---|---|---|")
    for count in options.counts:
        for holes in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.apply(measure, (count, options.modes, holes)))


def measure(count: int, modes: int, holes: bool) -> str:
    """A row of the table: draw spines of the shipped model of scoliosis, fit one to them, compare."""
    rng = np.random.default_rng(count)
    known = read_shipped_model("scoliosis")
    plain = PoseModel(known.levels, known.mean, known.gaussian, known.cases)
    chains = plain.sample(count, np.eye(4), rng=rng)
    shown = [cut(chain, rng=rng) for chain in chains] if holes else chains
    start = time.process_time()
    fitted = fit_pose_model(shown, modes)
    seconds, peak = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    shares = (f"{100 * explained(model, 4):.0f}" for model in (plain, fitted))
    return f"| {count} | {'yes' if holes else 'no'} | {seconds:.1f} | {peak:.0f} | {' / '.join(shares)} % |"


def cut(chain: Chain, *, rng: np.random.Generator) -> Chain:
    """A scan that ends early, above or below, or shows all."""
    count = len(chain.levels)
    if rng.random() < SHOWN:
        return chain
    keep = int(rng.integers(count // 2, count))
    return chain.part(0, keep - 1) if rng.random() < 0.5 else chain.part(count - keep, count - 1)


def explained(model: PoseModel, modes: int) -> float:
    """Share of the variance in the widest directions."""
    values = np.linalg.eigvalsh(model.gaussian.covariance())
    return float(values[-modes:].sum() / values.sum())


if __name__ == "__main__":
    main()
