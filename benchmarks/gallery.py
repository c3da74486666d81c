"""Draw presets before and after on the phantom, and the page that shows them.

.venv/bin/python benchmarks/gallery.py [--out assets/gallery] [--only NAME]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level, parse_level
from spinesim.anatomy.scan import Scan
from spinesim.errors import PathologyError
from spinesim.pathology.combination import Combination
from spinesim.pathology.configuration import read_configuration
from spinesim.pathology.proposal import Pathology
from spinesim.phantom import PhantomParameters, build_whole_phantom
from spinesim.series.case import Case, simulate
from spinesim.series.lesion_picture import draw_lesions
from spinesim.series.picture import draw_case

SHOWN = (
    "lenke-1",
    "lenke-3",
    "lenke-6",
    "scoliosis-with-fracture",
    "genant-moderate",
    "burst-a4-l1",
    "clay-shovelers-fracture",
    "osteoporotic-fractures",
    "scheuermann",
    "flat-back",
    "l5-isthmic-slip",
    "l4-degenerative-slip",
    "l4-l5-disc-degeneration",
    "growth-spurt-girl",
    "ais-progression",
    "lytic-metastasis-l1",
    "sclerotic-metastases",
    "sclerotic-metastases-l3",
    "lung-nodule",
)
"""What the page shows; ``--only`` draws any other."""

WINDOW_HU = (-200.0, 700.0)
CLOSE_MM = 150.0
"""Height of what is shown of some levels."""

ASPECT, PIXEL_SHARE = 0.62, 1 / 420
"""Width of a panel over its height, and a pixel over its height."""

BEHIND, BEHIND_OF = 0.42, {"process_fracture": 0.75, "spondylolisthesis": 0.7}
"""Share of a sagittal panel's width that lies behind the bodies, and where it is about what lies there."""

PANEL_IN, DPI = 4.2, 100
WIDE_PX, QUALITY = 860, 70
"""Width of a picture of the whole spine or of lesions, and the quality of the JPEG."""

GROUND, INK, LINE = "black", "#d0d4da", "#ff8a3c"


def main() -> None:
    """Simulate, draw, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("assets/gallery"), help="folder [assets/gallery]")
    parser.add_argument("--only", action="append", help="one preset; may be given again [those of the page]")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    phantom = build_whole_phantom(PhantomParameters())
    names = options.only or SHOWN
    lines = []
    for name in names:
        configuration = read_configuration(name)
        structures = configuration.pathology.needs_structures
        scan = Scan(phantom.structures, phantom.scan.image) if structures else phantom.scan
        try:
            case = simulate(scan, configuration.pathology, seed=configuration.seed)
        except PathologyError as refusal:
            sys.exit(f"{name}: {refusal}")
        draw(case, options.out / f"{name}.jpg")
        lines.append(describe(name, configuration.about, case))
        print(lines[-1].splitlines()[2])
    if not options.only:
        (options.out / "README.md").write_text(page(lines), encoding="utf-8")


def describe(name: str, about: str, case: Case) -> str:
    """A preset's part of the page."""
    goals = "; ".join(f"{goal} {asked:.1f}, measured {got:.1f}" for goal, (asked, got, _) in case.goals.items())
    measured = f" Asked {goals}." if goals else ""
    return f"## {name}\n\n{about}.{measured}\n\n![{about}]({name}.jpg)\n"


def page(lines: Iterable[str]) -> str:
    """The page of the gallery."""
    head = """# Gallery

Some of the shipped presets on the built-in phantom (C7 to the sacrum, 1.5 mm), before and after: the whole spine in
sections that follow it, a level that changes in planes through it, lesions one a row in three planes. Made by
`make gallery`, with what a network paints if one is installed. What grows out of the field of view is cut off, and
planes through a level follow it, so that they cut its neighbours elsewhere than before. One of them on your own scan:
`spinesim simulate ct.nii.gz --labels labels.nii.gz --config NAME`.
"""
    return "\n".join([head, *lines])


