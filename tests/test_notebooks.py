"""Every notebook runs from the top, and says what its pictures were made with."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

NOTEBOOKS = sorted(Path(__file__).resolve().parents[1].joinpath("notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_the_top_and_shows_its_pictures(path):
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    plt.switch_backend("Agg")
    names: dict[str, object] = {}
    for cell in cells:
        plt.close("all")
        exec("".join(cell["source"]), names)
        shown = sum("image/png" in output.get("data", {}) for output in cell["outputs"])
        assert shown == len(plt.get_fignums())
    plt.close("all")
