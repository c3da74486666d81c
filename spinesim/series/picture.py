"""The picture of a case: the spine before and after, from the front and from the side, with its angles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from contourpy import LineType, contour_generator
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from scipy import ndimage

from spinesim.anatomy.curves import Curve
from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import Measures, measure_spine
from spinesim.anatomy.scan import LabelMap, Scan
from spinesim.anatomy.threads import map_threads
from spinesim.anatomy.vertebra import EndPlate, Spine, Vertebra
from spinesim.series.reformat import CORONAL, Reformation, centre_line, curved_coronal, curved_sagittal

WIDTH_PX, MOST_HEIGHT_PX, DPI = 1600, 1100, 100
SIDE_PX, HEADER_PX, FOOTER_PX, GAP_PX = 24, 100, 92, 16
PACK_LEVEL = 2
"""Of zlib's levels 1 to 9: 6 takes three times as long for a tenth less."""

WINDOW_HU = (-250.0, 650.0)
LISTED_RAD = np.deg2rad(10.0)
"""A further curve is drawn from 10 degrees, where scoliosis begins (SRS)."""

AROUND_MM = {"coronal": (70.0, 70.0, 40.0, 40.0), "sagittal": (60.0, 85.0, 40.0, 40.0)}
"""What is shown at least to the left, right, below and above of the bodies' centres."""

NAME_MM, PLATE_LINE_MM, BAR_MM = 5.0, 26.0, 50.0
"""Gap between a body and its name, reach of an end plate's line beyond its body, length of the scale bar."""

GROUND, INK, BONE = "#0b0d10", "#e8eaed", (0.42, 0.51, 0.62)
COBB_COLOURS = ("#ffd23f", "#5fd3f3", "#f39c6b")
"""One a curve, the largest first; more than three curves are not drawn."""

MASS_COLOUR = "#00e5ff"
"""Of the outline of what grew."""

LEVEL_COLOURS = ("#ff6b6b", "#4ecdc4", "#c7a0ff", "#9be564", "#ffa94d", "#74a9ff")

Window = Float[np.ndarray, " 4"]
Place = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Panel:
    """One of the four views: what is seen, and the spine and measures that belong to it."""

    when: str
    reformation: Reformation
    spine: Spine
    measures: Measures

    @cached_property
    def seen(self) -> tuple[Vertebra, ...]:
        """The vertebrae whose centre is in the scan: the measured ones, and cut ones with enough left."""
        section = self.reformation
        return tuple(v for v in self.spine if v.measured or section.level_at(v.centre) == v.level)

    @cached_property
    def centres(self) -> Float[np.ndarray, "n 2"]:
        """Centres of those vertebrae in the picture (mm to the right and up)."""
        return self.reformation.project(np.stack([vertebra.centre for vertebra in self.seen]))


def draw_case(
    before: Scan,
    before_spine: Spine,
    after: Scan,
    after_spine: Spine,
    masses: LabelMap | None,
    title: str,
    path: Path,
) -> None:
    """Draw a spine before and after as curved sections, with outlines, centre line, Cobb lines and sagittal angles.

    Both are seen along the patient axes of the spine before, at one scale. The angles are those of
    :func:`spinesim.anatomy.measure.measure_spine`, each in its own spine's axes.

    Parameters
    ----------
    before, after : Scan
        The scan before and after; without a CT the labels are drawn filled.
    before_spine, after_spine : Spine
        The spines in them.
    masses : LabelMap or None
        What grew in the scan after, to be outlined where a section meets it.
    title : str
        The header line.
    path : Path
        The PNG file to write, 1600 pixels wide and up to 1100 high; same input, same bytes.
    """
    axes = before_spine.patient_axes
    views = [
        (reformat, when, scan, spine, grown)
        for reformat in (curved_coronal, curved_sagittal)
        for when, scan, spine, grown in (("before", before, before_spine, None), ("after", after, after_spine, masses))
    ]
    sections = map_threads(lambda view: view[0](view[2], view[3], axes, view[4]), views)
    panels = [
        Panel(when, section, spine, measure_spine(spine))
        for (_, when, _, spine, _), section in zip(views, sections, strict=True)
    ]
    windows, places, height_px = _arrange(panels)
    figure = Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI, facecolor=GROUND)
    size = min(17.0, 17.0 * 80 / len(title))
    figure.text(0.5, 1 - 36 / height_px, title, color=INK, fontsize=size, weight="bold", ha="center", va="center")
    for panel, window, place in zip(panels, windows, places, strict=True):
        _draw_panel(figure.add_axes(place), panel, window)
    _draw_scale_bar(figure.axes[0], windows[0])
    write_figure(figure, path)


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure on an opaque ground as a PNG file of ``DPI``; same figure, same bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.save(path, "PNG", compress_level=PACK_LEVEL, dpi=(DPI, DPI))


