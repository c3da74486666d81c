"""Fit a pose model to a folder of label maps, and keep beside it what it was fitted to."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spinesim.anatomy.levels import USUAL, Level
from spinesim.anatomy.report import write_json
from spinesim.anatomy.threads import THREADS
from spinesim.anatomy.writing import digest
from spinesim.errors import ConfigError, OutputError
from spinesim.shape.chain import Chain
from spinesim.shape.cohort import Cohort, LeftOut, kept_file, measure_cohort
from spinesim.shape.coverage import count_joints, covered_chains, covered_levels, parse_run
from spinesim.shape.member import Member, average_vertebrae, read_member
from spinesim.shape.model_file import read_pose_model, write_pose_model
from spinesim.shape.pose_model import PoseModel, fit_pose_model

FEWEST_CASES = 3
"""Two cases have one difference, and tell nothing of how it varies."""

MOST_MODES = 20
"""Modes of a model for which no number is asked, at most."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A pose model and where it came from.

    Parameters
    ----------
    model : PoseModel
    members : tuple of Member
        The spines that it was fitted to.
    chains : tuple of Chain
        What each of them shows of the model's levels.
    left_out : tuple of LeftOut
        The label maps that it was not fitted to, and why.
    asked : tuple of Level
        The levels that it was to have.
    anew : int
        Spines that were measured in this run; the others were kept from earlier ones.
    passed_over : int
        Files that were not looked at, for others are named as VerSe's label maps.
    """

    model: PoseModel
    members: tuple[Member, ...]
    chains: tuple[Chain, ...]
    left_out: tuple[LeftOut, ...]
    asked: tuple[Level, ...]
    anew: int
    passed_over: int = 0

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth knowing, in sentences."""
        first, last = self.model.levels[0], self.model.levels[-1]
        if set(self.asked) - set(self.model.levels):
            return (
                f"The model has {first.name} to {last.name} only: two cases or more show each joint there, and no "
                f"longer run of {self.asked[0].name} to {self.asked[-1].name} has that.",
            )
        return ()


def report_file(model: Path) -> Path:
    """Where the report of a fit lies: beside the model."""
    return model.with_name(f"{model.stem}_report.json")


def kept_folder(model: Path) -> Path:
    """Where the measured spines of a cohort lie: beside the model."""
    return model.with_name(f"{model.stem}_spines")


def fit_folder(
    folder: Path,
    out: Path,
    *,
    modes: int | None = None,
    levels: str | None = None,
    scheme: str = "auto",
    workers: int = THREADS,
    told: Callable[[str], None] = lambda stage: None,
) -> Fit:
    """Measure a folder of label maps, fit a pose model to it, and write model, spines and report.

    The model is ``out``; ``<stem>_spines`` beside it keeps each spine as soon as it is measured, so that a run that was
    killed goes on where it was, and ``<stem>_report.json`` tells what was used, what was left out, and why.

    Parameters
    ----------
    modes : int, optional
        Modes of the model; by default two fewer than there are cases, at most ``MOST_MODES``.
    levels : str, optional
        Ends of the run of levels that the model shall have, ``T1-L5``; by default all that the cases show.

    Raises
    ------
    ConfigError
        When fewer than ``FEWEST_CASES`` cases can be used, or there are too few for the modes.
    LabelError
        When there is no label map.
    OutputError
        When something cannot be written.
    """
    asked = parse_run(levels) if levels else None
    check_out(out)
    cohort = measure_cohort(folder, kept_folder(out), scheme=scheme, workers=workers, told=told)
    told("fitting")
    fit = fit_cohort(cohort, folder, modes=modes, levels=asked)
    write_pose_model(fit.model, out)
    write_json(_report(fit, folder, out, scheme), report_file(out))
    return fit


def fit_cohort(cohort: Cohort, folder: Path, *, modes: int | None = None, levels: Sequence[Level] | None = None) -> Fit:
    """Fit a pose model to the longest run of levels that a cohort covers.

    Raises
    ------
    ConfigError
        As :func:`fit_folder`.
    """
    left_out = list(cohort.left_out)
    _check_count(folder, len(cohort.members), left_out, cohort.passed_over)
    chains = [member.chain for member in cohort.members]
    run = covered_levels(chains, levels or USUAL)
    pieces = covered_chains(chains, run)
    used = [(member, piece) for member, piece in zip(cohort.members, pieces, strict=True) if piece]
    left_out += [
        LeftOut(
            member.source,
            f"{folder / member.source}: expected two neighbours of {run[0].name} to {run[-1].name}, "
            f"got {', '.join(vertebra.level.name for vertebra in member.spine)}",
        )
        for member, piece in zip(cohort.members, pieces, strict=True)
        if piece is None
    ]
    _check_count(folder, len(used), left_out, cohort.passed_over)
    members, shown = (tuple(part) for part in zip(*used, strict=True))
    model = fit_pose_model(shown, min(len(used) - 2, MOST_MODES) if modes is None else modes)
    model = replace(model, anatomy=average_vertebrae([member.spine for member in members], run))
    asked = tuple(levels or sorted({level for chain in chains for level in chain.levels} & set(USUAL)))
    return Fit(model, members, shown, tuple(left_out), asked, cohort.anew, cohort.passed_over)


