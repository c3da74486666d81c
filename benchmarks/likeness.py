"""Draw the phantom beside a real scan: the same slices, window and scale, to see what gives it away.

.venv/bin/python benchmarks/likeness.py --out assets/pictures/phantom_beside_LIDC-IDRI-0001.jpg
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from scans import SOURCES

from spinesim.anatomy.levels import Level
from spinesim.anatomy.scan import Scan
from spinesim.phantom import PhantomParameters, build_phantom

WINDOW_HU = (-175.0, 275.0)
TALL_MM, AXIAL_MM, FRONT_MM = 330.0, (344.0, 262.0), 310.0
SIDE_MM = (105.0, 150.0)
"""What a sagittal section shows behind and before the bodies."""

HEADER_MM, BACK_MM, GAP_MM = 26.0, 104.0, 4.0
PX_PER_MM, DPI = 1.0, 100
GROUND, INK = "black", "#d0d4da"


@dataclass(frozen=True, eq=False)
class Upright:
    """A scan with its axes turned to the world's: HU, voxel size (mm), and the middle of each level's body (mm)."""

    title: str
    hu: np.ndarray
    spacing_mm: np.ndarray
    bodies: dict[Level, np.ndarray]


def turned_upright(title: str, scan: Scan) -> Upright:
    """Turn the axes of a scan to the world's; the front third of a vertebra's voxels are its body."""
    turn = nib.io_orientation(scan.grid.world_from_voxel)
    hu, labels = (nib.apply_orientation(part, turn) for part in (scan.image.hu(), scan.labels.voxels))
    spacing = np.array(scan.grid.spacing_mm)[np.argsort(turn[:, 0])]
    bodies = {}
    for level, number in scan.labels.numbers.items():
        places = np.argwhere(labels == number)
        bodies[level] = places[places[:, 1] > np.percentile(places[:, 1], 60)].mean(axis=0) * spacing
    return Upright(title, hu, spacing, bodies)


def sections(scan: Upright) -> list[tuple[str, np.ndarray, tuple[float, ...], tuple[float, ...]]]:
    """Give title, pixels, extent and view (mm) of each section; the patient's right and front are on the left."""
    middle = scan.bodies[Level.T8]
    high = middle[2] - TALL_MM / 2, middle[2] + TALL_MM / 2
    side = middle[1] + SIDE_MM[1], middle[1] - SIDE_MM[0]
    front = middle[0] + FRONT_MM / 2, middle[0] - FRONT_MM / 2
    found = [
        ("mid-sagittal", *_section(scan, 0, middle[0]), (*side, *high)),
        ("coronal through T8", *_section(scan, 1, middle[1]), (*front, *high)),
    ]
    disc = (scan.bodies[Level.T9][2] + scan.bodies[Level.T10][2]) / 2
    for title, z in (("T7", scan.bodies[Level.T7][2]), ("disc T9/T10", disc), ("L1", scan.bodies[Level.L1][2])):
        left = middle[0] + AXIAL_MM[0] / 2, middle[0] - AXIAL_MM[0] / 2
        back = middle[1] - BACK_MM, middle[1] - BACK_MM + AXIAL_MM[1]
        found.append((title, *_section(scan, 2, z), (*left, *back)))
    return found


def _section(scan: Upright, axis: int, at_mm: float) -> tuple[np.ndarray, tuple[float, ...]]:
    across, up = (n for n in range(3) if n != axis)
    pixels = scan.hu.take(round(at_mm / scan.spacing_mm[axis]), axis=axis).T
    wide, tall = scan.hu.shape[across] * scan.spacing_mm[across], scan.hu.shape[up] * scan.spacing_mm[up]
    return pixels, (0.0, wide, 0.0, tall)


def draw(scans: list[Upright], out: Path) -> None:
    """Draw a row of sections a scan, all at one scale."""
    rows = [sections(scan) for scan in scans]
    widths = [abs(view[1] - view[0]) for *_, view in rows[0]]
    wide = sum(widths) + GAP_MM * (len(widths) + 1)
    tall = len(rows) * (TALL_MM + HEADER_MM)
    figure = Figure(figsize=(wide * PX_PER_MM / DPI, tall * PX_PER_MM / DPI), dpi=DPI, facecolor=GROUND)
    for row, (scan, found) in enumerate(zip(scans, rows, strict=True)):
        floor, left = tall - (row + 1) * (TALL_MM + HEADER_MM), GAP_MM
        for column, (title, pixels, extent, view) in enumerate(found):
            width, height = abs(view[1] - view[0]), abs(view[3] - view[2])
            place = (left / wide, (floor + (TALL_MM - height) / 2) / tall, width / wide, height / tall)
            axes = figure.add_axes(place, facecolor=GROUND)
            axes.imshow(
                pixels, "gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], extent=extent, origin="lower", aspect="auto"
            )
            axes.set(xlim=view[:2], ylim=view[2:])
            axes.set_axis_off()
            words = f"{scan.title}: {title}" if column == 0 else title
            figure.text(left / wide, (floor + TALL_MM + 7) / tall, words, color=INK, fontsize=9)
            left += width + GAP_MM
    figure.savefig(out, pil_kwargs={"quality": 80, "optimize": True} if out.suffix == ".jpg" else None)


def main() -> None:
    """Read the real scan, build the phantom, draw both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="picture to write, .jpg or .png")
    parser.add_argument("--seed", type=int, default=0, help="the phantom's seed")
    asked = parser.parse_args()
    lidc = SOURCES["lidc"]
    if lidc.missing:
        parser.exit(2, f"likeness: expected {lidc.missing[0]}, got nothing; put the scan there\n")
    phantom = turned_upright("phantom", build_phantom(PhantomParameters(seed=asked.seed)))
    draw([phantom, turned_upright("LIDC-IDRI-0001", lidc.read())], asked.out)


if __name__ == "__main__":
    main()
