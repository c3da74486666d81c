"""Time and memory of the whole of deform, beside a plain resampling and beside random elastic deformations of others.

README.md beside it says how to read it.

python benchmarks/speed.py                                  run what is not there yet, into benchmarks/speed.csv
python benchmarks/speed.py --render benchmarks/speed.csv    print the tables again, run nothing
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from methods import METHODS, installed
from results import code_digest
from scans import LIDC

COLUMNS = (
    *("scan", "method", "version", "round", "threads", "mvoxels", "seconds", "cpu_seconds", "peak_bytes"),
    *("folds", "jacobian_min", "rms_worst_mm", "rms_mean_mm", "cobb_change_deg", "said", "code"),
)
RESULTS = Path(__file__).with_name("speed.csv")
CUBE = (256, 256, 400)
GROWTH_MVOXELS = (8, 26, 75, 200)
WITH_PEERS = ("cube", "lidc")
OURS = [method for method in METHODS if method.startswith("spinesim")]
LIMIT_S = 470
GIB = 2**30

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked and not there yet, and print the tables."""
    options = _parser().parse_args(arguments)
    if options.render is None:
        options.work.mkdir(parents=True, exist_ok=True)
        rows = _read(options.out)
        for scan, method, number in _due(options, rows):
            row = {"scan": scan, "method": method, "round": number, "threads": options.threads, "code": code_digest()}
            _append(options.out, row | _run(scan, method, options, quality=number == 1))
    print(render(_read(options.render or options.out)))


def _due(options: argparse.Namespace, rows: list[Row]) -> Iterator[tuple[str, str, int]]:
    """What is to run: round after round, so that what else the machine does falls on all methods alike."""
    there = {(row["scan"], row["method"], int(row["round"])) for row in rows}
    for scan in options.scans:
        methods = list(METHODS) if scan in WITH_PEERS else OURS
        for number in range(1, options.rounds + 1):
            yield from ((scan, m, number) for m in methods if m in options.methods and (scan, m, number) not in there)


def _run(scan: str, method: str, options: argparse.Namespace, *, quality: bool) -> Row:
    """Run a method in a process of its own, its kernels compiled before."""
    if not installed(method):
        return {"said": "not installed"}
    ct, labels = input_files(scan, options.work)
    threads = str(options.threads)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    field = options.work / f"{scan}_field.nrrd"
    paths = [ct, labels, options.work / scan, field]
    command = [sys.executable, str(Path(__file__).with_name("methods.py")), method, *map(str, paths)]
    command += ["quality"] if quality else []
    if method == "SimpleITK" and not field.exists():
        return {"said": "needs the field of spinesim: run that first"}
    _tell(f"{scan}: {method}")
    said, printed = "", ""
    try:
        environment = os.environ | dict.fromkeys(names, threads)
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, env=environment)
        printed = done.stdout
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["killed"])[-1][:200]
    except subprocess.TimeoutExpired as error:
        printed, said = (error.stdout or b"").decode(), f"stopped after {LIMIT_S} s"
    found: Row = {"said": said, "version": installed(method), "mvoxels": f"{_voxels(ct) / 1e6:.1f}"}
    for line in printed.splitlines():
        found |= json.loads(line) if line.startswith("{") else {}
    return found


def input_files(scan: str, work: Path) -> tuple[Path, Path]:
    """CT and labels of a scan, made and kept in the work folder where they do not lie ready."""
    if scan == "lidc":
        return LIDC
    ct, labels = work / f"{scan}_ct.nii.gz", work / f"{scan}_seg.nii.gz"
    if not labels.exists():
        _tell(f"{scan}: making the scan")
        code = f"from speed import make_{'cube' if scan == 'cube' else 'grown'} as make; make({scan!r}, {str(work)!r})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
    return ct, labels


def make_cube(scan: str, work: str) -> None:
    """Write the phantom on 256 x 256 x 400 voxels; they are as long as its trunk needs along each axis."""
    from spinesim.anatomy.writing import write_labels, write_volume
    from spinesim.phantom import PhantomParameters, build_phantom
    from spinesim.phantom.build import BACK_MM, DEFAULT, FRONT_MM, WIDTH_MM, _height_range
    from spinesim.phantom.column import build_column
    from spinesim.phantom.individual import sample_individual

    variants = sample_individual(rng=np.random.default_rng(DEFAULT.seed)).variants
    low, high = _height_range(build_column(variants), DEFAULT)
    extent = np.array([WIDTH_MM, FRONT_MM - BACK_MM, high - low])
    spacing = extent / (np.array(CUBE) - 0.5)
    phantom = build_phantom(PhantomParameters(spacing_mm=tuple(spacing.tolist())))
    if phantom.grid.shape != CUBE:
        raise ValueError(f"expected a phantom of {CUBE} voxels, got {phantom.grid.shape}")
    write_volume(phantom.image, Path(work) / f"{scan}_ct.nii.gz")
    write_labels(phantom.labels, Path(work) / f"{scan}_seg.nii.gz")


def make_grown(scan: str, work: str) -> None:
    """Resample the cube to so many million voxels over the same trunk."""
    import SimpleITK as sitk  # noqa: N813

    factor = (float(scan.removeprefix("grown-")) * 1e6 / np.prod(CUBE)) ** (1 / 3)
    ways = {"ct": sitk.sitkLinear, "seg": sitk.sitkNearestNeighbor}
    for path, (name, way) in zip(input_files("cube", Path(work)), ways.items(), strict=True):
        image = sitk.ReadImage(path)
        target = sitk.Image([round(n * factor) for n in image.GetSize()], image.GetPixelID())
        target.SetOrigin(image.GetOrigin())
        target.SetDirection(image.GetDirection())
        target.SetSpacing(
            [s * n / m for s, n, m in zip(image.GetSpacing(), image.GetSize(), target.GetSize(), strict=True)]
        )
        grown = sitk.Resample(image, target, sitk.Transform(), way, 0, image.GetPixelID(), True)
        sitk.WriteImage(grown, Path(work) / f"{scan}_{name}.nii.gz", True, 1)


