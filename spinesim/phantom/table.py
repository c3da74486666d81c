"""The published dimensions of each vertebra."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from types import MappingProxyType

from spinesim.anatomy.levels import Level, parse_level


@dataclass(frozen=True)
class Dimensions:
    """Dimensions of one vertebra in millimetres (``vertebrae.csv`` names the sources).

    ``h`` height, ``w`` width, ``d`` mid-sagittal depth; ``ant``/``post`` walls, ``sup``/``inf`` end plates;
    ``tp_span`` from tip to tip of the transverse processes; ``disc_below`` the height of the disc below, mid-way.
    """

    level: Level
    h_ant: float
    h_post: float
    w_sup: float
    w_inf: float
    d_sup: float
    d_inf: float
    canal_w: float
    canal_d: float
    pedicle_w: float
    pedicle_h: float
    tp_span: float
    disc_below: float

    @property
    def height(self) -> float:
        """Height of the body mid-way between its front and its back."""
        return (self.h_ant + self.h_post) / 2

    @property
    def depth(self) -> float:
        """Mean depth of the two end plates."""
        return (self.d_sup + self.d_inf) / 2

    @property
    def slope(self) -> float:
        """Height gained per millimetre from back to front; negative in a kyphotic body."""
        return (self.h_ant - self.h_post) / self.depth

    @property
    def canal_y(self) -> float:
        """Middle of the spinal canal, behind the middle of the body (local y, so negative)."""
        return -(self.depth + self.canal_d) / 2


@cache
def read_dimensions() -> Mapping[Level, Dimensions]:
    """Read the shipped table, C3 to L5, from the head down."""
    text = resources.files("spinesim.phantom").joinpath("vertebrae.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    table = {}
    for row in rows:
        level = parse_level(row.pop("level"))
        row.pop("confidence")
        table[level] = Dimensions(level, **{name: float(value) for name, value in row.items()})
    return MappingProxyType(table)
