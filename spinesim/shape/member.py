"""A member of a cohort: the spine that was measured in one label map, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spinesim.anatomy.levels import Level
from spinesim.anatomy.report import write_json
from spinesim.anatomy.vertebra import EndPlate, Spine, Vertebra, unit
from spinesim.errors import ConfigError
from spinesim.shape.chain import Chain, measure_chain


@dataclass(frozen=True, eq=False)
class Member:
    """A spine of a cohort.

    Parameters
    ----------
    source : str
        The label map, named from the cohort's folder.
    sha256 : str
        Checksum of that file.
    spine : Spine
        Its measured vertebrae (world RAS, mm), without heights and canals.
    doubts : tuple of str
        What the reader warned of.
    """

    source: str
    sha256: str
    spine: Spine
    doubts: tuple[str, ...] = ()

    @property
    def chain(self) -> Chain:
        """The chain of the spine."""
        return measure_chain(self.spine)


def write_member(member: Member, path: Path) -> None:
    """Write a member as JSON, to the last digit, under a temporary name first.

    Raises
    ------
    OutputError
        When the file cannot be written there.
    """
    spine = {vertebra.level.name: _tell(vertebra) for vertebra in member.spine}
    write_json(
        {"source": member.source, "sha256": member.sha256, "doubts": list(member.doubts), "vertebrae": spine}, path
    )


def read_member(path: Path) -> Member:
    """Read a member that :func:`write_member` wrote.

    Raises
    ------
    ConfigError
        When there is none, or the file is damaged.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        spine = Spine(tuple(_vertebra(Level[name], parts) for name, parts in told["vertebrae"].items()))
        return Member(told["source"], told["sha256"], spine, tuple(told["doubts"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: expected a spine that 'shape fit' kept, got none; run 'shape fit' again") from error


def average_vertebrae(spines: Sequence[Spine], levels: Sequence[Level]) -> Spine:
    """The mean vertebra of each level in its own frame: means of plates' centres and normals, widths and depths."""
    return Spine(tuple(_average(level, [spine[level] for spine in spines if level in spine]) for level in levels))


def _average(level: Level, vertebrae: Sequence[Vertebra]) -> Vertebra:
    """The mean of vertebrae, each seen in its own frame."""
    own = [vertebra.moved(np.linalg.inv(vertebra.world_from_vertebra)) for vertebra in vertebrae]

    def plate(plates: list[EndPlate]) -> EndPlate:
        return EndPlate(np.mean([p.centre for p in plates], axis=0), unit(np.sum([p.normal for p in plates], axis=0)))

    return Vertebra(
        level,
        np.zeros(3),
        np.eye(3),
        plate([vertebra.superior for vertebra in own]),
        plate([vertebra.inferior for vertebra in own]),
        float(np.mean([vertebra.width_mm for vertebra in own])),
        float(np.mean([vertebra.depth_mm for vertebra in own])),
        measured=True,
    )


def _tell(vertebra: Vertebra) -> dict[str, Any]:
    plates = [[plate.centre.tolist(), plate.normal.tolist()] for plate in (vertebra.superior, vertebra.inferior)]
    return {
        "centre_mm": vertebra.centre.tolist(),
        "axes": vertebra.axes.tolist(),
        "plates": plates,
        "size_mm": [float(vertebra.width_mm), float(vertebra.depth_mm)],
    }


def _vertebra(level: Level, told: dict[str, Any]) -> Vertebra:
    superior, inferior = (EndPlate(*np.array(plate)) for plate in told["plates"])
    width, depth = told["size_mm"]
    centre, axes = np.array(told["centre_mm"]), np.array(told["axes"])
    return Vertebra(level, centre, axes, superior, inferior, width, depth, measured=True)