def _voxels(ct: Path) -> int:
    import nibabel as nib

    return int(np.prod(nib.load(ct).shape))


def render(rows: list[Row]) -> str:
    """Lay out all results as Markdown: a table a scan with peers, and how time grows with the number of voxels."""
    scans = [scan for scan in dict.fromkeys(row["scan"] for row in rows) if scan in WITH_PEERS]
    digests = ", ".join(dict.fromkeys(row["code"] for row in rows))
    return "\n\n".join([*(_scan_table(scan, rows) for scan in scans), _growth_table(rows), f"Code: {digests}."])


def _scan_table(scan: str, rows: list[Row]) -> str:
    head = (
        "method",
        "s",
        "of a resampling",
        "processor s",
        "of a resampling",
        "peak MiB",
        "of the float32 input",
        "within 3 x input + 1 GiB",
    )
    head += ("folds", "min J", "RMS worst mm", "RMS mean mm", "Cobb changed by °")
    lines = [_line(list(head)), _line(["---"] * len(head))]
    for method in METHODS:
        mine = [row for row in rows if row["scan"] == scan and row["method"] == method]
        good = [row for row in mine if row["seconds"]]
        if not good:
            lines += [_line([method, mine[0]["said"], *[""] * (len(head) - 2)])] if mine else []
            continue
        first, cells = good[0], [f"{method} {good[0]['version']}"]
        for clock in ("seconds", "cpu_seconds"):
            seconds, plain = _seconds(rows, scan, method, clock), _seconds(rows, scan, "SimpleITK", clock)
            cells += [f"{seconds:.1f}", f"{seconds / plain:.2f}" if plain else ""]
        cells += _memory(_peak(good), float(first["mvoxels"]))
        quality = ("folds", "jacobian_min", "rms_worst_mm", "rms_mean_mm", "cobb_change_deg")
        lines.append(_line([*cells, *(first[name] or "not measured" for name in quality)]))
    size = next((row["mvoxels"] for row in rows if row["scan"] == scan and row["mvoxels"]), "?")
    threads = next(row["threads"] for row in rows if row["scan"] == scan)
    return f"### {scan}: {size} Mvoxels, {threads} threads\n\n" + "\n".join(lines)


def _growth_table(rows: list[Row]) -> str:
    """Time and memory of deform over the number of voxels, and the slope of their logarithms."""
    head = ("method", "Mvoxels", "s", "s per Mvoxel", "peak MiB", "of the float32 input", "within 3 x input + 1 GiB")
    lines, slopes = [_line(head), _line(["---"] * len(head))], []
    for method in OURS:
        mine = [r for r in rows if r["scan"].startswith("grown-") and r["method"] == method and r["seconds"]]
        done = sorted({(float(row["mvoxels"]), row["scan"]) for row in mine})
        seconds = [_seconds(rows, scan, method) or 0.0 for _, scan in done]
        for (size, scan), took in zip(done, seconds, strict=True):
            peak = _peak([row for row in mine if row["scan"] == scan])
            lines.append(_line([method, f"{size:g}", f"{took:.1f}", f"{took / size:.3f}", *_memory(peak, size)]))
        if len(done) > 1:
            slope = np.polyfit(np.log([size for size, _ in done]), np.log(seconds), 1)[0]
            slopes.append(f"Slope of log time over log voxels, {method}: {slope:.2f}.")
    if len(lines) == 2:
        return "No growth measured yet."
    return "### How deform grows\n\n" + "\n".join(lines) + "\n\n" + " ".join(slopes)


def _seconds(rows: list[Row], scan: str, method: str, clock: str = "seconds") -> float | None:
    """Median over the rounds."""
    found = [float(r[clock]) for r in rows if r["scan"] == scan and r["method"] == method and r["seconds"]]
    return median(found) if found else None


def _peak(rows: list[Row]) -> int:
    return max(int(row["peak_bytes"]) for row in rows)


def _memory(peak: int, mvoxels: float) -> list[str]:
    floats = 4e6 * mvoxels
    return [f"{peak / 2**20:.0f}", f"{peak / floats:.1f}", "yes" if peak <= 3 * floats + GIB else "no"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _read(path: Path) -> list[Row]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def _append(path: Path, row: Row) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as lines:
        table = csv.DictWriter(lines, COLUMNS, restval="", lineterminator="\n")
        if new:
            table.writeheader()
        table.writerow(row)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    scans = (*WITH_PEERS, *(f"grown-{n}" for n in GROWTH_MVOXELS))
    add = parser.add_argument
    add("--scans", type=lambda text: tuple(text.split(",")), default=scans, help=f"of {','.join(scans)} [all]")
    add("--methods", type=lambda text: tuple(text.split(",")), default=tuple(METHODS), help="of " + ",".join(METHODS))
    add("--rounds", type=int, default=3, help="times that each is run; the median counts [3]")
    add("--threads", type=int, default=os.cpu_count() or 1, help="threads of every method [all processors]")
    add("--work", type=Path, default=Path(tempfile.gettempdir()) / "spinesim-speed", help="folder for scans and output")
    add("--out", type=Path, default=RESULTS, help="file that rows are added to [benchmarks/speed.csv]")
    add("--render", type=Path, metavar="CSV", help="print the tables of a file of results and run nothing")
    return parser


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
