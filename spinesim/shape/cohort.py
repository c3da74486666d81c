"""Measure the spines of a folder of label maps, in parallel, each one once."""

from __future__ import annotations

import hashlib
import re
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, TypeVar

from spinesim.anatomy.findings import check_order
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.memory import share_heap
from spinesim.anatomy.reading import read_labels
from spinesim.anatomy.threads import THREADS
from spinesim.anatomy.vertebra import Spine
from spinesim.anatomy.writing import digest
from spinesim.errors import ConfigError, LabelError, ScanError, ScanWarning, SpinesimError
from spinesim.shape.member import Member, read_member, write_member

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha")
VERSE = re.compile(r"_seg(-vert_msk)?\.")
"""How VerSe names label maps: ``_seg-vert_msk.nii.gz``, and ``_seg.nii.gz`` in its first releases."""

CT = re.compile(r"_ct\.")

Found = TypeVar("Found")
Result = TypeVar("Result")


@dataclass(frozen=True)
class LeftOut:
    """A label map without a use, and why."""

    source: str
    reason: str


@dataclass(frozen=True, eq=False)
class Cohort:
    """The spines of a folder, by name; the label maps that gave none; how many were measured in this run.

    ``passed_over`` counts files that were not looked at, for others beside them are named as VerSe's.
    """

    members: tuple[Member, ...]
    left_out: tuple[LeftOut, ...]
    anew: int
    passed_over: int = 0


def find_label_maps(folder: Path) -> tuple[list[Path], int]:
    """List the label maps under a folder, at any depth, by name, and count the files that were passed over.

    Where files are named as in VerSe, those alone are taken; otherwise all but CTs (``_ct``) and hidden ones.

    Raises
    ------
    LabelError
        When there is no such folder, or no label map in it.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(ENDINGS)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and not path.is_dir()
    )
    plain = [path for path in files if not CT.search(path.name)]
    found = [path for path in plain if VERSE.search(path.name)] or plain
    if not found:
        got = "none" if folder.is_dir() else "no such folder"
        raise LabelError(f"{folder}: expected a folder of label maps ({', '.join(ENDINGS)}), got {got}; check the path")
    return found, len(plain) - len(found)


def measure_cohort(
    folder: Path,
    kept: Path,
    *,
    scheme: str = "auto",
    workers: int = THREADS,
    told: Callable[[str], None] = lambda stage: None,
) -> Cohort:
    """Measure the spine in every label map under a folder.

    Parameters
    ----------
    folder : Path
        Holds the label maps; see :func:`find_label_maps`.
    kept : Path
        Folder for the spines, one file each as soon as it is measured. A spine that it holds already, of the same file
        (by checksum), version of this package and scheme, is not measured again.
    scheme : str
        Meaning of the label numbers, as for :func:`spinesim.anatomy.reading.read_labels`.
    workers : int
        Processes.
    told : callable
        Hears how far the work is.

    Raises
    ------
    LabelError
        When there is no label map.
    ConfigError
        When a process was killed.
    OutputError
        When a spine cannot be kept.
    """
    craft = Craft(
        lambda name, checksum: replace(read_member(kept_file(kept, checksum, scheme)), source=name),
        partial(measure_file, scheme=scheme),
        lambda name, checksum, found: _keep(Member(name, checksum, *found), kept, scheme),
    )
    gathered = gather(folder, craft, workers=workers, told=told)
    return Cohort(gathered.found, gathered.left_out, gathered.anew, gathered.passed_over)


def _keep(member: Member, kept: Path, scheme: str) -> Member:
    kept.mkdir(exist_ok=True)
    write_member(member, kept_file(kept, member.sha256, scheme))
    return member


@dataclass(frozen=True, eq=False)
class Craft(Generic[Result, Found]):
    """What is made of one label map, and how it is kept.

    Parameters
    ----------
    read : callable
        Gives what is kept of a file, by its name and checksum; raises ``ConfigError`` where nothing is.
    work : callable
        Makes it of a file, in a process of its own; or tells why it cannot be made.
    keep : callable
        Takes name, checksum and what was made, and keeps it.
    """

    read: Callable[[str, str], Result]
    work: Callable[[Path], str | Found]
    keep: Callable[[str, str, Found], Result]


@dataclass(frozen=True, eq=False)
class Gathered(Generic[Result]):
    """What was made of a folder's label maps, by name; those that gave nothing; how many were done in this run."""

    found: tuple[Result, ...]
    left_out: tuple[LeftOut, ...]
    anew: int
    passed_over: int