def draw(case: Case, out: Path) -> None:
    """Draw a case: its lesions, the levels that change from close by, or the whole spine."""
    levels = mentioned(case.pathology)
    if case.masses is None and levels:
        draw_closely(case, levels, out)
        return
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / "picture.png"
        if case.masses is not None:
            draw_lesions(case, out.stem, drawn)
        else:
            scans = case.before, case.before_spine, case.after, case.after_spine
            draw_case(*scans, None, out.stem, drawn)
        with Image.open(drawn) as picture:
            size = WIDE_PX, round(WIDE_PX / picture.width * picture.height)
            small = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    small.save(out, quality=QUALITY, optimize=True)


def draw_closely(case: Case, levels: tuple[Level, ...], out: Path) -> None:
    """Draw sagittal and coronal planes before and after, with the outlines of the labels."""
    figure = Figure(figsize=(4 * ASPECT * PANEL_IN, PANEL_IN), dpi=DPI, facecolor=GROUND)
    panels = [
        (scan, spine, view, when)
        for view in ("sagittal", "coronal")
        for scan, spine, when in ((case.before, case.before_spine, "before"), (case.after, case.after_spine, "after"))
    ]
    for rank, (scan, spine, view, when) in enumerate(panels):
        axes = figure.add_axes((rank / 4 + 0.002, 0.0, 1 / 4 - 0.004, 0.93), facecolor=GROUND)
        centre = np.mean([v.centre for v in spine if v.level in levels], axis=0)
        behind = BEHIND_OF.get(case.pathology.kind, BEHIND) if view == "sagittal" else 0.5
        _draw_plane(axes, scan, centre, case.before_spine.patient_axes, view, behind)
        figure.text(rank / 4 + 0.01, 0.95, f"{when}, {view}", color=INK, fontsize=9)
    figure.savefig(out, pil_kwargs={"quality": QUALITY, "optimize": True})


def mentioned(pathology: Pathology) -> tuple[Level, ...]:
    """The levels that a pathology names; none for one of the whole spine."""
    if isinstance(pathology, Combination):
        parts = [mentioned(part) for part in pathology.pathologies]
        return tuple(level for part in parts for level in part) if all(parts) and len(parts) < 3 else ()
    if discs := getattr(pathology, "discs", ()):
        return tuple(parse_level(name) for disc in discs for name in disc.split("/"))
    level = getattr(pathology, "at", None)
    return (level,) if level else ()


def _draw_plane(axes: Axes, scan: Scan, centre: np.ndarray, patient: np.ndarray, view: str, behind: float) -> None:
    """Sample a flat plane through a point."""
    voxels, shape = _plane(scan.grid, centre, patient, view, behind)
    hu = ndimage.map_coordinates(scan.image.hu(), voxels, order=1, cval=-1000.0).reshape(shape)
    axes.imshow(hu, "gray", vmin=WINDOW_HU[0], vmax=WINDOW_HU[1], aspect="auto")
    for number in scan.labels.numbers.values():
        inside = ndimage.map_coordinates((scan.labels.voxels == number).astype(np.float32), voxels, order=1)
        if inside.max() > 0.5:
            axes.contour(inside.reshape(shape), [0.5], colors=[LINE], linewidths=0.6, alpha=0.7)
    axes.set_axis_off()


def _plane(
    grid: Grid, centre: np.ndarray, patient: np.ndarray, view: str, behind: float
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Voxels of a flat plane through a point, and its shape; the patient's front, or right, is on the left."""
    tall, wide = CLOSE_MM, ASPECT * CLOSE_MM
    left = patient[:, 1] if view == "sagittal" else patient[:, 0]
    start = (1 - behind) * wide
    across = np.arange(start, start - wide, -PIXEL_SHARE * tall)
    up = np.arange(tall / 2, -tall / 2, -PIXEL_SHARE * tall)
    points = centre + across[None, :, None] * left + up[:, None, None] * patient[:, 2]
    return grid.to_voxel(points.reshape(-1, 3)).T, points.shape[:2]


if __name__ == "__main__":
    main()
