"""A picture of a morphology model: the first modes of a level's mean vertebra, from above, from the left and behind."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from spinesim.anatomy.levels import Level
from spinesim.anatomy.writing import replacing
from spinesim.series.picture import DPI, GROUND, INK
from spinesim.shape.morphology import Code, MorphologyModel
from spinesim.shape.specimen import NOBODY
from spinesim.shape.surface import Surface

MODES, DEVIATIONS = 4, (-2.0, 0.0, 2.0)
"""Modes that are drawn, and at how many standard deviations; size comes first."""

VIEWS = (
    ("from above", np.array([[-1.0, 0, 0], [0, 1, 0], [0, 0, 1]])),
    ("from the left", np.array([[0, -1.0, 0], [0, 0, 1], [-1, 0, 0]])),
    ("from behind", np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])),
)
"""Rows: across, up, and towards the eye, in the vertebra's frame."""

LIGHT = np.array([-0.35, 0.5, 0.8]) / np.linalg.norm([-0.35, 0.5, 0.8])
WIDE_PX, TALL_PX = 1700, 1500


def draw_morphology(model: MorphologyModel, level: Level, title: str, path: Path) -> None:
    """Draw size and the first modes at -2, 0 and +2 standard deviations, one row each.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    modes = min(MODES, model.gaussian.modes.shape[1])
    bare = np.zeros(model.gaussian.modes.shape[1])
    rows = [("size", [Code(level, NOBODY, sd * model.size_sd, bare) for sd in DEVIATIONS])]
    shares = model.gaussian.explained()
    for mode in range(modes):
        unit = np.eye(len(bare))[mode]
        name = f"mode {mode + 1}\n{100 * shares[mode]:.0f} %"
        rows.append((name, [Code(level, NOBODY, 0.0, sd * unit) for sd in DEVIATIONS]))
    figure = Figure(figsize=(WIDE_PX / DPI, TALL_PX / DPI), dpi=DPI, facecolor=GROUND)
    figure.text(0.5, 0.975, title, color=INK, fontsize=15, weight="bold", ha="center", va="center")
    panels = figure.subplots(len(rows), len(VIEWS) * len(DEVIATIONS), squeeze=False)
    reach = np.abs(model.mean(level, size=float(np.exp(2 * model.size_sd))).vertices).max() * 1.08
    for (name, codes), line in zip(rows, panels, strict=True):
        line[0].set_ylabel(name, color=INK, rotation=0, ha="right", va="center", fontsize=10)
        for rank, axes in enumerate(line):
            (view, turn), number = VIEWS[rank // len(DEVIATIONS)], rank % len(DEVIATIONS)
            _draw(axes, model.decode(codes[number]), turn, reach)
            if axes in panels[0]:
                axes.set_title(f"{view}\n{DEVIATIONS[number]:+.0f} SD", color=INK, fontsize=9)
    figure.subplots_adjust(left=0.06, right=0.995, bottom=0.01, top=0.91, wspace=0.02, hspace=0.02)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    with replacing(path) as stream:
        stream.write(buffer.getvalue())


def _draw(axes: Axes, surface: Surface, turn: Float[np.ndarray, "3 3"], reach: float) -> None:
    """Draw a surface with light on it, the far triangles first."""
    corners = surface.corners @ turn.T
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    seen = np.flatnonzero(normals[:, 2] > 0)
    order = seen[np.argsort(corners[seen].mean(axis=1)[:, 2])]
    bright = 0.25 + 0.7 * np.clip(normals[order] @ LIGHT, 0, 1)
    colours = bright[:, None] * np.array([0.93, 0.88, 0.78])
    axes.add_collection(PolyCollection(list(corners[order][..., :2]), facecolors=colours, edgecolors="face", lw=0.2))
    middle = turn @ np.array([0.0, -0.35 * reach, -0.1 * reach])
    axes.set(xlim=middle[0] + np.array([-reach, reach]) * 0.85, ylim=middle[1] + np.array([-reach, reach]) * 0.85)
    axes.set(xticks=[], yticks=[], facecolor="black", aspect="equal")
    axes.spines[:].set_visible(False)
