"""A small scan, its files and one case made of them: built once and shared, for a case takes seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from scipy.spatial.transform import Rotation

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.scan import Scan, Storage, Volume
from spinesim.anatomy.writing import write_labels, write_volume
from spinesim.deform.deformation import carriages_of
from spinesim.deform.solids import build_solids
from spinesim.deform.warp import carry_quickly
from spinesim.pathology.proposal import goals_of, propose
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.series.job import Job, run_job

HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("quick", derandomize=True, deadline=None, suppress_health_check=HEALTH)
settings.register_profile(
    "thorough", max_examples=2000, derandomize=False, deadline=None, suppress_health_check=HEALTH, print_blob=True
)
settings.load_profile("quick")

SMALL_BENDS = ((10, "T10", "right"), (20, "T9", "left"), (15, "T9", "right"), (22, "T10", "left"), (6, "T9", "right"))
SMALL_LEVELS = ("T6", "T7", "T8", "T9", "T10", "T11", "T12", "L1")


@pytest.fixture(scope="session", autouse=True)
def without_shipped_weights():
    """No network paints unless a test brings weights: `auto` would make every case slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spinesim.series.repainting.find_weights", lambda _method, brush: brush.weights)
        yield


@pytest.fixture(scope="session")
def small_phantom():
    """CT and labels of T6 to L1, 3 mm: 8 vertebrae in 0.9 million voxels."""
    return build_phantom(PhantomParameters(upper="T6", lower="L1", spacing_mm=(3.0, 3.0, 3.0)))


@pytest.fixture(scope="session")
def small_files(small_phantom, tmp_path_factory):
    """The same scan on disk as others store theirs: uint16 from -1024, i to the left, turned by 8 degrees.

    Returns
    -------
    tuple of Path
        CT and labels.
    """
    folder = tmp_path_factory.mktemp("small")
    scan = turned(small_phantom)
    ct, labels = folder / "sub-small_ct.nii.gz", folder / "sub-small_seg-vert_msk.nii.gz"
    write_volume(scan.image, ct)
    write_labels(scan.labels, labels)
    return ct, labels


@pytest.fixture(scope="session")
def small_scoliosis():
    """What is asked of the small case."""
    return Scoliosis(cobb_deg=30, apex="T10")


@pytest.fixture(scope="session")
def small_run(small_files, small_scoliosis, tmp_path_factory):
    """The small case and the files that it was written to."""
    ct, labels = small_files
    return run_job(Job(ct, labels, small_scoliosis, tmp_path_factory.mktemp("run") / "out"))


@pytest.fixture(scope="session")
def small_case(small_run):
    """A scoliosis of 30 degrees on the small scan."""
    return small_run[0]


@pytest.fixture(scope="session")
def small_written(small_run):
    """Path of each file of the small case; treat them as read-only."""
    return small_run[1]


@pytest.fixture(scope="session")
def small_cohort(small_phantom, tmp_path_factory):
    """A folder with label maps of the small phantom, straight and in five bends, under VerSe's names, old and new.

    One more is no label map, and there is a CT that is none. Treat them as read-only.
    """
    home = tmp_path_factory.mktemp("cohort")
    spine, solids = estimate_spine(small_phantom.labels), build_solids(small_phantom.labels)
    maps = [small_phantom.labels]
    for cobb, apex, side in SMALL_BENDS:
        scoliosis = Scoliosis(cobb_deg=cobb, apex=apex, direction=side, kyphosis_per_cobb=0.2)
        carriages = carriages_of(propose(scoliosis, spine, goals_of(scoliosis)).plan)
        maps.append(carry_quickly(small_phantom.labels, solids, carriages, small_phantom.grid))
    for rank, labels in enumerate(maps):
        (home / f"sub-{rank}").mkdir()
        write_labels(labels, home / f"sub-{rank}" / f"sub-{rank}_seg{'-vert_msk' * (rank % 2)}.nii.gz")
    (home / "sub-9_seg-vert_msk.nii.gz").write_bytes(b"no label map")
    (home / "sub-1" / "sub-1_ct.nii.gz").write_bytes(b"no CT")
    return home


def turned(scan: Scan) -> Scan:
    """Lay a scan's voxels out the other way along i and turn it in the world."""
    grid = scan.grid
    affine = grid.world_from_voxel @ np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = grid.to_world(np.array([[grid.shape[0] - 1.0, 0, 0]]))[0]
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec([0, 0, np.deg2rad(8.0)]).as_matrix()
    new = Grid(grid.shape, (turn @ affine).astype(np.float32))
    stored = np.clip(scan.image.voxels[::-1].astype(np.int32) + 1024, 0, None).astype(np.uint16)
    storage = Storage("uint16", 0, 2, 2, "a small scan", 8)
    image = Volume(stored, new, 1.0, -1024.0, storage, "small")
    labels = replace(scan.labels, voxels=scan.labels.voxels[::-1], grid=new, storage=Storage("int16", 1, 4, 2))
    return Scan(labels, image)
