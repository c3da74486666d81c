"""Pictures of a pose model: its first modes from the front and from the side, and its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import Spine, unit
from spinesim.anatomy.writing import replacing
from spinesim.series.picture import BAR_MM, COBB_COLOURS, DPI, GROUND, INK
from spinesim.series.reformat import CORONAL, SAGITTAL, View
from spinesim.shape.pose_model import PoseModel
from spinesim.shape.samples import stand_up
from spinesim.shape.scores import Scores

MODES = 4
"""Modes that are drawn, in two views each."""

MEAN = "#9aa3ad"
DEVIATIONS = {0: MEAN, -2: "#5fd3f3", 2: "#f39c6b"}
"""Standard deviations along a mode and their colours; the mean spine first, beneath the others."""

VIEWS = (CORONAL, SAGITTAL)
WIDTH_PX, MOST_HEIGHT_PX, SIDE_PX, GAP_PX, HEADER_PX, FOOTER_PX = 1600, 1000, 24, 8, 128, 56
SCORES_PX = 500
MARGIN_MM, NAME_MM = 14.0, 5.0
GRID = "#3a4048"
GROUP_COLOURS = (*COBB_COLOURS, "#8fd694", "#c9a7eb")
"""One a group of levels, from the head down."""

DOTS: dict[str, Any] = {"marker": "o", "markersize": 4}
NAMED = (Level.C7, Level.T1, Level.T4, Level.T8, Level.T12, Level.L1, Level.L3, Level.L5, Level.S)
"""Levels that are named beside the mean spine; the ends always are."""

Window = Float[np.ndarray, " 4"]


def draw_modes(model: PoseModel, title: str, path: Path) -> None:
    """Draw the first modes of a model at -2, 0 and +2 standard deviations.

    Each spine stands upright in its own patient axes, on its lowest vertebra: centre line, and both end plates of each
    vertebra, from the front (the patient's right on the left) and from the side (the front on the left), at one scale.

    Parameters
    ----------
    title : str
        The header line.
    path : Path
        The PNG file to write, 1600 pixels wide; an existing one is replaced whole. Same model, same bytes.

    Raises
    ------
    ConfigError
        When the model knows no vertebrae.
    OutputError
        When the file cannot be written there.
    """
    modes = np.eye(model.gaussian.modes.shape[1])[:MODES]
    spines = [
        {sd: stand_up(model, model.decode(model.gaussian.inverse(sd * mode))) for sd in DEVIATIONS} for mode in modes
    ]
    windows = [_window(spines, view) for view in VIEWS]
    widths, tall = np.array([window[1] - window[0] for window in windows] * len(modes)), windows[0][3] - windows[0][2]
    wide_px = WIDTH_PX - 2 * SIDE_PX - (len(widths) - 1) * GAP_PX
    scale = min(wide_px / widths.sum(), (MOST_HEIGHT_PX - HEADER_PX - FOOTER_PX) / tall)
    spare_mm = (wide_px / scale - widths.sum()) / len(widths)
    height_px = int(np.ceil(scale * tall)) + HEADER_PX + FOOTER_PX
    figure = Figure(figsize=(WIDTH_PX / DPI, height_px / DPI), dpi=DPI, facecolor=GROUND)
    figure.text(0.5, 1 - 32 / height_px, title, color=INK, fontsize=16, weight="bold", ha="center", va="center")
    lefts = SIDE_PX + np.cumsum([0.0, *(scale * (widths + spare_mm) + GAP_PX)])
    for panel, (left, right) in enumerate(zip(lefts, lefts[1:], strict=False)):
        mode, view = panel // 2, VIEWS[panel % 2]
        place = (left, FOOTER_PX, right - left - GAP_PX, scale * tall)
        axes = figure.add_axes(tuple(np.array(place) / (WIDTH_PX, height_px, WIDTH_PX, height_px)))
        _draw_view(axes, spines[mode], view, windows[panel % 2] + (-spare_mm / 2, spare_mm / 2, 0, 0))
        if view is CORONAL:
            share = 100 * model.gaussian.explained()[mode]
            words, top = f"mode {mode + 1}: {share:.1f} % of the variance", 1 - 72 / height_px
            middle = (left + lefts[panel + 2] - GAP_PX) / 2 / WIDTH_PX
            figure.text(middle, top, words, color=INK, fontsize=12, ha="center", va="center")
    _draw_scale_bar(figure.axes[0])
    _draw_legend(figure, height_px)
    _save(figure, path)


def _window(spines: list[dict[int, Spine]], view: View) -> Window:
    """Left, right, lower and upper edge (mm) of what a view must show; heights are those of both views."""
    ends = {
        v.name: np.concatenate([_bars(s, v).reshape(-1, 2) for mode in spines for s in mode.values()]) for v in VIEWS
    }
    across, up = ends[view.name][:, 0], np.concatenate([points[:, 1] for points in ends.values()])
    room = MARGIN_MM + NAME_MM
    return np.array([across.min() - room, across.max() + MARGIN_MM, up.min() - room, up.max() + MARGIN_MM])


def _project(points: Float[np.ndarray, "*b 3"], view: View) -> Float[np.ndarray, "*b 2"]:
    """Across and up in a view, mm."""
    return np.stack([-points[..., view.leftward], points[..., 2]], axis=-1)


def _bars(spine: Spine, view: View) -> Float[np.ndarray, "m 2 2"]:
    """Ends of both end plates of each vertebra, as a view shows them."""
    bars = []
    for vertebra in spine:
        reach = (vertebra.width_mm if view is CORONAL else vertebra.depth_mm) / 2
        for plate in (vertebra.superior, vertebra.inferior)[: 1 if vertebra.level == Level.S else 2]:
            axis = vertebra.axes[:, view.leftward]
            along = reach * unit(axis - (axis @ plate.normal) * plate.normal)
            bars.append(_project(np.stack([plate.centre - along, plate.centre + along]), view))
    return np.stack(bars)


def _draw_view(axes: Axes, spines: dict[int, Spine], view: View, window: Window) -> None:
    """Draw a mode in one view."""
    for sd, colour in DEVIATIONS.items():
        spine = spines[sd]
        line = _project(np.stack([vertebra.centre for vertebra in spine]), view)
        axes.plot(*line.T, color=colour, linewidth=1.2, marker="o", markersize=2.4)
        axes.add_collection(LineCollection(list(_bars(spine, view)), colors=colour, linewidths=1.6))
    _draw_names(axes, spines[0], view)
    axes.set(xlim=window[:2], ylim=window[2:], xticks=[], yticks=[], facecolor="black")
    axes.spines[:].set_visible(False)
    axes.set_title(view.name, color=INK, fontsize=11, pad=6)
    for place, side, towards in zip((0.03, 0.97), view.sides, ("left", "right"), strict=True):
        axes.text(place, 0.99, side, transform=axes.transAxes, color=INK, fontsize=12, va="top", ha=towards)


def _draw_names(axes: Axes, spine: Spine, view: View) -> None:
    """Name some levels to the left of the mean spine."""
    for vertebra in spine:
        if vertebra.level in (*NAMED, spine.levels[0], spine.levels[-1]):
            across, up = _project(vertebra.centre, view)
            left = across - NAME_MM - (vertebra.width_mm if view is CORONAL else vertebra.depth_mm) / 2
            name = axes.text(left, up, vertebra.level.name, color=INK, fontsize=8, ha="right", va="center")
            name.set_path_effects([withStroke(linewidth=2, foreground="black")])


def _draw_scale_bar(axes: Axes) -> None:
    """Draw a bar of 50 mm into the lower left corner; all views share its scale."""
    left, lower = axes.get_xlim()[0] + 5, axes.get_ylim()[0] + 5
    axes.plot([left, left + BAR_MM], [lower, lower], color=INK, linewidth=2, solid_capstyle="butt")
    axes.text(left + BAR_MM / 2, lower + 3, f"{BAR_MM:.0f} mm", color=INK, fontsize=8, ha="center", va="bottom")


def _draw_legend(figure: Figure, height_px: int) -> None:
    """Say below the views which colour is which."""
    words = {-2: "\N{MINUS SIGN}2 SD", 0: "mean", 2: "+2 SD"}
    for place, (sd, word) in zip((0.42, 0.5, 0.58), words.items(), strict=True):
        figure.text(place, 26 / height_px, word, color=DEVIATIONS[sd], fontsize=12, ha="center", va="center")


def draw_scores(scores: Scores, path: Path) -> None:
    """Draw compactness, generalisation and specificity by the number of modes, with their standard errors.

    Parameters
    ----------
    scores : Scores
    path : Path
        The PNG file to write; an existing one is replaced whole.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    figure, panels = _score_panels("error of left-out cases", "samples to nearest case")
    panels[0].plot(np.arange(len(scores.compactness)), 100 * scores.compactness, color=COBB_COLOURS[0], **DOTS)
    _draw_errors(panels[1], scores.generalisation, scores.generalisation_error)
    _draw_errors(panels[2], scores.specificity, scores.specificity_error)
    _save_scores(figure, path)


def draw_group_scores(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the scores of a morphology model by the number of modes, a line for each group of levels.

    Parameters
    ----------
    rows : sequence of mapping
        Those of :func:`spinesim.shape.morphology_scores.score_morphology`.
    path : Path
        The PNG file to write; an existing one is replaced whole.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    figure, panels = _score_panels("left-out vertebrae (mm)", "samples to nearest vertebra (mm)")
    columns = (("compactness", 100.0), ("generalisation_mm", 1.0), ("specificity_mm", 1.0))
    for (name, factor), axes in zip(columns, panels, strict=True):
        for group, colour in zip(dict.fromkeys(row["levels"] for row in rows), cycle(GROUP_COLOURS), strict=False):
            own = [row for row in rows if row["levels"] == group and row[name] is not None]
            counts, values = [row["modes"] for row in own], [factor * row[name] for row in own]
            axes.plot(counts, values, color=colour, label=group, **DOTS)
    panels[0].legend(labelcolor=INK, facecolor=GROUND, edgecolor=GRID)
    _save_scores(figure, path)


def _score_panels(left_out: str, drawn: str) -> tuple[Figure, list[Axes]]:
    """Three panels for compactness, generalisation and specificity by modes."""
    figure = Figure(figsize=(WIDTH_PX / DPI, SCORES_PX / DPI), dpi=DPI, facecolor=GROUND)
    panels: list[Axes] = figure.subplots(1, 3).tolist()
    words = ("compactness: variance told (%)", f"generalisation: {left_out}", f"specificity: {drawn}")
    for axes, title in zip(panels, words, strict=True):
        axes.set_title(title, color=INK, fontsize=12)
        axes.set_xlabel("modes", color=INK)
        axes.set_facecolor("black")
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        axes.tick_params(colors=INK)
        axes.grid(color=GRID, linewidth=0.6)
        axes.spines[:].set_color(GRID)
    figure.subplots_adjust(left=0.045, right=0.985, bottom=0.12, top=0.9, wspace=0.14)
    return figure, panels


def _draw_errors(axes: Axes, values: Float[np.ndarray, "modes 2"], errors: Float[np.ndarray, "modes 2"]) -> None:
    """Draw mm and degrees by the number of modes, each with its standard error."""
    for rank, (name, factor) in enumerate({"mm": 1.0, "degrees": np.rad2deg(1.0)}.items()):
        axes.errorbar(
            np.arange(len(values)),
            factor * values[:, rank],
            yerr=factor * errors[:, rank],
            color=COBB_COLOURS[1 + rank],
            label=name,
            capsize=2,
            **DOTS,
        )
    axes.legend(labelcolor=INK, facecolor=GROUND, edgecolor=GRID)


def _save_scores(figure: Figure, path: Path) -> None:
    """Write panels of scores, each from 0 on."""
    for axes in figure.axes:
        axes.set_ylim(bottom=0)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG whole or not at all, without the name of the program."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    with replacing(path) as stream:
        stream.write(buffer.getvalue())
