"""The picture of the lesions of a case: each before and after, in three planes through its centre."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from pydantic import BaseModel
from scipy import ndimage

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.grid import Grid, apply_affine
from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import ball_diameter_mm
from spinesim.anatomy.plan import Mass
from spinesim.anatomy.scan import AIR_HU, LabelMap, Scan
from spinesim.anatomy.vertebra import Vector
from spinesim.pathology.proposal import Goals, goals_of
from spinesim.series.picture import BONE, DPI, GROUND, INK, MASS_COLOUR, SIDE_PX, WIDTH_PX, trace, write_figure
from spinesim.series.reformat import AXIAL, CORONAL, SAGITTAL, View

if TYPE_CHECKING:
    from spinesim.series.case import Case

VIEWS = (AXIAL, CORONAL, SAGITTAL)
PANEL_PX, PAIR_PX, VIEW_PX = 248, 4, 26
"""Side of a panel, gap between before and after, and gap between two views."""

TITLE_PX, WORDS_PX, FOOT_PX = 56, 44, 16
"""Height of the header, of the words above a row, and of the margin below the last."""

MOST_ROWS = 40
"""Lesions beyond are counted, not drawn."""

LEAST_MM, TIMES = 45.0, 1.5
"""A panel shows so much to each side of the centre, or so many diameters."""

BAR_MM = 20.0
BONE_HU, SOFT_HU, LUNG_HU = (-250.0, 950.0), (-110.0, 190.0), (-1250.0, 250.0)
"""Windows by the tissue around."""

LUNG_BELOW_HU, BONE_FROM_HU, BONE_SHARE = -300.0, 300.0, 0.9
"""A structure is lung where its median is lower, and bone where this share of it is not all lower."""

OWN_COLOUR, OTHERS = "#ff8a3c", 0.45
"""Outline of the structure that a lesion is in; without a CT, how bright others are filled."""


@dataclass(frozen=True, eq=False)
class Grown:
    """A lesion of the result: its number in the mask, the number of its structure, its middle before and after."""

    number: int
    structure: int
    words: str
    middles: tuple[Vector, Vector]
    reach_mm: float
    window_hu: tuple[float, float]


def draw_lesions(case: Case, title: str, path: Path) -> None:
    """Draw every lesion of a case in a row: axial, coronal and sagittal, each before and after, outlined after.

    Planes are flat, along the axes of the patient before, through the middle of the lesion and through the tissue that
    it comes from; the window is that of the tissue (bone, lung, soft). A panel reaches 45 mm to each side, or farther
    for a large lesion.

    Parameters
    ----------
    case : Case
        One in which something grew; without a CT the labels are drawn filled.
    title : str
        The header line.
    path : Path
        The PNG file to write, 1600 pixels wide and 292 high for each lesion; same input, same bytes.
    """
    lesions = list(find_lesions(case))
    shown, left = lesions[:MOST_ROWS], len(lesions[MOST_ROWS:])
    height_px = TITLE_PX + len(shown) * (WORDS_PX + PANEL_PX) + FOOT_PX
    figure = Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI, facecolor=GROUND)
    title = f"{title}, and {left} more" if left else title
    figure.text(
        0.5, 1 - TITLE_PX / 2 / height_px, title, color=INK, fontsize=15, weight="bold", ha="center", va="center"
    )
    for row, lesion in enumerate(shown):
        top_px = TITLE_PX + row * (WORDS_PX + PANEL_PX)
        figure.text(
            SIDE_PX / WIDTH_PX,
            1 - (top_px + WORDS_PX / 2) / height_px,
            lesion.words,
            color=INK,
            fontsize=11,
            va="center",
        )
        for column, (view, when) in enumerate(product(VIEWS, (0, 1))):
            left_px = SIDE_PX + column * (PANEL_PX + PAIR_PX) + column // 2 * VIEW_PX
            lower_px = height_px - top_px - WORDS_PX - PANEL_PX
            place = (left_px / WIDTH_PX, lower_px / height_px, PANEL_PX / WIDTH_PX, PANEL_PX / height_px)
            _draw_panel(figure.add_axes(place), case, lesion, view, when)
        _draw_scale_bar(figure.axes[6 * row], lesion.reach_mm)
    write_figure(figure, path)


def find_lesions(case: Case) -> Iterator[Grown]:
    """Everything that grew, in the order of its numbers."""
    if case.masses is None:
        return
    parts: tuple[BaseModel, ...] = getattr(case.pathology, "pathologies", (case.pathology,))
    asked = {getattr(each, "title", ""): goals_of(each) for each in parts}
    grid, axes = case.masses.grid, case.before_spine.patient_axes
    for number, mass in enumerate(case.proposal.plan.masses, start=1):
        box = case.masses.boxes.get(number)
        if box is None:
            continue
        voxels = np.argwhere(case.masses.voxels[box] == number) + [side.start for side in box]
        after = grid.to_world(voxels.mean(axis=0)[None])[0]
        before = case.deformation.field.sources(grid, voxels.mean(axis=0)[None])[0]
        sizes = np.ptp(grid.to_world(voxels.astype(float)) @ axes, axis=0) + grid.spacing_mm.mean()
        volume_ml = case.after_measures.masses_ml[mass.name]
        words = f"{number}  {mass.name}: {_size_words(asked.get(mass.name, {}), volume_ml)}; {_sides(sizes)}"
        reach_mm = max(LEAST_MM, TIMES * ball_diameter_mm(volume_ml))
        window = _window(case.before, mass)
        yield Grown(number, mass.number_in(case.before.labels), words, (before, after), reach_mm, window)


def _size_words(asked: Goals, volume_ml: float) -> str:
    """What was asked and what was measured."""
    diameter_mm = ball_diameter_mm(volume_ml)
    for goal, value in asked.items():
        if goal.endswith("_ml"):
            return f"asked {value:.2f} ml, measured {volume_ml:.2f} ml (a ball of {diameter_mm:.1f} mm)"
        return f"asked {value:.1f} mm, measured {diameter_mm:.1f} mm ({volume_ml:.2f} ml)"
    return f"measured {diameter_mm:.1f} mm ({volume_ml:.2f} ml)"


def _sides(sizes_mm: Float[np.ndarray, " 3"]) -> str:
    across, deep, high = sizes_mm
    return f"{across:.0f} mm wide, {deep:.0f} mm deep, {high:.0f} mm high"


def _window(scan: Scan, mass: Mass) -> tuple[float, float]:
    """The window that shows the structure that a mass grows in."""
    number = mass.number_in(scan.labels)
    if isinstance(mass.structure, Level) or scan.image is None or number not in scan.labels.boxes:
        return BONE_HU
    box = scan.labels.boxes[number]
    hu = scan.image.hu(scan.image.voxels[box][scan.labels.voxels[box] == number])
    if np.median(hu) < LUNG_BELOW_HU:
        return LUNG_HU
    return BONE_HU if np.quantile(hu, BONE_SHARE) > BONE_FROM_HU else SOFT_HU


def _draw_panel(axes: Axes, case: Case, lesion: Grown, view: View, when: int) -> None:
    """Draw a plane before (0) or after (1), with the outline of the structure, and after that of the lesion."""
    scan, centre, reach = (case.before, case.after)[when], lesion.middles[when], lesion.reach_mm
    steps = (np.arange(PANEL_PX) + 0.5 - PANEL_PX / 2) * 2 * reach / PANEL_PX
    plane = view.plane(case.before_spine.patient_axes)
    points = centre + steps[None, :, None] * plane[:, 0] - steps[:, None, None] * plane[:, 1]
    section, extent = _cut(scan.grid, points), (-reach, reach, -reach, reach)
    axes.imshow(_shades(scan, section, lesion), extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    _outline(axes, section.share(scan.labels, lesion.structure), steps, OWN_COLOUR, 0.6)
    if when and case.masses is not None:
        beside = section.sample((case.masses.voxels[section.box] > 0).astype(np.float32), 0.0)
        _outline(axes, beside, steps, MASS_COLOUR, 0.5)
        _outline(axes, section.share(case.masses, lesion.number), steps, MASS_COLOUR, 1.1)
    axes.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)
    axes.text(0.03, 0.97, f"{view.name}, {'after' if when else 'before'}", fontsize=9, va="top", **_written(axes))
    for place, side, towards in zip((0.03, 0.97), view.sides, ("left", "right"), strict=True):
        axes.text(place, 0.5, side, fontsize=9, ha=towards, va="center", **_written(axes))


def _written(axes: Axes) -> dict[str, Any]:
    """How words stand on a panel."""
    return {
        "transform": axes.transAxes,
        "color": INK,
        "path_effects": [withStroke(linewidth=2, foreground=GROUND)],
    }


@dataclass(frozen=True, eq=False)
class _Section:
    """A plane through a grid: the box of voxels around it, and its places in that box (fractional indices)."""

    box: Box
    places: Float[np.ndarray, "3 rows columns"]

    def sample(self, values: np.ndarray, beyond: float) -> Float[np.ndarray, "rows columns"]:
        """Values of the box between its voxels."""
        return ndimage.map_coordinates(
            values, self.places, output=np.float32, order=1, mode="constant", cval=beyond, prefilter=False
        )

    def share(self, labels: LabelMap, number: int) -> Float[np.ndarray, "rows columns"]:
        """Share of a label."""
        return self.sample((labels.voxels[self.box] == number).astype(np.float32), 0.0)


def _cut(grid: Grid, points: Float[np.ndarray, "rows columns 3"]) -> _Section:
    """Find a plane's points in a grid; beyond it too."""
    voxels = apply_affine(grid.voxel_from_world, points)
    low = np.clip(np.floor(voxels.min(axis=(0, 1))).astype(int) - 1, 0, np.array(grid.shape) - 1)
    high = np.clip(np.ceil(voxels.max(axis=(0, 1))).astype(int) + 2, low + 1, grid.shape)
    i, j, k = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return _Section((i, j, k), np.moveaxis(voxels - low, -1, 0))


