"""Make the table of the main job: each scan, size, side and apex, run and measured.

README.md beside it says how to read it.

python benchmarks/table.py                                  all of it, or the rest of it, into benchmarks/results.csv
python benchmarks/table.py --render benchmarks/results.csv  print the tables again, run nothing
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from combination import Combination, measure_combination
from results import append_row, code_digest, read_rows, render
from scans import SOURCES, Source

APICES = ("T5", "T8", "T9", "T11")
DIRECTIONS = ("right", "left")
COBB_DEG = (10.0, 20.0, 35.0, 50.0, 65.0, 80.0)
REPEATS = ("none", "one", "all")
RESULTS = Path(__file__).with_name("results.csv")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked and not there yet, and print the tables."""
    options = _parser().parse_args(arguments)
    if options.render is not None:
        print(render(read_rows(options.render)))
        return
    code = code_digest()
    for name in options.scans:
        wanted = [Combination(name, *asked) for asked in product(options.apex, options.direction, options.cobb)]
        run_source(SOURCES[name], wanted, options.out, options.repeat, code)
    print(render(read_rows(options.out)))


def run_source(source: Source, wanted: Sequence[Combination], out: Path, repeat: str, code: str) -> None:
    """Run the combinations of one scan that the file of results does not hold yet."""
    if source.missing:
        tell(f"{source.name}: skipped, {', '.join(map(str, source.missing))} is not there.")
        return
    rows = [row for row in read_rows(out) if row["scan"] == source.name]
    there = {Combination(source.name, row["apex"], row["direction"], float(row["cobb_asked_deg"])) for row in rows}
    due = [combination for combination in wanted if combination not in there]
    if not due:
        return
    repeated = any(row["same_bytes"] for row in rows)
    scan = source.read()
    for rank, combination in enumerate(due, start=1):
        twice = repeat == "all" or (repeat == "one" and not repeated)
        row = measure_combination(scan, combination, repeat=twice)
        repeated |= "same_bytes" in row
        append_row(out, row | {"code": code})
        tell(f"{rank}/{len(due)} {' '.join(combination.key)}: {_in_short(row)}")


def _in_short(row: dict[str, object]) -> str:
    if row["outcome"] != "done":
        return f"{row['outcome']} after {row['seconds']} s: {row['said']}"
    measured = f"measured {row['cobb_measured_deg']}, folds {row['folds']}, worst RMS {row['rms_worst_mm']} mm"
    return f"{measured}, {row['seconds']} s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--scans", type=choices(SOURCES), default=tuple(SOURCES), help=f"of {','.join(SOURCES)} [all]")
    add("--apex", type=listed(str), default=APICES, help="apices, for example T9,L1,T8/T9 [T5,T8,T9,T11]")
    add("--cobb", type=listed(float), default=COBB_DEG, help="Cobb angles in degrees [10,20,35,50,65,80]")
    add("--direction", type=choices(DIRECTIONS), default=DIRECTIONS, help="right,left [both]")
    add("--repeat", choices=REPEATS, nargs="?", const="all", default="one", help="what to run twice [one a scan]")
    add("--out", type=Path, default=RESULTS, help="file that rows are added to [benchmarks/results.csv]")
    add("--render", type=Path, metavar="CSV", help="print the tables of a file of results and run nothing")
    return parser


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


if __name__ == "__main__":
    main()
