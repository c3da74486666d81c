"""Hold every kind of pathology against the promises, on each scan: presets, and what a sentence asks for.

README.md beside it says how to read it.

python benchmarks/pathologies.py                                      all, or the rest, into benchmarks/pathologies.csv
python benchmarks/pathologies.py --render benchmarks/pathologies.csv  print the tables again, run nothing
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from combination import at_edge, measure_labels
from results import code_line, largest, markdown, of, read_rows
from runs import Row, choices, listed, outcome_of_run, run_due
from scans import DATA, LIDC, SOURCES, Source

from spinesim.anatomy.levels import parse_level
from spinesim.anatomy.reading import read_scan
from spinesim.anatomy.scan import Scan
from spinesim.deform.field import determinants
from spinesim.pathology.configuration import presets, read_configuration
from spinesim.pathology.prompt import read_prompt
from spinesim.pathology.proposal import Pathology, tolerances_of
from spinesim.phantom import PhantomParameters, build_whole_phantom
from spinesim.series.case import Case, simulate
from spinesim.series.plausibility import RIGID

SENTENCES = {
    "lidc": (
        "kyphosis of 60 degrees from T4 to T12",
        "kyphosis of 25 degrees from T4 to T12",
        "slip of T12 by 20 percent",
        "slip of T12 by 60 percent with a pars defect",
        "disc degeneration of T11/T12, Pfirrmann 4",
        "left transverse process fracture of T12, displaced by 6 mm",
        "3 cm growth in the right lower lobe",
        "35 degree right thoracic scoliosis, apex T9, moderate wedge fracture of T12, 10 mm sclerotic metastasis in T8",
    ),
    "verse004": (
        "lordosis of 25 degrees from L1 to L5",
        "slip of L4 by 18 percent",
        "Meyerding 2 slip of L4 with a pars defect",
        "slip of L3 by 60 percent with a pars defect",
        "disc degeneration of L3/L4, Pfirrmann 5",
        "spinous process fracture of L2, displaced by 6 mm",
        "girl growing from 12 to 14 years",
        "moderate crush fracture of L3",
        "30 degree left lumbar scoliosis, apex L2, with a mild wedge fracture of L4",
    ),
    "phantom": (
        "kyphosis of 25 degrees from T4 to T12",
        "Meyerding 3 slip of L5",
        "slip of L4 by 40 percent with a pars defect",
        "girl growing from 11 to 13 years, 30 degree right scoliosis with apex T8, moderate wedge fracture of L1",
    ),
}
"""What is asked of a scan beside the presets."""

LOBES = DATA / "LIDC-IDRI-0001_totalseg_v2.nii.gz"

COLUMNS = (
    *("scan", "asked", "outcome", "goals", "miss_worst", "folds", "jacobian_min", "rms_worst_mm", "rms_worst_level"),
    *("rms_promised_mm", "volume_worst_percent", "volume_worst_level", "labels_kept", "labels_changed"),
    *("one_piece_before", "one_piece_after", "broken", "broken_rules", "seconds", "said", "code"),
)
"""What is written of each; the first two say what was asked. ``miss_worst`` is in parts of a goal's tolerance."""

RESULTS = Path(__file__).with_name("pathologies.csv")

