"""Paint healthy regions of scans that a network never saw, and compare with what was there.

.venv/bin/pip install scikit-image   # SSIM and the biharmonic fill
.venv/bin/python benchmarks/inpaint.py ../shared/data/RIDER-Pilot-0117_ct_spinecrop.nii.gz --box 90:170,100:168,0:95
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage, stats
from skimage.metrics import structural_similarity
from skimage.restoration import inpaint_biharmonic
from textures import neighbours, power

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.scan import Volume
from spinesim.inpaint.brush import PLAIN, Brush, find_weights
from spinesim.inpaint.conditions import Canvas
from spinesim.inpaint.drawn_masks import SHAPES, points_about_middle
from spinesim.inpaint.grain import restore_noise
from spinesim.inpaint.painter import PATCH_VOXELS, paint
from spinesim.inpaint.patches import patch_shape
from spinesim.inpaint.samples import draw_canvas
from spinesim.inpaint.scanner import Noise, measure_noise
from spinesim.inpaint.tissues import PER_MM, Kind
from spinesim.inpaint.training_scans import TrainingScan, find_pairs, read_training_scan
from spinesim.inpaint.weights import Painter, read_weights

KINDS = {"slab": 0, "end plate": 1, "lesion": 2, "disc shell": 3, "blob": 4, "void": 5}
"""Masks that are drawn, by their place among the shapes of training."""

RANGE_HU = 1500.0
"""Of PSNR and SSIM."""

STRETCH, WIDTH_MM = 0.45, 12.0
"""What the warp does before it is painted over: the middle is stretched by 1/(1 - this), over this width."""


@dataclass(frozen=True, eq=False)
class Task:
    """A patch with a mask, the truth under it, and where a warp would take it from."""

    scan: TrainingScan
    kind: str
    canvas: Canvas
    noise: Noise | None
    seed: int


Method = Callable[[Task, int], np.ndarray]


def tasks(scan: TrainingScan, count: int) -> Iterator[Task]:
    """Patches of a scan with masks of each kind, some for each."""
    volume = Volume(scan.hu, Grid(scan.hu.shape, np.diag([*scan.spacing_mm, 1.0])))
    noise = measure_noise(volume, scan.tissues.of(Kind.BONE))
    shape = patch_shape(scan.spacing_mm, PATCH_VOXELS)
    for kind, number in KINDS.items():
        made = seed = 0
        while made < count and seed < 50 * count:
            seed += 1
            rng = np.random.default_rng([number, seed])
            canvas = draw_canvas(scan, shape, np.ones(3), rng=rng)
            bone = canvas.tissues.depth > 0
            points = points_about_middle(shape, scan.spacing_mm)
            near = np.linalg.norm(points, axis=-1) < 30
            mask = SHAPES[number](points.astype(np.float32), canvas.tissues, rng) & near
            if 0.005 < mask.mean() < 0.4 and (kind == "void" or (mask & bone).sum() > 0.2 * mask.sum()):
                made += 1
                yield Task(scan, kind, replace(canvas, mask=mask, guided=~mask), noise, seed)


def inside(scan: TrainingScan, box: str | None) -> TrainingScan:
    """A scan whose masks lie about bone in a box: where there are no labels, vessels with contrast pass for bone."""
    if box is None:
        return scan
    low, high = np.array([[int(end) for end in side.split(":")] for side in box.split(",")]).T
    kept = [p[((p >= low) & (p < high)).all(axis=1)] for p in (scan.middles, scan.surfaces)]
    return replace(scan, middles=kept[0], surfaces=kept[1])


def sources(canvas: Canvas) -> np.ndarray:
    """Where a stretched middle comes from, fractional voxels."""
    shape = canvas.hu.shape
    lattice = np.stack(np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij"), axis=-1)
    middle = np.array(ndimage.center_of_mass(canvas.mask))
    apart = (lattice - middle) * canvas.grid.spacing_mm
    share = STRETCH * np.exp(-(apart**2).sum(axis=-1, keepdims=True) / (2 * WIDTH_MM**2))
    return (middle + (lattice - middle) * (1 - share)).astype(np.float32)


def warp(task: Task, seed: int) -> np.ndarray:
    """What a warp leaves: tissue from nearby, stretched."""
    places = np.moveaxis(sources(task.canvas), -1, 0)
    warped = ndimage.map_coordinates(task.canvas.hu, places, order=1, mode="nearest")
    return np.where(task.canvas.mask, warped, task.canvas.hu)


def noise(task: Task, seed: int) -> np.ndarray:
    """The warp, with the noise given back that interpolation took."""
    if task.noise is None:
        return warp(task, seed)
    volume = Volume(np.round(warp(task, seed)).astype(np.int16), task.canvas.grid)
    places = sources(task.canvas)
    limits = (-1024.0, 3071.0)
    out, _ = restore_noise(
        volume, task.noise, lambda box: places[box], task.canvas.grid, task.canvas.mask, limits, seed=seed
    )
    return np.where(task.canvas.mask, out.hu(), task.canvas.hu)


def biharmonic(task: Task, seed: int) -> np.ndarray:
    """The smoothest surface through what is known."""
    return inpaint_biharmonic(task.canvas.hu.astype(float), task.canvas.mask)


def network(painter: Painter, steps: int, guided: bool = False) -> Method:
    """A network; ``guided``: it is told the local mean of the warp, as in a case."""

    def painted(task: Task, seed: int) -> np.ndarray:
        canvas = task.canvas
        if guided:
            canvas = replace(canvas, hu=warp(task, seed).astype(np.float32), guided=np.ones_like(canvas.mask))
        white = np.random.default_rng(seed).normal(size=canvas.hu.shape).astype(np.float32)
        return paint(canvas, white, painter, Brush(steps=steps), seed=seed)

    return painted


def rim_slope(hu: np.ndarray, mask: np.ndarray) -> float:
    """Mean difference of neighbours of which one is painted and the other known."""
    steps = [np.abs(hu[one] - hu[two])[mask[one] != mask[two]] for one, two in neighbours()]
    return float(np.concatenate(steps).mean())


def scores(task: Task, out: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """What a method made against what was there; ``other`` is with another seed."""
    canvas, mask = task.canvas, task.canvas.mask
    truth, error = canvas.hu, (out - canvas.hu)[mask]
    assert np.array_equal(out[~mask], truth[~mask])
    _, similar = structural_similarity(truth, out, data_range=RANGE_HU, full=True)
    gradient = (
        np.linalg.norm(np.gradient(out), axis=0)[mask].mean() / np.linalg.norm(np.gradient(truth), axis=0)[mask].mean()
    )
    marrow, cortex = canvas.tissues.depth > 2 * PER_MM, canvas.tissues.of(Kind.CORTEX)
    tissues = {"marrow": marrow, "cortex": cortex, "soft": canvas.tissues.depth <= 0}
    apart = {
        f"emd_{name}_hu": float(stats.wasserstein_distance(truth[mask & where], out[mask & where]))
        for name, where in tissues.items()
        if (mask & where).sum() >= 100
    }
    return {
        "mae_hu": float(np.abs(error).mean()),
        "psnr_db": float(10 * np.log10(RANGE_HU**2 / np.mean(error**2))),
        "ssim": float(similar[mask].mean()),
        "power_db": float(np.mean(np.abs(10 * np.log10(power(out, mask) / power(truth, mask))))),
        "gradient": float(gradient),
        "rim": rim_slope(out, mask) / rim_slope(truth, mask),
        "diversity_hu": float((out - other)[mask].std() / np.sqrt(2)),
        **apart,
    }


def draw(task: Task, painted: dict[str, np.ndarray], row: int, figure: Figure, rows: int) -> None:
    """A sagittal close-up: real, masked, and each method."""
    canvas = task.canvas
    at = int(np.argmax(canvas.mask.sum(axis=(1, 2))))
    hole = np.where(canvas.mask, -1000, canvas.hu)
    for column, (name, hu) in enumerate({"real": canvas.hu, "masked": hole, **painted}.items()):
        axes = figure.add_subplot(rows, len(painted) + 2, row * (len(painted) + 2) + column + 1)
        spacing = canvas.grid.spacing_mm
        axes.imshow(hu[at].T, cmap="gray", vmin=-150, vmax=600, origin="lower", aspect=spacing[2] / spacing[1])
        axes.set_axis_off()
        if row == 0:
            axes.set_title(name, fontsize=9)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("scans", nargs="+", type=Path)
    arguments.add_argument("--box", help="voxels (to the right, forward, up) that masks lie about: 90:170,100:168,0:95")
    arguments.add_argument("--count", type=int, default=4, help="masks of each kind on each scan")
    arguments.add_argument("--steps", type=int, default=PLAIN.steps)
    arguments.add_argument("--weights", action="append", default=[], metavar="NAME=FILE", help="other networks beside")
    arguments.add_argument("--only", help="methods, by commas")
    arguments.add_argument("--csv", type=Path)
    arguments.add_argument("--picture", type=Path)
    options = arguments.parse_args()
    methods: dict[str, Method] = {"warp": warp, "noise": noise, "biharmonic": biharmonic}
    shipped = ((name, find_weights(name, PLAIN)) for name in ("pix2pix", "diffusion"))
    given = ((name, Path(file)) for name, _, file in (said.partition("=") for said in options.weights))
    for name, path in (*shipped, *given):
        if path is not None:
            painter = read_weights(path)
            methods[name] = network(painter, options.steps)
            methods[f"{name} guided"] = network(painter, options.steps, guided=True)
    if options.only:
        methods = {name: methods[name] for name in options.only.split(",")}
    rows, pictures = [], []
    for path, labels in find_pairs(options.scans):
        scan = inside(read_training_scan(path, labels), options.box)
        for task in tasks(scan, options.count):
            painted = {}
            for name, method in methods.items():
                began = time.perf_counter()
                painted[name] = method(task, 1)
                seconds = time.perf_counter() - began
                told = scores(task, painted[name], method(task, 2))
                rows.append({"scan": scan.name, "mask": task.kind, "method": name, "seconds": seconds, **told})
            if not any(one.kind == task.kind for one, _ in pictures):
                pictures.append((task, painted))
    report(rows, list(methods))
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, sorted({key for row in rows for key in row}))
            writer.writeheader()
            writer.writerows(rows)
    if options.picture:
        figure = Figure(figsize=(2 * (len(methods) + 2), 2.2 * len(pictures)), layout="constrained")
        for row, (task, painted) in enumerate(pictures):
            draw(task, painted, row, figure, len(pictures))
        figure.savefig(options.picture, dpi=110)


def report(rows: list[dict], methods: list[str]) -> None:
    """Print a table of means, over all masks."""
    columns = [
        "mae_hu",
        "psnr_db",
        "ssim",
        "emd_marrow_hu",
        "emd_cortex_hu",
        "emd_soft_hu",
        "power_db",
        "gradient",
        "rim",
    ]
    columns += ["diversity_hu", "seconds"]
    print(f"{len(rows) // len(methods)} masks")
    print("| method | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name in methods:
        means = [np.mean([row[c] for row in rows if row["method"] == name and c in row]) for c in columns]
        print(f"| {name} | " + " | ".join(f"{mean:.3g}" for mean in means) + " |")


if __name__ == "__main__":
    main()
