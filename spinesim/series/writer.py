"""Write a case into a folder: all of it or nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.plan import Part
from spinesim.anatomy.report import report_measures
from spinesim.anatomy.scan import LabelMap, Storage
from spinesim.anatomy.threads import map_threads
from spinesim.anatomy.writing import write_field, write_labels, write_volume
from spinesim.errors import OutputError
from spinesim.pathology.library import tell_pathology
from spinesim.pathology.proposal import outcome_of
from spinesim.series.case import Case
from spinesim.series.claim import claimed, nearest_parent, whole_path
from spinesim.series.lesion_picture import draw_lesions
from spinesim.series.painting import unknown_of
from spinesim.series.picture import draw_case
from spinesim.series.record import (
    FlowReport,
    Geometry,
    Goal,
    Inpainted,
    InputFile,
    PaintedByNetwork,
    Record,
    Rule,
    Run,
    UnknownRegion,
    VertebraMotion,
)

LIBRARIES = ("numpy", "scipy", "nibabel", "SimpleITK", "numba")
"""Libraries whose versions the record names."""

MOST_TOLD = 4
"""Goals in the header of the picture; the record holds all of them."""


def subject_name(source: str) -> str:
    """Make a BIDS subject out of a file's name: ``sub-verse004_ct.nii.gz`` gives ``sub-verse004``."""
    stem = Path(source).name.split(".")[0]
    entity = re.match(r"sub-([A-Za-z0-9]+)", stem)
    name = entity.group(1) if entity else re.sub(r"[^A-Za-z0-9]", "", re.sub(r"_(ct|seg.*|msk.*)$", "", stem))
    return f"sub-{name or 'scan'}"


def file_names(subject: str, *, with_image: bool, compress: bool = True, with_masses: bool = False) -> dict[str, str]:
    """Name the files of a case after the VerSe/BIDS pattern."""
    nifti = "nii.gz" if compress else "nii"
    names = {"ct": f"{subject}_ct.{nifti}", "labels": f"{subject}_seg-vert_msk.{nifti}"}
    names |= {"unknown": f"{subject}_desc-unknown_msk.{nifti}", "field": f"{subject}_field.nrrd"}
    names |= {"record": f"{subject}_record.json", "picture": f"{subject}_picture.png"}
    if with_masses:
        names |= {
            "lesions": f"{subject}_desc-lesion_msk.{nifti}",
            "lesions_picture": f"{subject}_desc-lesion_picture.png",
        }
    return names if with_image else {key: name for key, name in names.items() if key not in ("ct", "unknown")}


def check_target(out: Path, *, overwrite: bool, own: Collection[str] | None = None) -> None:
    """Refuse, before any work is done, a folder that cannot or must not be written.

    Parameters
    ----------
    out : Path
        Folder to make.
    overwrite : bool
        Replace a folder of the same kind that was written earlier.
    own : collection of str or None
        Names that such a folder holds, and must all hold; None for a case, whose record tells them.

    Raises
    ------
    OutputError
        When it exists and ``overwrite`` is not set, when it holds anything that a case does not, when its parent
        is no folder or cannot be written, or when another run writes it.
    """
    with claimed(out):
        check_claimed(out, overwrite=overwrite, own=own)


def check_claimed(out: Path, *, overwrite: bool, own: Collection[str] | None = None) -> None:
    """Do as :func:`check_target` for a folder that is claimed already."""
    whole = whole_path(out)
    try:
        _recover(whole)
        _check_folder(out, whole, overwrite, own)
        _check_parent(out)
    except OSError as error:
        raise OutputError(
            f"{out}: expected a folder that can be looked into, got {(error.strerror or str(error)).lower()}; "
            "choose another --out or mend its permissions"
        ) from error


