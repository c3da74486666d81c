"""The vertebrae of a folder of label maps, brought into correspondence, in parallel, each label map once."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from spinesim.anatomy.findings import check_order
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.reading import read_labels
from spinesim.anatomy.threads import THREADS
from spinesim.anatomy.writing import replacing
from spinesim.errors import ConfigError, ScanWarning, SpinesimError
from spinesim.shape.cohort import Craft, Gathered, LeftOut, gather, kept_file
from spinesim.shape.correspondence import Template
from spinesim.shape.morphology import model_of
from spinesim.shape.registration import open_elastix
from spinesim.shape.shipped import read_shipped_morphology
from spinesim.shape.specimen import Specimen, match_specimen


@dataclass(frozen=True, eq=False)
class Bones:
    """The vertebrae of one label map: those that were matched, and why the others were not.

    Parameters
    ----------
    source, sha256 : str
        The label map, named from the cohort's folder, and its checksum.
    specimens : tuple of Specimen
        In correspondence with the nets of the shipped morphology model.
    left_out : tuple of LeftOut
    file : str
        Name of the file that keeps it.
    """

    source: str
    sha256: str
    specimens: tuple[Specimen, ...]
    left_out: tuple[LeftOut, ...]
    file: str = ""

    def named(self, source: str) -> Bones:
        """The same vertebrae under another name of the label map."""
        return replace(
            self,
            source=source,
            specimens=tuple(replace(each, source=source) for each in self.specimens),
            left_out=tuple(replace(each, source=source) for each in self.left_out),
        )


def match_cohort(
    folder: Path,
    kept: Path,
    levels: Sequence[Level],
    *,
    scheme: str = "auto",
    workers: int = THREADS,
    told: Callable[[str], None] = lambda stage: None,
) -> Gathered[Bones]:
    """Lay the nets of the shipped morphology model on every whole vertebra of some levels under a folder.

    ``kept`` holds the vertebrae of each label map as soon as they are matched; those that it holds are not matched
    again. A registration takes some seconds.

    Raises
    ------
    LabelError, OutputError
        As :func:`spinesim.shape.cohort.measure_cohort`.
    ConfigError
        When itk-elastix is not installed, or a process was killed.
    """
    open_elastix()
    key = " ".join([scheme, *(level.name for level in levels)])

    def keep(name: str, checksum: str, found: tuple[tuple[Specimen, ...], tuple[LeftOut, ...]]) -> Bones:
        kept.mkdir(exist_ok=True)
        file = kept_file(kept, checksum, key, ".npz")
        bones = Bones(name, checksum, *found, file.name).named(name)
        write_bones(bones, file)
        return bones

    craft = Craft(
        lambda name, checksum: read_bones(kept_file(kept, checksum, key, ".npz")).named(name),
        partial(match_file, levels=tuple(levels), scheme=scheme),
        keep,
    )
    return gather(folder, craft, workers=workers, told=told)


def match_file(
    path: Path, levels: Sequence[Level], scheme: str
) -> str | tuple[tuple[Specimen, ...], tuple[LeftOut, ...]]:
    """Match the vertebrae of one label map, or tell why there is none."""
    matched, left_out = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScanWarning)
        try:
            labels = read_labels(path, scheme=scheme)
            check_order(labels)
            spine = estimate_spine(labels)
            wanted = [vertebra for vertebra in spine if vertebra.measured and vertebra.level in levels]
        except (SpinesimError, OSError, MemoryError) as error:
            return str(error) or type(error).__name__
        for vertebra in wanted:
            try:
                matched.append(match_specimen(templates()[vertebra.level], labels, vertebra))
            except SpinesimError as error:
                left_out.append(LeftOut(str(path), str(error)))
    if not matched:
        named = f"{levels[0].name} to {levels[-1].name}"
        return left_out[0].reason if left_out else f"{path}: expected a whole vertebra of {named}, got none"
    return tuple(matched), tuple(left_out)


@cache
def templates() -> Mapping[Level, Template]:
    """The mean vertebra of each level of the shipped model."""
    models = read_shipped_morphology()
    levels = [level for model in models for level in model.levels]
    return {level: Template(model_of(models, level).mean(level)) for level in levels}


def write_bones(bones: Bones, path: Path) -> None:
    """Write the vertebrae of a label map, to the last digit, under a temporary name first.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    told = {
        "source": bones.source,
        "sha256": bones.sha256,
        "specimens": [[s.level.name, s.measures, s.match] for s in bones.specimens],
        "left_out": [asdict(each) for each in bones.left_out],
    }
    rows = {f"vertices_{rank}": specimen.vertices for rank, specimen in enumerate(bones.specimens)}
    with replacing(path) as stream:
        np.savez_compressed(stream, allow_pickle=False, told=np.array(json.dumps(told)), **rows)


def read_bones(path: Path) -> Bones:
    """Read vertebrae that :func:`write_bones` wrote.

    Raises
    ------
    ConfigError
        When there are none, or the file is damaged.
    """
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            told = json.loads(str(file["told"]))
            specimens = tuple(
                Specimen(Level[name], file[f"vertices_{rank}"], measures, source=told["source"], match=match)
                for rank, (name, measures, match) in enumerate(told["specimens"])
            )
        left_out = tuple(LeftOut(**each) for each in told["left_out"])
        return Bones(told["source"], told["sha256"], specimens, left_out, path.name)
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        raise ConfigError(f"{path}: expected vertebrae that 'shape fit' kept, got none; fit again") from error
