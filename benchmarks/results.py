"""The file of results: a row a combination, written as it comes, and the Markdown tables made from it."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from scans import SOURCES

import spinesim
from spinesim.anatomy.levels import Level, parse_level

COLUMNS = (
    *("scan", "apex", "direction", "cobb_asked_deg", "outcome"),
    *("cobb_measured_deg", "difference_deg", "cobb_native_deg", "folds", "jacobian_min"),
    *("rms_worst_mm", "rms_worst_level", "rms_mean_mm", "rms_with_shell_mm"),
    *("volume_worst_percent", "volume_worst_level", "cut_by_edge", "labels_kept", "labels_changed"),
    *("one_piece_before", "one_piece_after", "broken", "apex_found", "apex_off_levels", "seconds", "same_bytes"),
    *("said", "code"),
)
"""What is written of each combination; the first four say what was asked, and what does not apply is empty."""

ROOMS = ("anatomy", "deform", "pathology", "phantom", "series")
"""The rooms whose code the figures come from."""

APEX_TOLERANCE = 0.75
"""Levels that an apex may be off, as the package itself has it."""

HEAD = (
    *("apex", "side", "asked °", "measured °", "diff °", "folds", "min J"),
    *("RMS worst mm", "RMS mean mm", "RMS with shell mm", "volume %", "cut"),
    *("labels kept", "one piece", "apex found", "s", "same bytes"),
)

Rows = Sequence[dict[str, str]]


def code_digest() -> str:
    """Eight digits that tell one state of the package's code from another."""
    home = Path(spinesim.__file__).parent
    files = sorted(path for room in ROOMS for path in (home / room).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:8]


def read_rows(path: Path, columns: Sequence[str] = COLUMNS) -> list[dict[str, str]]:
    """Read a file of results; none yet is no rows.

    Raises
    ------
    ValueError
        When the file has other columns.
    """
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        table = csv.DictReader(lines)
        if tuple(table.fieldnames or ()) != tuple(columns):
            raise ValueError(f"{path}: expected the columns of this script, got others; choose another --out")
        return list(table)


def append_row(path: Path, row: dict[str, object], columns: Sequence[str] = COLUMNS) -> None:
    """Put a row at the end of a file of results, in one write, so that a killed run leaves whole lines."""
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        table.writeheader()
    table.writerow(row)
    with path.open("a", newline="", encoding="utf-8") as lines:
        lines.write(text.getvalue())


def render(rows: Rows) -> str:
    """Lay out all results as Markdown: a table a scan, its refusals, and a line a scan that sums it up."""
    scans = [name for name in SOURCES if any(row["scan"] == name for row in rows)]
    parts = [_scan_table(name, of(rows, "scan", name)) for name in scans]
    lines = [f"- {_summary(name, of(rows, 'scan', name))}" for name in scans]
    return "\n\n".join([*parts, "### In a line", "\n".join(lines), code_line(rows)])


def _scan_table(name: str, rows: Rows) -> str:
    """One scan: what was done, and then what was refused, and why."""
    rows = sorted(rows, key=lambda r: (_rank(r["apex"]), r["direction"] != "right", float(r["cobb_asked_deg"])))
    done, parts = of(rows, "outcome", "done"), [f"### {SOURCES[name].title}"]
    if done:
        parts.append(markdown(HEAD, [_cells(row) for row in done]))
    if len(done) < len(rows):
        head = ("apex", "side", "asked °", "outcome", "the sentence")
        others = [row for row in rows if row["outcome"] != "done"]
        parts.append(markdown(head, [[*_asked(row), row["outcome"], row["said"].replace("|", "/")] for row in others]))
    return "\n\n".join(parts)


def _rank(apex: str) -> tuple[Level, ...]:
    """Sort ``T9`` before ``T11``, and both before ``L1``."""
    return tuple(parse_level(name) for name in apex.split("/"))


def _asked(row: dict[str, str]) -> list[str]:
    return [row["apex"], row["direction"], row["cobb_asked_deg"]]


