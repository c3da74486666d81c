"""Recipe of the model ``morphology``: vertebrae C3 to L5 of adults, in five groups of levels.

python -m spinesim.shape_models.build_morphology --kept FOLDER    writes morphology.npz and morphology_scores.csv

Registration takes about four seconds a vertebra; FOLDER keeps what is done, and the recipe goes on where it was.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from spinesim.anatomy.levels import USUAL, Level, region
from spinesim.anatomy.report import write_csv
from spinesim.phantom.table import read_dimensions
from spinesim.shape.bone import cut_bone
from spinesim.shape.correspondence import Template, match
from spinesim.shape.meshing import mesh_bone
from spinesim.shape.morphology import Code, MorphologyModel, fit_morphology
from spinesim.shape.morphology_file import write_morphology
from spinesim.shape.morphology_scores import measure_generalisation, measure_specificity
from spinesim.shape.specimen import NOBODY, Person, Specimen, match_specimen
from spinesim.shape.surface import Surface

from .published import HERE  # noqa: TID251 - relative, as it must be
from .vertebra_population import (  # noqa: TID251
    KINDS,
    Drawn,
    draw_labels,
    draw_persons,
    locate,
    mean_person,
    read_spreads,
    with_values,
)
from .vertebra_ruler import measure_surface  # noqa: TID251

GROUPS = {
    (Level.C3, Level.C7): (Level.C5, 2.0),
    (Level.T1, Level.T4): (Level.T3, 2.4),
    (Level.T5, Level.T8): (Level.T7, 2.4),
    (Level.T9, Level.T12): (Level.T11, 2.6),
    (Level.L1, Level.L5): (Level.L3, 3.0),
}
"""First and last level of a group: the level that its triangles are drawn on, and their edge (mm)."""

SEED = 1

MODES = 14
"""Of each group; what they leave is told in the card."""

CLOUTHIER = {
    "height": (27.75, 1.88),
    "width": (46.68, 3.90),
    "depth": (35.04, 2.52),
    "canal_w": (26.69, 2.06),
    "canal_d": (16.68, 1.49),
    "spinous": (51.6, 3.72),
}
"""Mean and SD of 87 patients, each the mean of L2 to L5 (Clouthier 2023, J Biomech 146:111421; data MIT), mm."""


def levels_of(group: tuple[Level, Level]) -> tuple[Level, ...]:
    """The levels of a group, from the head down."""
    return tuple(level for level in USUAL if group[0] <= level <= group[1])


def build_templates(group: tuple[Level, Level]) -> dict[Level, Surface]:
    """One net on the mean vertebra of each level of a group: drawn on one, carried on from neighbour to neighbour."""
    levels, (middle, edge_mm) = levels_of(group), GROUPS[group]
    rng = np.random.default_rng(SEED)
    bones = {}
    for level in levels:
        labels = draw_labels(mean_person(level), rng=rng)
        bones[level] = cut_bone(labels, locate(labels, level))
    templates = {middle: mesh_bone(bones[middle], edge_mm)}
    start = levels.index(middle)
    for run in (levels[start + 1 :], levels[:start][::-1]):
        last = middle
        for level in run:
            found = match(Template(templates[last]), bones[level], level.name)
            templates[level] = templates[last].with_vertices(found.vertices)
            last = level
    return templates


def match_population(group: tuple[Level, Level], kept: Path) -> tuple[Surface, list[Specimen]]:
    """The vertebrae of all persons at the levels of a group, in correspondence; what is kept is not done again."""
    kept.mkdir(exist_ok=True, parents=True)
    file = kept / f"templates_{group[0].name}.npz"
    if not file.is_file():
        surfaces = build_templates(group)
        triangles = surfaces[GROUPS[group][0]].triangles
        parts = {"triangles": triangles, **{level.name: s.vertices for level, s in surfaces.items()}}
        np.savez(file, allow_pickle=False, **parts)
    with np.load(file) as found:
        templates = {level: Template(Surface(found[level.name], found["triangles"])) for level in levels_of(group)}
    drawn = [person for level in levels_of(group) for person in draw_persons(level, seed=SEED)]
    specimens = [_specimen(templates[person.dims.level], person, kept) for person in drawn]
    return templates[GROUPS[group][0]].surface, specimens


def _specimen(template: Template, drawn: Drawn, kept: Path) -> Specimen:
    """One vertebra, matched or kept."""
    level = drawn.dims.level
    file = kept / f"{level.name}_{drawn.number:02d}.npz"
    if not file.is_file():
        labels = draw_labels(drawn, rng=np.random.default_rng([SEED, int(level), drawn.number]))
        done = match_specimen(template, labels, locate(labels, level))
        numbers = {f"measure {name}": np.array(value) for name, value in done.measures.items()}
        numbers |= {name: np.array(value) for name, value in done.match.items()}
        np.savez(file, allow_pickle=False, vertices=done.vertices, **numbers)
        print(labels.source, done.match, flush=True)  # noqa: T201
    with np.load(file) as found:
        measures = {k.removeprefix("measure "): float(found[k]) for k in found.files if k.startswith("measure ")}
        told = {k: float(found[k]) for k in found.files if k.endswith("_mm") and not k.startswith("measure ")}
        vertices = found["vertices"]
    asked = {name: value for name, value in asdict(drawn.dims).items() if name in KINDS}
    return Specimen(level, vertices, measures | asked, Person(drawn.sex), file.stem, told)


def build_morphology(kept: Path) -> tuple[tuple[MorphologyModel, ...], list[Specimen]]:
    """The models of all groups, from the head down, and the vertebrae that they are of."""
    models, all_specimens = [], []
    for group in GROUPS:
        template, specimens = match_population(group, kept)
        models.append(fit_morphology(specimens, template.triangles, MODES))
        all_specimens += specimens
    return tuple(models), all_specimens


def score(models: Sequence[MorphologyModel]) -> list[dict[str, Any]]:
    """Measure mean vertebrae, and how they change with each mode and with size; hold both against the published ones.

    The spread is that of all modes, of size and of sex, each measured at two standard deviations to either side.
    """
    rows = []
    for model in models:
        for level in model.levels:
            print(f"measuring {level.name}", flush=True)  # noqa: T201
            mean, spread = measure_level(model, level)
            table, published = read_dimensions()[level], read_spreads()[level]
            rows += [
                _row(level.name, name, getattr(table, name), published[name], mean[name], spread[name])
                for name in KINDS
                if not (name.startswith("pedicle") and region(level) == "cervical")
            ]
            rows.append(_row(level.name, "spinous", None, None, mean["spinous"], spread["spinous"]))
    return rows + _clouthier(rows)


def measure_level(model: MorphologyModel, level: Level) -> tuple[dict[str, float], dict[str, float]]:
    """Dimensions of the mean vertebra of a level, and their standard deviations to first order (mm)."""
    modes = model.gaussian.modes.shape[1]
    middle = Code(level, NOBODY, 0.0, np.zeros(modes))

    def measured(code: Code) -> np.ndarray:
        about = read_dimensions()[level]
        told = model.measure(code)
        about = with_values(about, {name: told[name] for name in KINDS})
        found = measure_surface(model.decode(code), about)
        return np.array([found[name] for name in (*KINDS, "spinous")])

    total = 2 * np.hypot(model.size_sd, model.size_by_sex)
    pairs = [(replace(middle, weights=2 * unit), replace(middle, weights=-2 * unit)) for unit in np.eye(modes)]
    pairs.append((replace(middle, log_size=total), replace(middle, log_size=-total)))
    steps = np.array([(measured(there) - measured(back)) / 4 for there, back in pairs])
    names = (*KINDS, "spinous")
    return (
        dict(zip(names, measured(middle).tolist(), strict=True)),
        dict(zip(names, np.sqrt((steps**2).sum(axis=0)).tolist(), strict=True)),
    )


def tell_group(model: MorphologyModel, specimens: Sequence[Specimen]) -> dict[str, Any]:
    """Compactness, generalisation (persons left out one by one) and specificity of a group, for the card."""
    (left,) = measure_generalisation(specimens, model.triangles, MODES)
    rng = np.random.default_rng(1)
    return {
        "levels": f"{model.levels[0].name}-{model.levels[-1].name}",
        "vertices": len(model.gaussian.mean) // 3,
        "missed_mm": round(float(np.mean([each.match["missed_mean_mm"] for each in specimens])), 3),
        "missed_95_worst_mm": round(float(np.max([each.match["missed_95_mm"] for each in specimens])), 2),
        "compactness": [round(float(share), 3) for share in np.cumsum(model.gaussian.explained())[[0, 4, 9, 13]]],
        "left_out_mm": round(float(left.mean()), 3),
        "left_out_worst_mm": round(float(left.max()), 3),
        "specificity_mm": round(float(measure_specificity(model, specimens, 100, rng=rng).mean()), 3),
    }


def _row(level: str, name: str, mean: float | None, sd: float | None, got: float, spread: float) -> dict[str, Any]:
    """One dimension: published and model's mean and SD (mm), and how far the model's are off in percent."""
    return {
        "level": level,
        "dimension": name,
        "published_mean": mean and round(mean, 2),
        "model_mean": round(got, 2),
        "mean_off_percent": mean and round(100 * (got / mean - 1), 1),
        "published_sd": sd and round(sd, 2),
        "model_sd": round(spread, 2),
        "sd_off_percent": sd and round(100 * (spread / sd - 1), 1),
    }


def _clouthier(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over L2 to L5 against Clouthier 2023; the spread is that of a level here and of the mean of four there."""
    names = {
        "height": ("h_ant", "h_post"),
        "width": ("w_sup", "w_inf"),
        "depth": ("d_sup", "d_inf"),
        "canal_w": ("canal_w",),
        "canal_d": ("canal_d",),
        "spinous": ("spinous",),
    }
    lumbar = [row for row in rows if row["level"] in ("L2", "L3", "L4", "L5")]
    out = []
    for name, parts in names.items():
        chosen = [row for row in lumbar if row["dimension"] in parts]
        mean, sd = (float(np.mean([row[key] for row in chosen])) for key in ("model_mean", "model_sd"))
        out.append(_row("L2-L5 Clouthier 2023", name, *CLOUTHIER[name], mean, sd))
    return out


def main() -> None:
    """Build the model, write it, and score it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kept", type=Path, required=True, help="folder for matched vertebrae")
    models, specimens = build_morphology(parser.parse_args().kept)
    write_morphology(models, HERE / "morphology.npz")
    told = [tell_group(model, [each for each in specimens if each.level in model.levels]) for model in models]
    print(*told, sep="\n")  # noqa: T201
    write_csv(score(models), HERE / "morphology_scores.csv")


if __name__ == "__main__":
    main()
