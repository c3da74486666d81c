"""Fit morphology models to a folder of label maps, and keep beside them what they were fitted to."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spinesim.anatomy.levels import USUAL, Level
from spinesim.anatomy.report import write_json
from spinesim.anatomy.threads import THREADS
from spinesim.anatomy.writing import digest
from spinesim.errors import ConfigError
from spinesim.shape.cohort import LeftOut
from spinesim.shape.coverage import parse_run
from spinesim.shape.fitting import FEWEST_CASES, check_out, report_file
from spinesim.shape.morphology import MorphologyModel, fit_morphology
from spinesim.shape.morphology_file import read_morphology, write_morphology
from spinesim.shape.shipped import read_shipped_morphology
from spinesim.shape.specimen import Specimen
from spinesim.shape.vertebra_cohort import Bones, match_cohort, read_bones


@dataclass(frozen=True, eq=False)
class MorphologyFit:
    """Morphology models and where they came from.

    Parameters
    ----------
    models : tuple of MorphologyModel
        One for each group of levels, from the head down.
    bones : tuple of Bones
        What each label map gave.
    specimens : tuple of Specimen
        The vertebrae that the models were fitted to.
    left_out : tuple of LeftOut
        Label maps and vertebrae that they were not fitted to, and why.
    anew : int
        Label maps that were matched in this run; the others were kept from earlier ones.
    passed_over : int
        Files that were not looked at, for others are named as VerSe's label maps.
    """

    models: tuple[MorphologyModel, ...]
    bones: tuple[Bones, ...]
    specimens: tuple[Specimen, ...]
    left_out: tuple[LeftOut, ...]
    anew: int
    passed_over: int = 0


def bones_folder(model: Path) -> Path:
    """Where the matched vertebrae of a cohort lie: beside the model."""
    return model.with_name(f"{model.stem}_vertebrae")


def fit_morphology_folder(
    folder: Path,
    out: Path,
    *,
    modes: int | None = None,
    levels: str | None = None,
    scheme: str = "auto",
    workers: int = THREADS,
    told: Callable[[str], None] = lambda stage: None,
) -> MorphologyFit:
    """Match the vertebrae of a folder of label maps, fit a model to each group of levels, and write all of it.

    The model is ``out``; ``<stem>_vertebrae`` beside it keeps the vertebrae of each label map as soon as they are
    matched, so that a run that was killed goes on where it was, and ``<stem>_report.json`` tells what was used, what
    was left out, and why. Sex and age, which label maps do not tell, get no coefficient.

    Parameters
    ----------
    modes : int, optional
        Modes of each group's model; by default so many that 98 % of the residual variance is told.
    levels : str, optional
        Ends of the run of levels that the models shall have, ``T9-L5``; by default C3 to L5.

    Raises
    ------
    ConfigError
        When itk-elastix is not installed, no level has ``FEWEST_CASES`` vertebrae, or there are too few for the modes.
    LabelError
        When there is no label map.
    OutputError
        When something cannot be written.
    """
    known = [level for model in read_shipped_morphology() for level in model.levels]
    asked = [level for level in (parse_run(levels) if levels else USUAL) if level in known]
    if not asked:
        raise ConfigError(f"levels: expected some of {known[0].name} to {known[-1].name}, got {levels}; choose others")
    check_out(out)
    gathered = match_cohort(folder, bones_folder(out), asked, scheme=scheme, workers=workers, told=told)
    told("fitting")
    models, specimens, rare = fit_groups(gathered.found, modes)
    left_out = (*gathered.left_out, *(each for bones in gathered.found for each in bones.left_out), *rare)
    if not models:
        why = f", the first left out because of {left_out[0].reason}" if left_out else ""
        raise ConfigError(
            f"{folder}: expected {FEWEST_CASES} vertebrae or more of one level, got fewer of each{why}; "
            "give more label maps"
        )
    fit = MorphologyFit(models, gathered.found, specimens, left_out, gathered.anew, gathered.passed_over)
    write_morphology(models, out)
    write_json(_report(fit, folder, out, scheme), report_file(out))
    return fit


def fit_groups(
    cohort: Sequence[Bones], modes: int | None = None
) -> tuple[tuple[MorphologyModel, ...], tuple[Specimen, ...], tuple[LeftOut, ...]]:
    """Fit a model to each group of levels: the models, the vertebrae that they have, and those of rare levels.

    Raises
    ------
    ConfigError
        When there are too few vertebrae for the modes.
    """
    given = [specimen for bones in cohort for specimen in bones.specimens]
    counts = Counter(specimen.level for specimen in given)
    used = tuple(specimen for specimen in given if counts[specimen.level] >= FEWEST_CASES)
    rare = tuple(
        LeftOut(
            specimen.source,
            f"{specimen.source}: expected {FEWEST_CASES} label maps or more with {specimen.level.name}, "
            f"got {counts[specimen.level]}",
        )
        for specimen in given
        if counts[specimen.level] < FEWEST_CASES
    )
    models = []
    for group in read_shipped_morphology():
        own = [specimen for specimen in used if specimen.level in group.levels]
        if own:
            models.append(fit_morphology(own, group.triangles, modes))
    return tuple(models), used, rare


def read_morphology_fit(
    model: Path, report: Path | None = None
) -> tuple[tuple[MorphologyModel, ...], tuple[Specimen, ...]]:
    """Read models with the vertebrae that they were fitted to.

    Raises
    ------
    ConfigError
        When the model, the report or what was kept is missing, damaged, or of another fit.
    """
    models, report = read_morphology(model), report or report_file(model)
    try:
        told = json.loads(report.read_text(encoding="utf-8"))
        files = [(case["label_map"], report.parent / told["kept"] / case["vertebrae"]) for case in told["used"]]
        checksum = told["model"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{report}: expected the report that 'shape fit --morphology' wrote, got none; pass --report, or fit again"
        ) from error
    if checksum != digest(model):
        raise ConfigError(f"{report}: expected the report of {model}, got that of another model; fit it again")
    levels = {level for each in models for level in each.levels}
    specimens = [specimen for name, file in files for specimen in read_bones(file).named(name).specimens]
    return models, tuple(specimen for specimen in specimens if specimen.level in levels)


def _report(fit: MorphologyFit, folder: Path, out: Path, scheme: str) -> dict[str, Any]:
    """Tell of a fit as plain data, ready for JSON."""
    counts: Counter[Level] = Counter(specimen.level for specimen in fit.specimens)
    return {
        "spinesim_version": version("spinesim"),
        "folder": str(folder),
        "scheme": scheme,
        "model": {"file": out.name, "sha256": digest(out), "vertebrae": len(fit.specimens)},
        "levels": {level.name: counts[level] for level in sorted(counts)},
        "kept": bones_folder(out).name,
        "used": [
            {
                "label_map": bones.source,
                "sha256": bones.sha256,
                "vertebrae": bones.file,
                "levels": {specimen.level.name: specimen.match for specimen in bones.specimens},
            }
            for bones in fit.bones
        ],
        "passed_over": fit.passed_over,
        "left_out": [{"label_map": each.source, "reason": each.reason} for each in fit.left_out],
    }