def _arrange(panels: list[Panel]) -> tuple[list[Window], list[Place], int]:
    """Choose what each panel shows and where it stands, all at one scale as large as fits, and the figure's height."""
    windows = [_least_window(panels[:2]), _least_window(panels[2:])]
    wide_px, high_px = WIDTH_PX - 2 * SIDE_PX - 3 * GAP_PX, MOST_HEIGHT_PX - HEADER_PX - FOOTER_PX
    wide_mm, high_mm = 2 * sum(w[1] - w[0] for w in windows), windows[0][3] - windows[0][2]
    scale = min(wide_px / wide_mm, high_px / high_mm)
    spare_mm = (wide_px / scale - wide_mm) / 8
    windows = [_widened(windows[n // 2], spare_mm, panels[n - n % 2 : n - n % 2 + 2]) for n in range(4)]
    widths = scale * np.array([w[1] - w[0] for w in windows])
    lefts = (WIDTH_PX - widths.sum() - 3 * GAP_PX) / 2 + np.cumsum(widths) - widths + GAP_PX * np.arange(4)
    height_px = int(np.ceil(scale * high_mm)) + HEADER_PX + FOOTER_PX
    lower, tall = FOOTER_PX / height_px, scale * high_mm / height_px
    places = [(left / WIDTH_PX, lower, width / WIDTH_PX, tall) for left, width in zip(lefts, widths, strict=True)]
    return windows, places, height_px


def _least_window(panels: list[Panel]) -> Window:
    """Left, right, lower and upper edge (mm) of what a view must show of both spines; not above or below the scans."""
    centres = np.concatenate([panel.centres for panel in panels])
    left, right, below, above = AROUND_MM[panels[0].reformation.view.name]
    low, high = centres.min(axis=0) - (left, below), centres.max(axis=0) + (right, above)
    edges = np.array([panel.reformation.extent_mm for panel in panels])
    return np.array([low[0], high[0], max(low[1], edges[:, 2].min()), min(high[1], edges[:, 3].max())])


def _widened(window: Window, spare_mm: float, panels: list[Panel]) -> Window:
    """A window with more at either side, as far as one of the scans reaches."""
    edges = np.array([panel.reformation.extent_mm for panel in panels])
    left = min(window[0], max(window[0] - spare_mm, edges[:, 0].min()))
    right = max(window[1], min(window[1] + spare_mm, edges[:, 1].max()))
    return np.array([left, right, window[2], window[3]])


def _draw_panel(axes: Axes, panel: Panel, window: Window) -> None:
    """Draw a view: section, outlines, names, centre line, angles, and the letters of its sides."""
    seen = panel.reformation
    axes.imshow(_shades(seen), extent=seen.extent_mm, cmap="gray", vmin=0, vmax=1, interpolation="bilinear")
    _draw_levels(axes, seen)
    _draw_centres(axes, panel)
    angles = sagittal_words(panel.measures)
    said = _draw_curves(axes, panel) if seen.view is CORONAL else [(line, INK) for line in angles]
    axes.set(xlim=window[:2], ylim=window[2:], xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)
    _draw_captions(axes, panel, said)


def _shades(reformation: Reformation) -> np.ndarray:
    """Brightness in the bone window, (rows, columns); without a CT the labels filled, (rows, columns, rgb)."""
    if reformation.hu is None:
        return np.where((reformation.levels > 0)[..., None], BONE, 0.0)
    low, high = WINDOW_HU
    return np.clip((reformation.hu - low) / (high - low), 0.0, 1.0)


def _draw_levels(axes: Axes, reformation: Reformation) -> None:
    """Outline each level on the section, and what grew."""
    lines: list[np.ndarray] = []
    colours: list[str] = []
    for rank, found in _outlines(reformation.levels, reformation):
        lines += found
        colours += [_colour(Level(rank))] * len(found)
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=0.9))
    if reformation.masses is not None:
        grown = [line for _, found in _outlines(reformation.masses, reformation) for line in found]
        axes.add_collection(LineCollection(grown, colors=MASS_COLOUR, linewidths=1.2))


def _outlines(
    numbers: UInt8[np.ndarray, "rows columns"], reformation: Reformation
) -> Iterator[tuple[int, list[np.ndarray]]]:
    """The outlines of each number that a section meets, smoothed within a pixel."""
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if box is None:
            continue
        rows, columns = (slice(max(part.start - 3, 0), part.stop + 3) for part in box)
        mask = ndimage.gaussian_filter((numbers[rows, columns] == number).astype(np.float32), 0.8)
        if min(mask.shape) > 1:
            across, heights = reformation.across_mm[columns], reformation.heights_mm[rows]
            yield number, trace(mask, across, heights)


def trace(
    share: Float[np.ndarray, "rows columns"],
    across_mm: Float[np.ndarray, " columns"],
    heights_mm: Float[np.ndarray, " rows"],
) -> list[Float[np.ndarray, "n 2"]]:
    """The lines at which a share of something is one half, in the millimetres of a picture."""
    generator = contour_generator(across_mm, heights_mm, share, line_type=LineType.Separate)
    return [np.asarray(line) for line in generator.lines(0.5)]


def _colour(level: Level) -> str:
    """Colour of a level's outline; neighbours differ."""
    return LEVEL_COLOURS[level % len(LEVEL_COLOURS)]


def _draw_centres(axes: Axes, panel: Panel) -> None:
    """Draw the centre line of the bodies, and each level's name beside its body."""
    view = panel.reformation.view
    heights = np.linspace(panel.centres[:, 1].min(), panel.centres[:, 1].max(), 200)
    line = centre_line(panel.spine, panel.reformation.patient_axes)(heights)
    axes.plot(-line[:, view.leftward], heights, color="white", linewidth=0.9, alpha=0.75)
    for vertebra, (across, height) in zip(panel.seen, panel.centres, strict=True):
        left = across - NAME_MM - (vertebra.width_mm if view is CORONAL else vertebra.depth_mm) / 2
        name = axes.text(left, height, vertebra.level.name, fontsize=9, ha="right", va="center", clip_on=True)
        name.set(color=_colour(vertebra.level), path_effects=[withStroke(linewidth=2, foreground=GROUND)])


def _draw_curves(axes: Axes, panel: Panel) -> list[tuple[str, str]]:
    """Draw the end-plate lines of the largest curve and of the others that count; give their words and colours."""
    curves = [curve for rank, curve in enumerate(panel.measures.curves) if rank == 0 or curve.cobb >= LISTED_RAD]
    said = []
    for rank, (curve, colour) in enumerate(zip(curves, COBB_COLOURS, strict=False)):
        width = 1.2 if rank else 2.2
        upper, lower = panel.spine[curve.upper], panel.spine[curve.lower]
        for vertebra, plate in ((upper, upper.superior), (lower, lower.inferior)):
            ends = _plate_line(plate, panel.reformation, vertebra.width_mm / 2 + PLATE_LINE_MM)
            axes.plot(*ends, color=colour, linewidth=width, solid_capstyle="round")
        said.append((curve_words(curve), colour))
    return said or [("no coronal curve of 5\N{DEGREE SIGN} or more", INK)]


def _plate_line(plate: EndPlate, reformation: Reformation, reach_mm: float) -> Float[np.ndarray, "2 2"]:
    """Ends (columns) of an end plate's line in the picture, in mm to the right and up (rows)."""
    centre = reformation.project(plate.centre)
    across, up = reformation.project(plate.normal)
    along = np.array([up, -across]) / np.hypot(across, up)
    return np.column_stack([centre - reach_mm * along, centre + reach_mm * along])


def curve_words(curve: Curve) -> str:
    """A curve as it is said: ``Cobb T6-T12 35.0° right, apex T9``."""
    angle = f"{np.rad2deg(curve.cobb):.1f}\N{DEGREE SIGN}"
    return f"Cobb {curve.upper.name}-{curve.lower.name} {angle} {curve.side}, apex {curve.apex_name}"


def sagittal_words(measures: Measures) -> list[str]:
    """Kyphosis and lordosis, each over the first of its pairs of levels that was measured."""
    angles = {"Kyphosis": measures.kyphosis, "Lordosis": measures.lordosis}
    firsts = [(name, *next(iter(found.items()))) for name, found in angles.items() if found]
    words = [f"{name} {a.name}-{b.name} {np.rad2deg(angle):.1f}\N{DEGREE SIGN}" for name, (a, b), angle in firsts]
    return words or ["kyphosis, lordosis: end levels not in view"]


def _draw_captions(axes: Axes, panel: Panel, said: Sequence[tuple[str, str]]) -> None:
    """Write the panel's name above it, its angles below it, and the letters of its sides into its corners."""
    view = panel.reformation.view
    axes.set_title(f"{panel.when}, {view.name}", color=INK, fontsize=13, pad=8)
    for place, side, towards in zip((0.025, 0.975), view.sides, ("left", "right"), strict=True):
        letter = axes.text(place, 0.985, side, transform=axes.transAxes, fontsize=15, weight="bold")
        letter.set(color=INK, va="top", ha=towards, path_effects=[withStroke(linewidth=3, foreground=GROUND)])
    for rank, (line, colour) in enumerate(said):
        text = axes.annotate(line, (0.5, 0), (0, -10 - 17 * rank), "axes fraction", "offset points")
        text.set(color=colour, fontsize=11, ha="center", va="top")


def _draw_scale_bar(axes: Axes, window: Window) -> None:
    """Draw a bar of 50 mm into the lower left corner; all panels share its scale."""
    left, lower = window[0] + 8, window[2] + 8
    axes.plot([left, left + BAR_MM], [lower, lower], color=INK, linewidth=2, solid_capstyle="butt")
    text = axes.text(left + BAR_MM / 2, lower + 3, f"{BAR_MM:.0f} mm", color=INK, fontsize=9, ha="center", va="bottom")
    text.set_path_effects([withStroke(linewidth=3, foreground=GROUND)])
