"""One method on one scan, in a process of its own: how long it took, how much memory, and what it did to the bones.

Called by speed.py; prints a JSON object a line: what it took, then what came of it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.measure import measure_spine
from spinesim.anatomy.memory import keep_modules, share_heap
from spinesim.anatomy.reading import read_scan
from spinesim.anatomy.scan import LabelMap, Scan
from spinesim.anatomy.writing import read_field
from spinesim.deform.field import Field, determinants
from spinesim.errors import SpinesimError
from spinesim.inpaint.brush import Inpainting
from spinesim.pathology.proposal import read_goals
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.series.job import Job, run_job

ASKED = Scoliosis(cobb_deg=35, apex="T9", direction="right")
SEED = 1
MAX_DISPLACEMENT_MM, CONTROL_POINTS = 7.5, 7  # TorchIO's defaults
SIGMA_VOXELS, MAGNITUDE = (5.0, 8.0), (100.0, 200.0)  # the example of MONAI's documentation
SMOOTH_SHARE, SHIFT_VOXELS = 0.1, 10.0  # batchgeneratorsv2 has no default that moves anything


class Clock:
    """Wall time, and the processor time of all threads: that one depends less on what else the machine does."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def spent(self) -> dict[str, Any]:
        """Seconds since it was made."""
        wall, cpu = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        return {"seconds": f"{wall:.2f}", "cpu_seconds": f"{cpu:.2f}"}


@dataclass(frozen=True)
class Task:
    """What a method is given: the files of a scan, a folder of its own, and the field for those that apply one."""

    ct: Path
    labels: Path
    folder: Path
    field: Path

    def scan(self) -> Scan:
        """Read the scan."""
        return read_scan(self.ct, self.labels)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Labels after a method, where it takes points from (world, for rows of voxel indices), and its folded cells."""

    before: LabelMap
    after: LabelMap
    sources: Callable[[np.ndarray], np.ndarray]
    low: np.ndarray


Method = Callable[[Task], tuple[dict[str, Any], Callable[[], Outcome]]]


def run_spinesim(task: Task, inpaint: Inpainting = "auto") -> tuple[dict[str, Any], Callable[[], Outcome]]:
    """The whole of deform: from the files of a scan to the record, nothing packed; set up as by the command."""
    share_heap()
    keep_modules()
    job = Job(task.ct, task.labels, ASKED, task.folder / "out", overwrite=True, compress=False, inpaint=inpaint)
    clock = Clock()
    case, files = run_job(job)
    spent = clock.spent()
    field, output = case.deformation.field, case.after.grid
    files["field"].replace(task.field)

    def outcome() -> Outcome:
        low = determinants(field.displacement, field.grid)[0]
        return Outcome(case.before.labels, case.after.labels, lambda voxels: field.sources(output, voxels), low)

    return spent, outcome


def run_simpleitk(task: Task) -> tuple[dict[str, Any], Callable[[], Outcome]]:
    """One resampling of image and labels through the field that spinesim wrote; reading is not counted."""
    import SimpleITK as sitk  # noqa: N813

    image, labels = sitk.ReadImage(task.ct), sitk.ReadImage(task.labels)
    clock = Clock()
    way = sitk.DisplacementFieldTransform(sitk.Cast(sitk.ReadImage(task.field), sitk.sitkVectorFloat64))
    sitk.Resample(image, image, way, sitk.sitkLinear, -1000.0)
    moved = sitk.Resample(labels, labels, way, sitk.sitkNearestNeighbor, 0)
    spent = clock.spent()

    def outcome() -> Outcome:
        before, field = task.scan().labels, Field(*read_field(task.field))
        after = before.with_voxels(sitk.GetArrayFromImage(moved).T.astype(before.voxels.dtype))
        low = determinants(field.displacement, field.grid)[0]
        return Outcome(before, after, lambda voxels: field.sources(before.grid, voxels), low)

    return spent, outcome


Carry = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Carries an image (c, i, j, k) and labels (1, i, j, k) by one and the same deformation whenever it is called."""


def _timed(task: Task, build: Callable[[Scan], Carry]) -> tuple[dict[str, Any], Callable[[], Outcome]]:
    """Time a peer on image and labels in memory; its field is then read off coordinates that it carries."""
    scan = task.scan()
    carry, labels = build(scan), scan.labels.voxels[None].astype(np.uint8, order="C")
    hu = scan.image.hu()[None].astype(np.float32, order="C")
    clock = Clock()
    _, moved = carry(hu, labels)
    spent = clock.spent()
    after = scan.labels.with_voxels(moved[0].astype(scan.labels.voxels.dtype))

    def outcome() -> Outcome:
        grid = scan.grid
        rows = [
            np.arange(n, dtype=np.float32).reshape([-1 if a == b else 1 for b in range(3)])
            for a, n in enumerate(grid.shape)
        ]
        world = [
            sum(grid.world_from_voxel[a, b] * rows[b] for b in range(3)) + grid.world_from_voxel[a, 3] for a in range(3)
        ]
        inside = np.zeros(grid.shape, dtype=np.float32)
        inside[1:-1, 1:-1, 1:-1] = 1e4
        given = np.stack([*world, inside]).astype(np.float32)
        carried, _ = carry(given, labels)
        sources = np.ascontiguousarray(np.moveaxis(carried[:3], 0, -1))
        low, _ = determinants(sources - np.moveaxis(given[:3], 0, -1), grid)
        known = carried[3] > 0.999e4
        for axis in range(3):
            known = np.logical_and(
                known.take(range(known.shape[axis] - 1), axis), known.take(range(1, known.shape[axis]), axis)
            )
        low[~known] = 1.0
        return Outcome(scan.labels, after, lambda voxels: sources[tuple(voxels.astype(int).T)].astype(float), low)

    return spent, outcome