def _check_folder(out: Path, whole: Path, overwrite: bool, own: Collection[str] | None) -> None:
    """A folder that is not there yet, or an earlier case that may be replaced; never a link to somewhere else."""
    if whole.is_symlink():
        raise OutputError(
            f"{out}: expected a folder to write to, got a link to {os.readlink(whole)}; name the folder itself"
        )
    if not whole.exists():
        return
    if not whole.is_dir():
        raise OutputError(f"{out}: expected a folder to write to, got a file; choose another --out")
    if not overwrite:
        raise OutputError(
            f"{out}: expected a folder that does not exist yet, got one; choose another --out, or pass --overwrite"
        )
    if foreign := _foreign(whole, own):
        raise OutputError(
            f"{out}: expected a folder with nothing but a case that spinesim wrote, got one with {foreign[0]}; "
            "choose another --out"
        )


def _check_parent(out: Path) -> None:
    """The nearest of its parents that is there is a folder that can be written."""
    parent = nearest_parent(out)
    if not parent.is_dir():
        kind = "dangling link" if parent.is_symlink() else "file"
        raise OutputError(f"{out}: expected a folder to make it in, got the {kind} {parent}; choose another --out")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"{out}: expected to be allowed to write in {parent}, got no permission; choose another --out"
        )


def write_case(
    case: Case,
    out: str | Path,
    *,
    overwrite: bool = False,
    compress: bool = True,
    inputs: dict[str, InputFile] | None = None,
    run: Run | None = None,
    prompt: str | None = None,
) -> dict[str, Path]:
    """Write a case: CT, labels, unknown mask, field, record, picture, and lesions with their picture if there are any.

    Everything goes into a hidden folder beside the target first, which then takes the target's name: a run
    that is killed leaves the target as it was, and the next one clears what it left.

    Parameters
    ----------
    case : Case
        What ``simulate`` gave.
    out : path
        Folder to make.
    overwrite : bool
        Replace a folder that an earlier case was written to.
    compress : bool
        Write ``.nii.gz`` and a packed field, or ``.nii`` and a plain one.
    inputs, run
        Names and checksums of the input files, and when the run began and how long it took, for the record.
    prompt
        The sentence that the pathology was read from, for the record too.

    Returns
    -------
    dict
        Path of each file, by what it is.

    Raises
    ------
    OutputError
        When the folder may not be written (``check_target``), or the disk is full.
    """
    out = Path(out)
    with claimed(out):
        return write_claimed(
            case, out, overwrite=overwrite, compress=compress, inputs=inputs or {}, run=run, prompt=prompt
        )


def write_claimed(
    case: Case,
    out: Path,
    *,
    overwrite: bool,
    compress: bool,
    inputs: dict[str, InputFile],
    run: Run | None,
    prompt: str | None,
) -> dict[str, Path]:
    """Write a case as :func:`write_case` does, into a folder that is claimed already."""
    check_claimed(out, overwrite=overwrite)
    subject = subject_name((case.before.image or case.before.labels).source)
    image, masses = case.before.image is not None, case.masses is not None
    names = file_names(subject, with_image=image, compress=compress, with_masses=masses)
    with whole_folder(out) as partial, ThreadPoolExecutor(1) as beside:
        drawing = beside.submit(_draw, case, partial, names)
        record = build_record(case, names, inputs, run or Run(seconds=0.0, started=""), prompt)
        _write_files(case, partial, record)
        drawing.result()
    return {key: out / name for key, name in names.items()}


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder to write into, which takes the place of ``out`` once all is written.

    Raises
    ------
    OutputError
        When the disk is full or something cannot be written; ``out`` is then as it was.
    """
    partial = _partial(whole_path(out))
    made = [folder for folder in partial.parents if not folder.exists()]
    try:
        partial.mkdir(parents=True)
        yield partial
        _take_place(partial, whole_path(out))
    except OutputError as error:
        raise OutputError(str(error).replace(str(partial), str(out))) from error
    except OSError as error:
        raise OutputError(
            f"{out}: expected to write the case, got {(error.strerror or str(error)).lower()}; "
            "free some space or choose another --out"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        _drop_empty(made)


def _partial(out: Path) -> Path:
    """Where a case lies until it is whole."""
    return out.with_name(f".{out.name}.partial")


def _aside(out: Path) -> Path:
    """Where an older case lies while a new one takes its place."""
    return out.with_name(f".{out.name}.aside")


def _foreign(out: Path, own: Collection[str] | None) -> list[str]:
    """Names in a folder that it would not hold if spinesim had written it; some name where it lacks one of its own."""
    found = sorted(entry.name for entry in out.iterdir())
    folders = {name for name in found if (out / name).is_dir()}
    if own is not None:
        strange = [name for name in found if name not in own or name in folders]
        return strange or (found if set(own) - set(found) else [])
    records = [name for name in found if re.fullmatch(r"sub-[A-Za-z0-9]+_record\.json", name)]
    if len(records) != 1:
        return found
    subject = records[0].removesuffix("_record.json")
    own = {
        name
        for packed in (True, False)
        for name in file_names(subject, with_image=True, compress=packed, with_masses=True).values()
    }
    return [name for name in found if name not in own or name in folders]


def _drop_empty(folders: list[Path]) -> None:
    """Remove folders, the innermost first, as far as they are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def _recover(out: Path) -> None:
    """Clear what a killed run left: put back a folder that it had set aside, and throw its half-written one away."""
    aside, partial = _aside(out), _partial(out)
    if partial.is_symlink():
        partial.unlink()
    shutil.rmtree(partial, ignore_errors=True)
    if aside.exists():
        aside.rename(partial if out.exists() else out)
        shutil.rmtree(partial, ignore_errors=True)


