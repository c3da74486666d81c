"""Published patterns of scoliotic curves: where a curve of a size and an apex begins and ends."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from spinesim.anatomy.levels import USUAL, Level, parse_level


@dataclass(frozen=True)
class Pattern:
    """End vertebrae of the curves with one apex in one class of size, as distances from the apex in levels."""

    smallest_deg: float
    largest_deg: float
    apex: Level
    levels_above: int
    levels_below: int


@cache
def read_patterns() -> tuple[Pattern, ...]:
    """Read the shipped table (607 films; its header names the source)."""
    text = files("spinesim.pathology").joinpath("curve_patterns.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return tuple(_pattern(row) for row in rows)


def _pattern(row: dict[str, str]) -> Pattern:
    smallest, largest = row["major_cobb_class_deg"].split("-")
    upper, apex, lower = (
        USUAL.index(parse_level(row[key])) for key in ("upper_end_median", "apex_level", "lower_end_median")
    )
    return Pattern(float(smallest), float(largest), USUAL[apex], apex - upper, lower - apex)


def usual_extent(cobb_deg: float, apex: Level) -> tuple[int, int]:
    """How many levels above and below its apex a curve of this size usually ends.

    The class of the size (outermost classes go on without bound) and in it the nearest apex are looked up.
    """
    patterns = read_patterns()
    smallest = min(p.smallest_deg for p in patterns)
    largest = max(p.largest_deg for p in patterns)
    size = min(max(cobb_deg, smallest), largest)
    fitting = [p for p in patterns if p.smallest_deg <= size <= p.largest_deg]
    nearest = min(fitting, key=lambda p: (abs(p.apex - apex), -p.smallest_deg))
    return nearest.levels_above, nearest.levels_below
