"""Run what a file of results does not hold yet, one after the other: a killed run goes on when it is started again."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

from results import append_row, code_digest, of, read_rows
from scans import Source

from spinesim.anatomy.scan import Scan
from spinesim.errors import SpinesimError

Asked = TypeVar("Asked", bound=Hashable)

Row = dict[str, object]
"""What is told of what was asked, by the names of the columns."""


def run_due(
    source: Source,
    wanted: Sequence[Asked],
    out: Path,
    columns: Sequence[str],
    asked_in: Callable[[dict[str, str]], Asked],
    measure: Callable[[Scan, Asked], Row],
    in_short: Callable[[Asked, Row], str],
) -> None:
    """Measure what is wanted of a scan and not there yet, and add a row for each as it comes.

    ``asked_in`` reads off a row what was asked, ``in_short`` says how it came out.
    """
    if source.missing:
        tell(f"{source.name}: skipped, {', '.join(map(str, source.missing))} is not there.")
        return
    there = {asked_in(row) for row in of(read_rows(out, columns), "scan", source.name)}
    due, code = [asked for asked in wanted if asked not in there], code_digest()
    scan = source.read() if due else None
    for rank, asked in enumerate(due, start=1):
        row = {"scan": source.name} | measure(scan, asked)
        append_row(out, row | {"code": code}, columns)
        tell(f"{rank}/{len(due)} {source.name} {in_short(asked, row)}, {row['seconds']} s")


def outcome_of_run(run: Callable[[], Row]) -> Row:
    """What a run tells, with the seconds that it took: a refusal is a result, and so is a crash."""
    began = time.perf_counter()
    try:
        found = {"outcome": "done"} | run()
    except SpinesimError as error:
        found = {"outcome": "refused", "said": " ".join(str(error).split())}
    except Exception as error:  # noqa: BLE001 - a fault of the package is told in the table, where it is seen
        found = {"outcome": "crashed", "said": f"{type(error).__name__}: {error}"}
    return {"seconds": f"{time.perf_counter() - began:.1f}"} | found


def listed(kind: Callable[[str], object]) -> Callable[[str], tuple]:
    """A reader of lists with commas."""

    def values(text: str) -> tuple:
        return tuple(kind(part.strip()) for part in text.split(","))

    return values


def choices(known: Sequence[str] | dict[str, Source]) -> Callable[[str], tuple[str, ...]]:
    """A reader of lists with commas, of known words."""

    def words(text: str) -> tuple[str, ...]:
        asked = tuple(part.strip() for part in text.split(","))
        if unknown := [word for word in asked if word not in known]:
            raise argparse.ArgumentTypeError(f"expected of {', '.join(known)}, got {', '.join(unknown)}")
        return asked

    return words


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
