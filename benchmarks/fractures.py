"""Make the table of fractures: each scan, level, type and Genant grade, run and measured on the output labels.

README.md beside it says how to read it.

python benchmarks/fractures.py                                    all, or the rest, into benchmarks/fractures.csv
python benchmarks/fractures.py --render benchmarks/fractures.csv  print the tables again, run nothing
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

from combination import at_edge, measure_labels
from results import code_line, largest, markdown, of, read_rows
from runs import Row, choices, listed, outcome_of_run, run_due
from scans import SOURCES

from spinesim.anatomy.levels import parse_level
from spinesim.anatomy.scan import Scan
from spinesim.deform.field import determinants
from spinesim.pathology.fracture import WALL_SHARE, Fracture
from spinesim.pathology.proposal import outcome_of
from spinesim.series.case import Case, simulate

TYPES = ("wedge", "biconcave", "crush")
GRADES = (1, 2, 3)

LEVELS = {
    ("lidc", "wedge"): ("T4", "T5", "T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1"),
    ("lidc", "other"): ("T5", "T8", "T11", "L1"),
    ("verse004", "wedge"): ("T12", "L1", "L3"),
    ("verse004", "other"): ("L3",),
    ("phantom", "wedge"): ("T8", "L1"),
    ("phantom", "other"): ("L1",),
}
"""Where each scan is fractured: by a wedge, and by the other types."""

PLACES = ("anterior", "middle", "posterior", "left", "right")

COLUMNS = (
    *("scan", "type", "level", "genant_grade", "outcome", "loss_asked_percent", "loss_measured_percent"),
    *("type_measured", "grade_measured", *(f"{place}_loss_percent" for place in PLACES)),
    *("folds", "jacobian_min", "rms_worst_mm", "rms_worst_level", "volume_worst_percent"),
    *("labels_kept", "labels_changed", "one_piece_before", "one_piece_after", "broken", "seconds", "said", "code"),
)
"""What is written of each; the first four say what was asked."""

RESULTS = Path(__file__).with_name("fractures.csv")

Rows = Sequence[dict[str, str]]


class Asked(NamedTuple):
    """A fracture that is asked of a scan."""

    type: str
    level: str
    grade: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked and not there yet, and print the tables."""
    options = _parser().parse_args(arguments)
    if options.render is not None:
        print(render(read_rows(options.render, COLUMNS)))
        return
    for name in options.scans:
        wanted = list(_wanted(name, options))
        run_due(SOURCES[name], wanted, options.out, COLUMNS, _asked_in, measure_fracture, _in_short)
    print(render(read_rows(options.out, COLUMNS)))


def _asked_in(row: dict[str, str]) -> Asked:
    return Asked(row["type"], row["level"], int(row["genant_grade"]))


def _wanted(scan: str, options: argparse.Namespace) -> Iterator[Asked]:
    for kind in options.types:
        levels = options.levels or LEVELS[scan, "wedge" if kind == "wedge" else "other"]
        yield from (Asked(kind, *each) for each in product(levels, options.grades))


def measure_fracture(scan: Scan, asked: Asked) -> Row:
    """Fracture a scan, its labels alone, and tell how it came out."""

    def run() -> Row:
        fracture = Fracture(level=asked.level, type=asked.type, genant_grade=asked.grade)
        case = simulate(Scan(scan.labels), fracture)
        return {"said": "; ".join(case.warnings)} | _measured(case)

    return {"type": asked.type, "level": asked.level, "genant_grade": asked.grade} | outcome_of_run(run)


def _measured(case: Case) -> Row:
    """Everything that is measured on a finished case."""
    ((asked, measured, _),), field = case.goals.values(), case.deformation.field
    outcome = outcome_of(case.pathology, case.after_measures, case.before_measures)
    low, _ = determinants(field.displacement, field.grid)
    return {
        "loss_asked_percent": f"{asked:.2f}",
        "loss_measured_percent": f"{measured:.2f}",
        "type_measured": outcome["type"],
        "grade_measured": outcome["genant_grade"],
        **{f"{place}_loss_percent": f"{outcome[f'{place}_loss_percent']:.1f}" for place in PLACES},
        "folds": int((low <= 0).sum()),
        "jacobian_min": f"{low.min():.3f}",
        **_other_bones(case),
        **measure_labels(case.before.labels, case.after.labels),
    }


def _other_bones(case: Case) -> Row:
    """How far whole bones but the fractured one are from rigid; how volumes changed that the edge does not cut."""
    others = {v.level.name for v in case.before_spine.whole} & case.fidelity.keys() - {case.pathology.level}
    worst = max(others, key=lambda name: case.fidelity[name][0])
    uncut = [name for name in others if not at_edge(case.after.labels, parse_level(name))]
    volume = max((100 * (case.fidelity[name][1] - 1) for name in uncut), key=abs)
    return {
        "rms_worst_mm": f"{case.fidelity[worst][0]:.4f}",
        "rms_worst_level": worst,
        "volume_worst_percent": f"{volume:+.2f}",
    }