Rows = Sequence[dict[str, str]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked and not there yet, and print the tables."""
    options = _parser().parse_args(arguments)
    if options.render is not None:
        print(render(read_rows(options.render, COLUMNS)))
        return
    for name in options.scans:
        wanted = options.asked or (*presets(), *SENTENCES[name])
        run_due(
            SOURCES[name],
            wanted,
            options.out,
            COLUMNS,
            lambda row: row["asked"],
            lambda scan, asked, name=name: measure_pathology(scan, name, asked),
            lambda asked, row: f"{asked}: {row['outcome']}, {row.get('goals') or row['said']}",
        )
    print(render(read_rows(options.out, COLUMNS)))


def measure_pathology(scan: Scan, name: str, asked: str) -> Row:
    """Make what is asked of a scan, its labels alone where that is enough, and tell how it came out."""

    def run() -> Row:
        pathology, seed = _read(asked)
        given = with_structures(name, scan) if getattr(pathology, "needs_structures", False) else Scan(scan.labels)
        case = simulate(given, pathology, seed=seed, inpaint="none")
        return {"said": "; ".join(case.warnings)} | _measured(case)

    return {"asked": asked} | outcome_of_run(run)


def _read(asked: str) -> tuple[Pathology, int]:
    """The pathology of a preset or a sentence, and the seed."""
    if asked not in presets():
        return read_prompt(asked).pathology, 0
    configuration = read_configuration(asked)
    return configuration.pathology, configuration.seed


def with_structures(name: str, scan: Scan) -> Scan:
    """A scan with labels of more than the spine, where there are any."""
    if name == "phantom":
        phantom = build_whole_phantom(PhantomParameters())
        return Scan(phantom.structures, phantom.scan.image)
    return read_scan(LIDC[0], LOBES) if name == "lidc" and LOBES.is_file() else scan


def _measured(case: Case) -> Row:
    """Everything that is measured on a finished case."""
    goals, tolerances, field = case.goals, tolerances_of(case.pathology), case.deformation.field
    low, _ = determinants(field.displacement, field.grid)
    rigid = next((check for check in case.checks if check.rule == RIGID), None)
    moved = {v.level.name for v in case.before_spine.whole} & case.fidelity.keys() - _changed(case)
    uncut = [name for name in moved if not at_edge(case.after.labels, parse_level(name))]
    volume = max(uncut, key=lambda name: abs(case.fidelity[name][1] - 1), default=None)
    broken = [str(check) for check in case.checks if not check.kept]
    return {
        "goals": "; ".join(f"{goal} {asked:g} → {measured:.1f}" for goal, (asked, measured, _) in goals.items()),
        "miss_worst": f"{max((abs(a - m) / tolerances[g] for g, (a, m, _) in goals.items()), default=0):.2f}",
        "folds": int(np.count_nonzero(low <= 0)),
        "jacobian_min": f"{low.min():.3f}",
        "rms_worst_mm": f"{rigid.value:.4f}" if rigid else "",
        "rms_worst_level": rigid.place if rigid else "",
        "rms_promised_mm": f"{rigid.limit:g}" if rigid else "",
        "volume_worst_percent": f"{100 * (case.fidelity[volume][1] - 1):+.2f}" if volume else "",
        "volume_worst_level": volume or "",
        **measure_labels(case.before.labels, case.after.labels),
        "broken_rules": "; ".join(broken),
    }


def _changed(case: Case) -> set[str]:
    """Levels that do not move as a whole."""
    return {anchor.level.name for anchor in case.proposal.plan.anchors if anchor.part.value != "whole"}


def render(rows: Rows) -> str:
    """Lay out all results as Markdown: a table a scan, what was refused, and a line a scan that sums it up."""
    scans = [name for name in SOURCES if of(rows, "scan", name)]
    parts = [_scan_table(SOURCES[name], of(rows, "scan", name)) for name in scans]
    lines = [f"- {_summary(name, of(rows, 'scan', name))}" for name in scans]
    return "\n\n".join([*parts, "### In a line", "\n".join(lines), code_line(rows)])


def _scan_table(source: Source, rows: Rows) -> str:
    head = ("asked", "goals: asked → measured", "folds", "min J", "RMS worst mm", "promised", "volume %", "labels", "s")
    done, others = of(rows, "outcome", "done"), [row for row in rows if row["outcome"] != "done"]
    parts = [f"### {source.title}", markdown(head, map(_cells, done))]
    if others:
        said = [[row["asked"], row["outcome"], row["said"].replace("|", "/")] for row in others]
        parts.append(markdown(("asked", "outcome", "the sentence"), said))
    return "\n\n".join(parts)


def _cells(row: dict[str, str]) -> list[str]:
    labels = "same" if row["labels_kept"] == "y" else f"changed {row['labels_changed']}"
    return [
        row["asked"],
        row["goals"],
        row["folds"],
        row["jacobian_min"],
        f"{row['rms_worst_mm']} {row['rms_worst_level']}".strip(),
        row["rms_promised_mm"],
        f"{row['volume_worst_percent']} {row['volume_worst_level']}".strip(),
        f"{labels}, broken {row['broken']}" if row["broken"] else labels,
        row["seconds"],
    ]


def _summary(name: str, rows: Rows) -> str:
    """One scan in a line."""
    counts = ", ".join(f"{len(of(rows, 'outcome', word))} {word}" for word in ("done", "refused", "crashed"))
    done = of(rows, "outcome", "done")
    said = [f"**{name}**: n = {len(rows)} ({counts})"]
    if done:
        strained = [
            row["asked"] for row in done if float(row["rms_worst_mm"] or 0) > float(row["rms_promised_mm"] or 1)
        ]
        named = f" ({', '.join(strained)})" if strained else ""
        torn = sum(bool(row["broken"]) for row in done)
        said += [
            f"goals within {largest(done, 'miss_worst')} of their tolerance",
            f"folds {sum(int(row['folds']) for row in done)}, min J {min(float(r['jacobian_min']) for r in done):.3f}",
            f"bones strained past what is promised in {len(strained)}{named}",
            f"labels lost or born in {len(of(done, 'labels_kept', 'n'))}, broken in {torn}",
        ]
    return "; ".join(said)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--scans", type=choices(SOURCES), default=tuple(SOURCES), help=f"of {','.join(SOURCES)} [all]")
    add("--asked", type=listed(str), help="presets, for example lenke-1,burst-a3-l1 [all, and sentences]")
    add("--out", type=Path, default=RESULTS, help="file that rows are added to [benchmarks/pathologies.csv]")
    add("--render", type=Path, metavar="CSV", help="print the tables of a file of results and run nothing")
    return parser


if __name__ == "__main__":
    main()