def run_torchio(task: Task) -> tuple[dict[str, Any], Callable[[], Outcome]]:
    """TorchIO's RandomElasticDeformation with its defaults."""
    import torch
    import torchio

    def build(scan: Scan) -> Carry:
        transform = torchio.RandomElasticDeformation(CONTROL_POINTS, MAX_DISPLACEMENT_MM)

        def carry(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            torch.manual_seed(SEED)
            affine = scan.grid.world_from_voxel
            subject = torchio.Subject(
                image=torchio.ScalarImage(tensor=torch.from_numpy(image), affine=affine),
                labels=torchio.LabelMap(tensor=torch.from_numpy(labels), affine=affine),
            )
            moved = transform(subject)
            return moved.image.data.numpy(), moved.labels.data.numpy()

        return carry

    return _timed(task, build)


def run_monai(task: Task) -> tuple[dict[str, Any], Callable[[], Outcome]]:
    """MONAI's Rand3DElasticd."""
    import torch
    from monai.transforms import Rand3DElasticd

    def build(_: Scan) -> Carry:
        modes = ("bilinear", "nearest")
        transform = Rand3DElasticd(
            ("image", "labels"), SIGMA_VOXELS, MAGNITUDE, prob=1, mode=modes, padding_mode="zeros"
        )

        def carry(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            transform.set_random_state(SEED)
            moved = transform({"image": torch.from_numpy(image), "labels": torch.from_numpy(labels)})
            return moved["image"].numpy(), moved["labels"].numpy()

        return carry

    return _timed(task, build)


def run_batchgenerators(task: Task) -> tuple[dict[str, Any], Callable[[], Outcome]]:
    """batchgeneratorsv2's SpatialTransform, elastic alone, labels by nearest neighbour (its fastest way)."""
    import torch
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

    def build(scan: Scan) -> Carry:
        elastic = {
            "p_elastic_deform": 1,
            "elastic_deform_scale": SMOOTH_SHARE,
            "elastic_deform_magnitude": SHIFT_VOXELS,
        }
        transform = SpatialTransform(scan.grid.shape, 0, random_crop=False, mode_seg="nearest", **elastic)

        def carry(image: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            np.random.seed(SEED)  # noqa: NPY002 - the package draws from the global state
            torch.manual_seed(SEED)
            given = {"image": torch.from_numpy(image), "segmentation": torch.from_numpy(labels).to(torch.int16)}
            moved = transform(**given)
            return moved["image"].numpy(), moved["segmentation"].numpy()

        return carry

    return _timed(task, build)


METHODS: dict[str, tuple[Method, str]] = {
    "spinesim": (run_spinesim, "spinesim"),
    "spinesim --inpaint none": (partial(run_spinesim, inpaint="none"), "spinesim"),
    "SimpleITK": (run_simpleitk, "SimpleITK"),
    "TorchIO": (run_torchio, "torchio"),
    "MONAI": (run_monai, "monai"),
    "batchgeneratorsv2": (run_batchgenerators, "batchgeneratorsv2"),
}
"""Each method, and the package that it needs."""


def installed(method: str) -> str:
    """Version of the package that a method needs, or nothing where it is not installed."""
    try:
        return version(METHODS[method][1])
    except PackageNotFoundError:
        return ""


def measure_outcome(outcome: Outcome) -> dict[str, Any]:
    """Folded cells, RMS distance of bones from rigid (mm, the worst and the mean of the whole ones), change of Cobb."""
    spine = estimate_spine(outcome.before)
    rms = [_rms(outcome, outcome.after.numbers[v.level]) for v in spine.whole if v.level in outcome.after.numbers]
    found = {
        "folds": int(np.count_nonzero(outcome.low <= 0)),
        "jacobian_min": f"{outcome.low.min():.3f}",
        "rms_worst_mm": f"{max(rms):.3f}",
        "rms_mean_mm": f"{np.mean(rms):.3f}",
    }
    try:
        measured = [measure_spine(each) for each in (spine, estimate_spine(outcome.after))]
        native, now = (read_goals(ASKED, each, measured[0])["cobb_deg"] for each in measured)
        return found | {"cobb_change_deg": f"{now - native:+.1f}"}
    except SpinesimError:
        return found | {"cobb_change_deg": "not measured"}


def _rms(outcome: Outcome, number: int) -> float:
    """RMS distance (mm) to the best rigid motion over the voxels that a bone has afterwards."""
    box = outcome.after.boxes[number]
    voxels = np.argwhere(outcome.after.voxels[box] == number) + [side.start for side in box]
    target, source = outcome.after.grid.to_world(voxels.astype(float)), outcome.sources(voxels)
    _, distance = Rotation.align_vectors(source - source.mean(axis=0), target - target.mean(axis=0))
    return float(distance / np.sqrt(len(voxels)))


def peak_bytes() -> int:
    """Most memory that this process ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Run the method that is named first, and say how it went."""
    method, *paths = sys.argv[1:6]
    if method in ("TorchIO", "MONAI", "batchgeneratorsv2"):
        import torch

        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    found, outcome = METHODS[method][0](Task(*map(Path, paths)))
    print(json.dumps(found | {"peak_bytes": peak_bytes()}), flush=True)
    if sys.argv[6:] == ["quality"]:
        print(json.dumps(measure_outcome(outcome())), flush=True)


if __name__ == "__main__":
    main()
