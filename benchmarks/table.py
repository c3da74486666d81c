"""Make the table of the main job: each scan, size, side and apex, run and measured.

README.md beside it says how to read it.

python benchmarks/table.py                                  all of it, or the rest of it, into benchmarks/results.csv
python benchmarks/table.py --render benchmarks/results.csv  print the tables again, run nothing
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

from combination import Combination, measure_combination
from results import COLUMNS, of, read_rows, render
from runs import Row, choices, listed, run_due
from scans import SOURCES

from spinesim.anatomy.scan import Scan

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
    for name in options.scans:
        wanted = [Combination(name, *asked) for asked in product(options.apex, options.direction, options.cobb)]
        measure = _repeating(options.repeat, any(row["same_bytes"] for row in of(read_rows(options.out), "scan", name)))
        run_due(SOURCES[name], wanted, options.out, COLUMNS, _asked_in, measure, _in_short)
    print(render(read_rows(options.out)))


def _asked_in(row: dict[str, str]) -> Combination:
    return Combination(row["scan"], row["apex"], row["direction"], float(row["cobb_asked_deg"]))


def _repeating(repeat: str, repeated: bool) -> Callable[[Scan, Combination], Row]:
    """What measures combinations, and runs the first that is done twice, or all of them, or none."""

    def measure(scan: Scan, combination: Combination) -> Row:
        nonlocal repeated
        row = measure_combination(scan, combination, repeat=repeat == "all" or (repeat == "one" and not repeated))
        repeated |= "same_bytes" in row
        return row

    return measure


def _in_short(combination: Combination, row: Row) -> str:
    said = f"{' '.join(combination.key[1:])}: {row['outcome']}"
    if row["outcome"] != "done":
        return f"{said}, {row['said']}"
    return f"{said}, measured {row['cobb_measured_deg']}, folds {row['folds']}, worst RMS {row['rms_worst_mm']} mm"


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


if __name__ == "__main__":
    main()