def _take_place(partial: Path, out: Path) -> None:
    """Give the finished folder its name, setting an older one aside until it is there."""
    if not out.exists():
        partial.rename(out)
        return
    aside = _aside(out)
    out.rename(aside)
    try:
        partial.rename(out)
    except OSError:
        aside.rename(out)
        raise
    with suppress(OSError):
        aside.rename(partial)  # half thrown away under its own name it would be taken for a case to give back


def _write_files(case: Case, folder: Path, record: Record) -> None:
    """Write all but the pictures, several files at once: each waits for the disk."""
    names, field = record.files, case.deformation.field
    packed = names["labels"].endswith(".gz")
    writes: list[Callable[[], None]] = []
    if (image := case.after.image) is not None:
        writes.append(lambda: write_volume(image, folder / names["ct"]))
        writes.append(lambda: write_labels(_reasons(case), folder / names["unknown"]))
    writes.append(lambda: write_labels(case.after.labels, folder / names["labels"]))
    if (masses := case.masses) is not None:
        writes.append(lambda: write_labels(masses, folder / names["lesions"]))
    writes.append(lambda: write_field(field.displacement, field.grid, folder / names["field"], compress=packed))
    map_threads(lambda write: write(), writes)
    told = record.model_dump(mode="json")
    (folder / names["record"]).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _draw(case: Case, folder: Path, names: Mapping[str, str]) -> None:
    """Draw the pictures of a case."""
    draw_case(
        case.before,
        case.before_spine,
        case.after,
        case.after_spine,
        case.masses,
        _title(case, names["labels"]),
        folder / names["picture"],
    )
    if case.masses is not None:
        draw_lesions(case, f"{names['labels'].split('_')[0]} · lesions", folder / names["lesions_picture"])


def _reasons(case: Case) -> LabelMap:
    """The unknown mask as a label map: its numbers are those of ``Reason``."""
    reasons = unknown_of(case).reasons
    return LabelMap(reasons, case.after.grid, {}, "reasons", Storage("uint8"), "unknown")


def _inpainted(case: Case) -> Inpainted:
    names = [mass.name for mass in case.proposal.plan.masses]
    regions = [
        UnknownRegion(
            reason=region.reason.name.lower(),
            place=region.place,
            voxels=region.voxels,
            volume_ml=round(region.volume_ml, 3),
        )
        for region in unknown_of(case).regions(case.after.labels, case.masses, names)
    ]
    noise_hu = None if case.noise_hu is None else round(case.noise_hu, 2)
    network, method = None, "none" if noise_hu is None else "noise"
    if case.repainted is not None:
        told = asdict(case.repainted) | {"reasons": [reason.name.lower() for reason in case.repainted.reasons]}
        network, method = PaintedByNetwork(**told), case.repainted.method
    return Inpainted(method=method, noise_hu=noise_hu, network=network, no_network=case.no_network, regions=regions)


