"""Paint whole cases on LIDC-IDRI-0001, each way in a process of its own: how the painted marrow looks, what it takes.

.venv/bin/python benchmarks/inpaint_cases.py
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scans import SOURCES
from scipy import ndimage
from textures import neighbours, power, texture

from spinesim.anatomy.levels import Level
from spinesim.inpaint.brush import PLAIN, Brush
from spinesim.inpaint.mask import Reason
from spinesim.inpaint.tissues import depth_in
from spinesim.pathology.fracture import Fracture
from spinesim.pathology.lesion import Lesion
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.series.case import Case, simulate
from spinesim.series.painting import unknown_of
from spinesim.series.repainting import find_mask

CASES = {
    "fracture": (Fracture(level="T11", type="wedge", loss_percent=35), Level.T11),
    "lytic": (Lesion(structure="T9", type="lytic", diameter_mm=16), Level.T9),
    "sclerotic": (Lesion(structure="T9", type="sclerotic", diameter_mm=16), Level.T9),
    "scoliosis": (Scoliosis(cobb_deg=35, apex="T9", direction="right"), None),
}
"""What is simulated, and the level that changes."""

METHODS = ("none", "noise", "auto", "diffusion", "pix2pix")

INTACT = (Level.T7, Level.T8, Level.T10)
"""Bodies whose marrow the painted one is held against."""

DEEP_MM = 3.0
"""Marrow lies so far from the surface of bone at least."""

PAINTED = (Reason.FRACTURE, Reason.LESION, Reason.TISSUE)

COLUMNS = (
    *("case", "method", "voxels", "marrow_hu", "texture_hu", "of_intact", "power_db", "rim", "rim_of_unpainted"),
    *("seconds", "peak_mib"),
)
"""``rim``: step across the rim, in parts of that just outside it; ``rim_of_unpainted``: in parts of the step at that
place in the warped scan that noise was given back to."""


def marrow_of(case: Case, level: Level) -> tuple[tuple[slice, ...], np.ndarray]:
    """Box of a level after the case, and its marrow there."""
    labels = case.after.labels
    box = labels.boxes[labels.numbers[level]]
    deep = depth_in(labels.voxels[box] == labels.numbers[level], labels.grid.inside(box)) > 10 * DEEP_MM
    return box, deep


def steps_at_rim(hu: np.ndarray, painted: np.ndarray, bone: np.ndarray) -> tuple[float, float]:
    """Mean step (HU) across the rim of what is painted, and just outside it, inside a bone."""
    near = ndimage.binary_dilation(painted, iterations=3) & ~painted
    across, beside = [], []
    for one, two in neighbours():
        steps, own = np.abs(hu[one] - hu[two]), bone[one] & bone[two]
        across.append(steps[(painted[one] != painted[two]) & own])
        beside.append(steps[near[one] & near[two] & own])
    return float(np.concatenate(across).mean()), float(np.concatenate(beside).mean())


def describe(case: Case, level: Level) -> dict[str, float]:
    """How the marrow looks that was painted, against that of intact levels."""
    image, reasons = case.after.image, unknown_of(case).reasons
    assert image is not None
    intact = []
    for other in INTACT:
        box, deep = marrow_of(case, other)
        hu = image.hu(image.voxels[box])
        intact.append((texture(hu)[deep].std(), power(hu, deep)))
    box, deep = marrow_of(case, level)
    hu = image.hu(image.voxels[box])
    fast, painted = texture(hu), np.isin(reasons[box], PAINTED)
    bone = case.after.labels.voxels[box] == case.after.labels.numbers[level]
    inside = deep & painted
    step, outside = steps_at_rim(hu, find_mask(unknown_of(case), PAINTED)[box], bone)
    usual, spectrum = np.mean([each for each, _ in intact]), np.mean([each for _, each in intact], axis=0)
    return {
        "voxels": int(np.isin(reasons, PAINTED).sum()),
        "marrow_hu": float(hu[inside].mean()),
        "texture_hu": float(fast[inside].std()),
        "of_intact": float(fast[inside].std() / usual),
        "power_db": float(np.mean(np.abs(10 * np.log10(power(hu, inside) / spectrum)))),
        "rim": step / outside,
        "step_hu": step,
    }


def run(name: str, method: str, brush: Brush, picture: Path | None) -> dict[str, float | str]:
    """One case painted one way."""
    pathology, level = CASES[name]
    scan = SOURCES["lidc"].read()
    began = time.perf_counter()
    case = simulate(scan, pathology, inpaint=method, brush=brush)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = describe(case, level) if level is not None else {}
    if picture is not None and level is not None:
        assert case.after.image is not None
        centre = case.after.grid.to_voxel(case.after_spine[level].centre[None])[0].round().astype(int)
        np.save(picture, case.after.image.hu(case.after.image.voxels[centre[0]]))
    return {"case": name, "method": method, **told, "seconds": seconds, "peak_mib": peak}


def main() -> None:
    """Run all, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--steps", type=int, default=PLAIN.steps)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--picture", type=Path, help="sagittal slices through the level, a PNG")
    parser.add_argument("--one", nargs=2, metavar=("CASE", "METHOD"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        brush = Brush(options.weights, options.steps) if options.one[1] not in ("none", "noise") else Brush()
        print(json.dumps(run(*options.one, brush, options.picture)))
        return
    rows, slices = [], {}
    for name in options.cases.split(","):
        for method in options.methods.split(","):
            asked = [sys.executable, __file__, "--one", name, method, "--steps", str(options.steps)]
            asked += ["--weights", str(options.weights)] if options.weights else []
            kept = None
            if options.picture:
                kept = options.picture.with_name(f"{options.picture.stem}_{name}_{method}.npy")
                asked += ["--picture", str(kept)]
            done = subprocess.run(asked, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{name} {method}: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
                continue
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            if kept is not None and kept.exists():
                slices[name, method] = np.load(kept)
                kept.unlink()
    unpainted = {row["case"]: row["step_hu"] for row in rows if row["method"] == "noise" and "step_hu" in row}
    for row in rows:
        if row["case"] in unpainted and "step_hu" in row:
            row["rim_of_unpainted"] = row["step_hu"] / unpainted[row["case"]]
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|")
    for row in rows:
        cells = (row.get(column, "") for column in COLUMNS)
        print("| " + " | ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)
    if options.picture and slices:
        draw(slices, options.picture)


def draw(slices: dict[tuple[str, str], np.ndarray], path: Path) -> None:
    """The sagittal slices, a case a row and a method a column."""
    names, methods = (list(dict.fromkeys(key[n] for key in slices)) for n in (0, 1))
    figure = Figure(figsize=(4 * len(methods), 4 * len(names)), layout="constrained")
    grid = SOURCES["lidc"].read().grid
    for (name, method), hu in slices.items():
        rank = names.index(name) * len(methods) + methods.index(method) + 1
        axes = figure.add_subplot(len(names), len(methods), rank)
        ratio = grid.spacing_mm[2] / grid.spacing_mm[1]
        axes.imshow(hu.T, cmap="gray", vmin=-150, vmax=700, origin="lower", aspect=ratio)
        axes.set_title(f"{name}, {method}")
        axes.axis("off")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