def _shades(scan: Scan, section: _Section, lesion: Grown) -> np.ndarray:
    """Brightness in the lesion's window; without a CT the labels filled, its own structure the brightest."""
    if scan.image is not None:
        low, high = lesion.window_hu
        hu = section.sample(scan.image.hu(scan.image.voxels[section.box]), AIR_HU)
        return np.clip((hu - low) / (high - low), 0.0, 1.0)
    own = section.share(scan.labels, lesion.structure)
    filled = section.sample((scan.labels.voxels[section.box] > 0).astype(np.float32), 0.0) >= 0.5
    bright = np.where(own >= 0.5, 1.0, OTHERS * filled)
    return bright[..., None] * np.array(BONE)


def _outline(
    axes: Axes, share: Float[np.ndarray, "rows columns"], steps_mm: np.ndarray, colour: str, wide: float
) -> None:
    """Outline where a share is one half."""
    axes.add_collection(LineCollection(trace(share, steps_mm, -steps_mm), colors=colour, linewidths=wide))


def _draw_scale_bar(axes: Axes, reach_mm: float) -> None:
    """Draw a bar into the lower left corner; the panels of a row share its scale."""
    left, lower = 0.06 * reach_mm - reach_mm, 0.07 * reach_mm - reach_mm
    axes.plot([left, left + BAR_MM], [lower, lower], color=INK, linewidth=2, solid_capstyle="butt")
    text = axes.text(left + BAR_MM / 2, lower + 0.03 * reach_mm, f"{BAR_MM:.0f} mm", color=INK, fontsize=8)
    text.set(ha="center", va="bottom", path_effects=[withStroke(linewidth=2, foreground=GROUND)])