def _title(case: Case, name: str) -> str:
    """What was asked and measured, in a line that can be read."""
    goals = [f"{goal} asked {asked:g}, measured {measured:.1f}" for goal, (asked, measured, _) in case.goals.items()]
    if more := len(goals[MOST_TOLD:]):
        goals = [*goals[:MOST_TOLD], f"{more} more"]
    return f"{name.split('_')[0]} · {type(case.pathology).__name__} · {'; '.join(goals)}"


def build_record(
    case: Case, names: dict[str, str], inputs: dict[str, InputFile], run: Run, prompt: str | None = None
) -> Record:
    """Put the record of a case together."""
    settings, jacobian = case.deformation.settings, case.deformation.jacobian
    return Record(
        spinesim_version=version("spinesim"),
        versions={name: version(name) for name in LIBRARIES},
        inputs=inputs,
        pathology=type(case.pathology).__name__,
        parameters=tell_pathology(case.pathology),
        prompt=prompt,
        seed=case.seed,
        goals={
            name: Goal(asked=asked, measured=round(measured, 3), native=round(native, 3))
            for name, (asked, measured, native) in case.goals.items()
        },
        plan=_rounded(dict(case.proposal.details)),
        outcome=_rounded(outcome_of(case.pathology, case.after_measures, case.before_measures)),
        geometry_in=_geometry(case.before.grid),
        geometry_out=_geometry(case.after.grid),
        flow=FlowReport(
            jacobian_min=jacobian[0],
            jacobian_max=jacobian[1],
            steps=settings.steps,
            shell_mm=settings.shell_mm,
            power=settings.power,
            node_spacing_mm=settings.spacing_mm,
            mended_nodes=case.deformation.mended_nodes,
            device=case.deformation.device,
            interpolation=case.interpolation,
        ),
        vertebrae=_motions(case),
        labels_in=list(case.before.labels.present),
        labels_out=list(case.after.labels.present),
        unknown_voxels=int(np.count_nonzero(unknown_of(case).reasons)),
        inpaint=_inpainted(case),
        measures_before=report_measures(case.before_measures, case.before_spine),
        measures_after=report_measures(case.after_measures, case.after_spine),
        plausibility=[Rule(**_rounded(asdict(check))) for check in case.checks],
        findings=list(case.findings),
        warnings=list(case.warnings),
        files=names,
        run=run,
    )


def _motions(case: Case) -> list[VertebraMotion]:
    fidelity = case.fidelity
    return [
        VertebraMotion(
            level=anchor.level.name,
            new_from_old=anchor.motion.last.tolist(),
            rigid=anchor.part is Part.WHOLE,
            rms_mm=round(fidelity[anchor.level.name][0], 4) if anchor.level.name in fidelity else None,
            volume_ratio=round(fidelity[anchor.level.name][1], 4) if anchor.level.name in fidelity else None,
        )
        for anchor in case.proposal.plan.anchors
        if anchor.part in (Part.WHOLE, Part.ARCH)
    ]


def _geometry(grid: Grid) -> Geometry:
    return Geometry(
        shape=grid.shape, spacing_mm=tuple(grid.spacing_mm.tolist()), world_from_voxel=grid.world_from_voxel.tolist()
    )


def _rounded(details: Mapping[str, Any]) -> dict[str, Any]:
    """The same with floats to three places, in parts too."""

    def rounded(value: Any) -> Any:
        if isinstance(value, float):
            return round(value, 3)
        return _rounded(value) if isinstance(value, Mapping) else value

    return {key: rounded(value) for key, value in details.items()}