def render(rows: Rows) -> str:
    """Lay out all results as Markdown: a table a scan, what was refused, and a line a scan that sums it up."""
    scans = [name for name in SOURCES if of(rows, "scan", name)]
    parts = [_scan_table(name, of(rows, "scan", name)) for name in scans]
    lines = [f"- {_summary(name, of(rows, 'scan', name))}" for name in scans]
    return "\n\n".join([*parts, "### In a line", "\n".join(lines), code_line(rows)])


def _scan_table(name: str, rows: Rows) -> str:
    """One scan: a line a type and level, a column a grade."""
    by_grade = {_asked_in(row): row for row in rows}
    places = {(asked.type, asked.level) for asked in by_grade}
    lines = [
        [*place, *(_cell(by_grade.get(Asked(*place, grade))) for grade in GRADES)]
        for place in sorted(places, key=lambda place: (TYPES.index(place[0]), parse_level(place[1])))
    ]
    parts = [f"### {SOURCES[name].title}", markdown(("type", "level", *(f"grade {n}" for n in GRADES)), lines)]
    others = [row for row in rows if row["outcome"] != "done"]
    if others:
        said = [[row["type"], row["level"], row["genant_grade"], row["said"].replace("|", "/")] for row in others]
        parts.append(markdown(("type", "level", "grade", "the sentence"), said))
    return "\n\n".join(parts)


def _cell(row: dict[str, str] | None) -> str:
    """Loss asked and measured, in a wedge what the back lost, and what came out otherwise than asked."""
    if row is None or row["outcome"] != "done":
        return row["outcome"] if row else ""
    back = f", back {float(row['posterior_loss_percent']):.0f}" if row["type"] == "wedge" else ""
    other = [] if _has_type(row) else [row["type_measured"]]
    other += [] if _has_grade(row) else [f"grade {row['grade_measured']}"]
    text = f"{float(row['loss_asked_percent']):.1f} → {float(row['loss_measured_percent']):.1f}{back}"
    return f"{text} (**{', '.join(other)}**)" if other else text


def _has_type(row: dict[str, str]) -> bool:
    return row["type"] == row["type_measured"]


def _has_grade(row: dict[str, str]) -> bool:
    return row["genant_grade"] == row["grade_measured"]


def _summary(name: str, rows: Rows) -> str:
    """One scan in a line."""
    counts = ", ".join(f"{len(of(rows, 'outcome', word))} {word}" for word in ("done", "refused", "crashed"))
    done, wedges = of(rows, "outcome", "done"), of(of(rows, "outcome", "done"), "type", "wedge")
    said = [f"**{name}**: n = {len(rows)} ({counts})"]
    if done:
        folds, least = sum(int(row["folds"]) for row in done), min(float(row["jacobian_min"]) for row in done)
        off = [abs(float(row["loss_measured_percent"]) - float(row["loss_asked_percent"])) for row in done]
        said += [
            f"loss within {max(off):.1f} points",
            f"grade as asked in {sum(map(_has_grade, done))}, type in {sum(map(_has_type, done))}",
            f"folds {folds}, min J {least:.3f}",
            f"other bones: worst RMS {largest(done, 'rms_worst_mm')} mm",
            f"worst volume change {largest(done, 'volume_worst_percent')} %",
            f"labels lost or born in {len(of(done, 'labels_kept', 'n'))}, broken in {sum(map(_broken, done))}",
            f"{sum(float(row['seconds']) for row in done) / len(done):.0f} s on average",
        ]
    if wedges:
        lost = [float(row["posterior_loss_percent"]) for row in wedges]
        past = sum(loss > 100 * WALL_SHARE for loss in lost)
        said += [f"wedges whose back lost more than {WALL_SHARE:.0%}: {past} (most {max(lost):.0f} %)"]
    return "; ".join(said)


def _broken(row: dict[str, str]) -> bool:
    return bool(row["broken"])


def _in_short(asked: Asked, row: Row) -> str:
    said = f"{asked.level} {asked.type} {asked.grade}: {row['outcome']}"
    if row["outcome"] == "done":
        said += f", asked {row['loss_asked_percent']}, measured {row['loss_measured_percent']}"
        said += f", {row['type_measured']} {row['grade_measured']}, back {row['posterior_loss_percent']}"
        said += f", RMS {row['rms_worst_mm']} mm, folds {row['folds']}"
    return f"{said}; {row['said']}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--scans", type=choices(SOURCES), default=tuple(SOURCES), help=f"of {','.join(SOURCES)} [all]")
    add("--types", type=choices(TYPES), default=TYPES, help="of wedge,biconcave,crush [all]")
    add("--levels", type=listed(str), help="levels, for example T9,L1 [some of each scan, more for wedges]")
    add("--grades", type=listed(int), default=GRADES, help="Genant grades [1,2,3]")
    add("--out", type=Path, default=RESULTS, help="file that rows are added to [benchmarks/fractures.csv]")
    add("--render", type=Path, metavar="CSV", help="print the tables of a file of results and run nothing")
    return parser


if __name__ == "__main__":
    main()