def gather(folder: Path, craft: Craft[Result, Found], *, workers: int, told: Callable[[str], None]) -> Gathered[Result]:
    """Make something of every label map under a folder, in parallel, unless it is kept already.

    Raises
    ------
    LabelError, ConfigError, OutputError
        As :func:`measure_cohort`.
    """
    files, passed_over = find_label_maps(folder)
    found, left_out, waiting = _sort_out(files, folder, craft, told)
    anew = 0
    for rank, (path, outcome) in enumerate(_measured(list(waiting), craft.work, workers), start=1):
        if isinstance(outcome, str):
            left_out[path] = outcome
        else:
            found[path] = craft.keep(_name(path, folder), waiting[path], outcome)
            anew += 1
        told(f"measured {rank} of {len(waiting)}: {path.name}")
    out = tuple(LeftOut(_name(path, folder), left_out[path]) for path in sorted(left_out))
    return Gathered(tuple(found[path] for path in sorted(found)), out, anew, passed_over)


def _sort_out(
    files: Sequence[Path], folder: Path, craft: Craft[Result, Found], told: Callable[[str], None]
) -> tuple[dict[Path, Result], dict[Path, str], dict[Path, str]]:
    """What is kept already, the files that are of no use, and the checksums of those to be worked on."""
    found: dict[Path, Result] = {}
    left_out: dict[Path, str] = {}
    waiting: dict[Path, str] = {}
    firsts: dict[str, Path] = {}
    for path in files:
        told(f"looking at {path.name}")
        try:
            checksum = digest(path)
        except ScanError as error:
            left_out[path] = str(error)
            continue
        if (first := firsts.setdefault(checksum, path)) != path:
            left_out[path] = f"{path}: expected a label map of its own, got the same bytes as {first}"
            continue
        try:
            found[path] = craft.read(_name(path, folder), checksum)
        except ConfigError:  # none, or a damaged one
            waiting[path] = checksum
    return found, left_out, waiting


def _name(path: Path, folder: Path) -> str:
    """A file's name from the cohort's folder."""
    return path.relative_to(folder).as_posix()


def kept_file(kept: Path, checksum: str, scheme: str, ending: str = ".json") -> Path:
    """Where the spine of a label map is kept."""
    key = hashlib.sha256(f"{checksum} {version('spinesim')} {scheme}".encode()).hexdigest()
    return kept / f"{key[:32]}{ending}"


Outcome = str | tuple[Spine, tuple[str, ...]]
"""Why a label map gave no spine; or the spine, and what the reader warned of."""


def _measured(
    files: Sequence[Path], work: Callable[[Path], str | Found], workers: int
) -> Iterator[tuple[Path, str | Found]]:
    """Work on label maps in processes of their own, and give each as it is done."""
    if not files:
        return
    # spawned, not forked: this process may hold threads, and a fork would copy their locks
    pool = ProcessPoolExecutor(min(workers, len(files)), get_context("spawn"), _start_worker)
    try:
        waiting = {pool.submit(work, path): path for path in files}
        for done in as_completed(waiting):
            yield waiting[done], done.result()
    except BrokenProcessPool as error:
        raise ConfigError(
            f"{files[0].parent}: expected {workers} processes to measure spines, got one that was killed, most likely "
            "for want of memory; run it again with fewer --workers, it goes on where it was"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Share one heap, and let Ctrl-C end the process that waits for this one, not this one amid its work."""
    share_heap()
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def measure_file(path: Path, scheme: str) -> Outcome:
    """Measure the spine in one label map."""
    with warnings.catch_warnings(record=True) as doubts:
        warnings.simplefilter("always", ScanWarning)
        try:
            labels = read_labels(path, scheme=scheme)
            check_order(labels)
            spine = estimate_spine(labels)
        except (SpinesimError, OSError, MemoryError) as error:
            return str(error) or type(error).__name__
    measured = tuple(vertebra for vertebra in spine if vertebra.measured)
    if len(measured) < 2:
        return f"{path}: expected two whole vertebrae or more, got {measured[0].level.name} alone"
    said = tuple(str(doubt.message) for doubt in doubts if issubclass(doubt.category, ScanWarning))
    return Spine(measured), said