def read_fit(model: Path, report: Path | None = None) -> Fit:
    """Read a model with the spines that it was fitted to.

    Parameters
    ----------
    model : Path
        The model.
    report : Path, optional
        Its report, where that does not lie beside it under its own name; the spines lie where the report says.

    Raises
    ------
    ConfigError
        When the model, the report or a spine is missing, damaged, or of another fit.
    """
    fitted, report = read_pose_model(model), report or report_file(model)
    try:
        told = json.loads(report.read_text(encoding="utf-8"))
        checksum, spines, used = told["model"]["sha256"], told["spines"], told["used"]
        files = [report.parent / spines / case["spine"] for case in used]
        left_out = tuple(LeftOut(case["label_map"], case["reason"]) for case in told["left_out"])
        asked = tuple(Level[name] for name in told["levels_asked"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{report}: expected the report that 'shape fit' wrote, got none; pass --report, or fit again"
        ) from error
    if checksum != digest(model):
        raise ConfigError(f"{report}: expected the report of {model}, got that of another model; fit it again")
    members = tuple(read_member(file) for file in files)
    pieces = covered_chains([member.chain for member in members], fitted.levels)
    return Fit(fitted, members, tuple(piece for piece in pieces if piece), left_out, asked, 0)


def check_out(out: Path) -> None:
    """Refuse a name for the model before any work is done."""
    if out.suffix.lower() != ".npz":
        raise OutputError(f"{out}: expected a name that ends in .npz, got {out.name}; rename it")
    if out.is_dir() or not out.parent.is_dir():
        got = "a folder of that name" if out.is_dir() else f"no folder {out.parent}"
        raise OutputError(f"{out}: expected a file to write, got {got}; choose another --out or make the folder first")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"{out}: expected to be allowed to write in {out.parent}, got no permission; choose another --out"
        )


def _check_count(folder: Path, count: int, left_out: Sequence[LeftOut], passed_over: int) -> None:
    """Refuse a cohort that is too small, with the first reason why."""
    if count < FEWEST_CASES:
        why = f" ({passed_over} files passed over, which are not named as VerSe's)" if passed_over else ""
        why = f" ({len(left_out)} left out, the first because of {left_out[0].reason})" if left_out else why
        raise ConfigError(
            f"{folder}: expected {FEWEST_CASES} or more spines that share levels, got {count}{why}; "
            "give more label maps"
        )


def _report(fit: Fit, folder: Path, out: Path, scheme: str) -> dict[str, Any]:
    """Tell of a fit as plain data, ready for JSON."""
    model = fit.model
    shown = count_joints(fit.chains)
    return {
        "spinesim_version": version("spinesim"),
        "folder": str(folder),
        "scheme": scheme,
        "model": {"file": out.name, "sha256": digest(out), "cases": model.cases},
        "levels_asked": [level.name for level in fit.asked],
        "levels": [level.name for level in model.levels],
        "cases_by_joint": {f"{upper.name}/{lower.name}": shown[upper, lower] for upper, lower in model.joints},
        "explained": [round(float(share), 4) for share in model.gaussian.explained()],
        "noise_mm": round(float(model.gaussian.noise_var**0.5), 4),
        "remarks": list(fit.remarks),
        "spines": kept_folder(out).name,
        "used": [_told(member, chain, scheme) for member, chain in zip(fit.members, fit.chains, strict=True)],
        "passed_over": fit.passed_over,
        "left_out": [{"label_map": case.source, "reason": case.reason} for case in fit.left_out],
    }


def _told(member: Member, chain: Chain, scheme: str) -> dict[str, Any]:
    """A case that was used."""
    return {
        "label_map": member.source,
        "sha256": member.sha256,
        "spine": kept_file(Path(), member.sha256, scheme).name,
        "levels": [level.name for level in chain.levels],
        "doubts": list(member.doubts),
    }
