"""Measure the noise of scans before a curve, warped, and given back; and draw one of them.

.venv/bin/python benchmarks/noise.py --out assets/pictures/noise_LIDC-IDRI-0001.jpg
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from scans import SOURCES

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import LabelMap, Volume
from spinesim.anatomy.vertebra import Spine
from spinesim.inpaint.scanner import measure_noise
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.series.case import simulate
from spinesim.series.painting import paint_case

ASKED = Scoliosis(cobb_deg=35, apex="T9")
SCANS = ("phantom", "lidc")
WINDOW_HU = (-160.0, 400.0)
HALF_MM = 45.0
SHOWN = Level.L1


def section(image: Volume, spine: Spine) -> np.ndarray:
    """HU around the body of a level in its axial slice, front up (files whose slices are axial)."""
    i, j, k = np.round(image.grid.to_voxel(spine[SHOWN].centre[None])[0]).astype(int)
    di, dj, _ = np.round(HALF_MM / image.grid.spacing_mm).astype(int)
    shown = image.hu(image.voxels[i - di : i + di, j - dj : j + dj, k]).T
    return shown[::-1] if image.grid.direction[1, 1] > 0 else shown


def told(image: Volume, labels: LabelMap) -> str:
    noise = measure_noise(image, np.isin(labels.voxels, list(labels.levels)))
    if noise is None:
        return "not measured"
    return f"{noise.mean_hu:.1f} HU, neighbours correlate by {', '.join(f'{r:.2f}' for r in noise.neighbours)}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--scans", default=",".join(SCANS))
    arguments.add_argument("--out", type=Path, help="picture to draw of the last scan")
    options = arguments.parse_args()
    for name in options.scans.split(","):
        scan = SOURCES[name].read()
        warped = simulate(scan, ASKED, inpaint="none")
        restored = paint_case(warped, "noise")
        stages = {
            "before": (scan.image, scan.labels, warped.before_spine),
            "warped": (warped.after.image, warped.after.labels, warped.after_spine),
            "noise given back": (restored.after.image, warped.after.labels, warped.after_spine),
        }
        for stage, (image, labels, _) in stages.items():
            print(f"{name}, {stage}: {told(image, labels)}")
    if options.out:
        figure = Figure(figsize=(12, 4.3), facecolor="black")
        for axes, (stage, (image, _, spine)) in zip(figure.subplots(1, 3), stages.items(), strict=True):
            low, high = WINDOW_HU
            axes.imshow(section(image, spine), cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes.set_title(stage, color="#d0d4da", fontsize=11)
            axes.axis("off")
        figure.subplots_adjust(0, 0, 1, 0.93, 0.01, 0)
        figure.savefig(options.out, dpi=100, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