def _cells(row: dict[str, str]) -> list[str]:
    """One line of the table; what went wrong is named beside the number."""
    return [
        *_asked(row),
        row["cobb_measured_deg"],
        row["difference_deg"],
        row["folds"],
        row["jacobian_min"],
        f"{row['rms_worst_mm']} {row['rms_worst_level']}",
        row["rms_mean_mm"],
        row["rms_with_shell_mm"],
        f"{row['volume_worst_percent']} {row['volume_worst_level']}".strip(),
        row["cut_by_edge"],
        _with_names(row["labels_kept"], row["labels_changed"]),
        _with_names(f"{row['one_piece_after']}/{row['one_piece_before']}", row["broken"]),
        _with_names(row["apex_found"], row["apex_off_levels"] if _wrong_apex(row) else ""),
        row["seconds"],
        row["same_bytes"],
    ]


def _with_names(text: str, names: str) -> str:
    return f"{text} ({names})" if names else text


def _wrong_apex(row: dict[str, str]) -> bool:
    return not row["apex_off_levels"] or abs(float(row["apex_off_levels"])) > APEX_TOLERANCE


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *lines))


def _summary(name: str, rows: Rows) -> str:
    """One scan in a line."""
    counts = ", ".join(f"{len(of(rows, 'outcome', word))} {word}" for word in ("done", "refused", "crashed"))
    said = f"**{name}**: n = {len(rows)} ({counts})"
    done = of(rows, "outcome", "done")
    return "; ".join([said, *_goals(done), *_fidelity(done), *_labels(done)]) if done else said


def _goals(done: Rows) -> list[str]:
    """Goals, folds and time, over all that was done."""
    return [
        f"largest difference {largest(done, 'difference_deg')}°",
        f"apex off in {sum(map(_wrong_apex, done))}",
        f"folds {sum(int(row['folds']) for row in done)}, min J {min(float(row['jacobian_min']) for row in done):.3f}",
        f"{sum(float(row['seconds']) for row in done) / len(done):.0f} s on average",
    ]


def _fidelity(done: Rows) -> list[str]:
    """How rigid bones stayed, up to 60 and up to 80 degrees."""
    mild, all_80 = ([row for row in done if float(row["cobb_asked_deg"]) <= limit] for limit in (60, 80))
    uncut = [row for row in done if row["volume_worst_percent"]]
    return [
        f"worst RMS {largest(mild, 'rms_worst_mm')} mm up to 60°, {largest(all_80, 'rms_worst_mm')} mm up to 80°",
        f"with shell {largest(mild, 'rms_with_shell_mm')} and {largest(all_80, 'rms_with_shell_mm')} mm",
        f"worst volume change {largest(uncut, 'volume_worst_percent')} %",
    ]


def _labels(done: Rows) -> list[str]:
    """Labels that were lost, born or broken, and bytes that differed."""
    return [
        f"labels lost or born in {len(of(done, 'labels_kept', 'n'))}",
        f"labels broken in {sum(bool(row['broken']) for row in done)}",
        f"run twice {sum(bool(row['same_bytes']) for row in done)}, differing {len(of(done, 'same_bytes', 'n'))}",
    ]


def largest(rows: Rows, column: str) -> str:
    """The value of a column farthest from 0, as it stands there; a dash where there is none."""
    return max((row[column] for row in rows), key=lambda text: abs(float(text)), default="–")


def code_line(rows: Rows) -> str:
    """Say which code the rows came from, and if that is not the code that is here."""
    codes, here = sorted({row["code"] for row in rows}), code_digest()
    if codes in ([], [here]):
        return f"Code: {here}."
    return (
        f"**Mixed or old:** the code here is {here}, the rows come from {', '.join(codes)}; "
        "take a new --out for figures of this code."
    )


def of(rows: Rows, column: str, value: str) -> list[dict[str, str]]:
    return [row for row in rows if row[column] == value]
