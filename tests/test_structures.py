"""Laws of the phantom's second label map: everything that is built has its name, place and HU."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import label

from spinesim.anatomy.levels import Level
from spinesim.anatomy.schemes import STRUCTURES
from spinesim.phantom import PhantomParameters, build_phantom, build_whole_phantom

SMALL = PhantomParameters(upper="C7", lower="S", spacing_mm=(3.0, 3.0, 3.0), noise_hu=0.0)
PAIRED = ("hip", "scapula", *(f"rib_{{}}_{n}" for n in range(1, 13)))
LOBES = [name for name in STRUCTURES if name.startswith("lung_")]
HU = {
    "lung_lower_lobe_left": (-900, -780),
    "lung_upper_lobe_right": (-930, -800),
    "liver": (50, 62),
    "spleen": (42, 54),
    "heart": (38, 56),
    "aorta": (30, 50),
    "kidney_right": (10, 40),
    "autochthon_left": (30, 70),
    "iliopsoas_right": (45, 65),
    "spinal_cord": (25, 50),
    "costal_cartilages": (70, 140),
    "urinary_bladder": (-20, 25),
    "trachea": (-1001, -850),
}
"""Median HU of the named voxels (``tissue_hu.csv``)."""


@pytest.fixture(scope="module")
def phantom():
    return build_whole_phantom(SMALL)


def inside(phantom, name):
    return phantom.structures.voxels == STRUCTURES[name]


def test_naming_changes_neither_image_nor_labels(phantom):
    scan = build_phantom(SMALL)
    assert np.array_equal(scan.image.voxels, phantom.scan.image.voxels)
    assert np.array_equal(scan.labels.voxels, phantom.scan.labels.voxels)


def test_both_maps_hold_the_same_vertebrae(phantom):
    labels, structures = phantom.scan.labels, phantom.structures
    assert structures.numbers.keys() == labels.numbers.keys()
    for level, number in labels.numbers.items():
        assert np.array_equal(structures.voxels == structures.numbers[level], labels.voxels == number), level.name
    assert structures.numbers[Level.S] == STRUCTURES["sacrum"]


def test_what_is_named_has_its_own_hu(phantom):
    hu = phantom.scan.image.hu()
    found = {name: float(np.median(hu[inside(phantom, name)])) for name in HU}
    assert {name: median for name, median in found.items() if not HU[name][0] < median < HU[name][1]} == {}


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_lie_on_their_sides_and_are_about_as_large(phantom, name):
    left, right = (
        inside(phantom, name.format(side) if "{}" in name else f"{name}_{side}") for side in ("left", "right")
    )
    x = phantom.structures.grid.to_world(np.argwhere(right).astype(float))[:, 0]
    assert x.min() > 0
    assert np.count_nonzero(left) == pytest.approx(np.count_nonzero(right), rel=0.25)


@pytest.mark.parametrize("n", range(1, 13))
def test_a_rib_is_one_piece_that_comes_within_a_joint_of_its_vertebra(phantom, n):
    rib = np.argwhere(inside(phantom, f"rib_right_{n}")) * 3.0
    assert label(inside(phantom, f"rib_right_{n}"), np.ones((3, 3, 3)))[1] == 1
    vertebra = np.argwhere(phantom.scan.labels.voxels == phantom.scan.labels.numbers[Level.T1 + n - 1]) * 3.0
    assert min(np.linalg.norm(vertebra - point, axis=1).min() for point in rib) < 3.0 * np.sqrt(3) + 3.0


def test_the_lobes_fill_the_lungs_and_lie_as_lobes_do(phantom):
    middle = {name: np.argwhere(inside(phantom, name)).mean(axis=0) for name in LOBES}
    for side in ("left", "right"):
        assert middle[f"lung_upper_lobe_{side}"][2] > middle[f"lung_lower_lobe_{side}"][2]
        assert middle[f"lung_upper_lobe_{side}"][1] > middle[f"lung_lower_lobe_{side}"][1]
    assert middle["lung_middle_lobe_right"][1] > middle["lung_lower_lobe_right"][1]
    litres = sum(np.count_nonzero(inside(phantom, name)) for name in LOBES) * 27e-6
    assert 3.0 < litres < 6.0
    dark = phantom.scan.image.hu() < -700
    x, y, z = np.rint(phantom.scan.grid.to_voxel(np.array([[70.0, -20.0, 290.0]]))[0]).astype(int)
    lung = dark[x - 8 : x + 8, y - 8 : y + 8, z - 8 : z + 8]
    named = np.isin(phantom.structures.voxels, [STRUCTURES[name] for name in LOBES])
    assert named[x - 8 : x + 8, y - 8 : y + 8, z - 8 : z + 8][lung].all()


def test_only_what_is_built_is_named(phantom):
    """No number without a structure, and none of those that the phantom leaves out."""
    known = set(STRUCTURES.values())
    assert set(phantom.structures.present) <= known
    for name in (
        "vertebrae_S1",
        "vertebrae_C6",
        "brain",
        "skull",
        "femur_left",
        "humerus_right",
        "gluteus_maximus_left",
    ):
        assert not inside(phantom, name).any(), name
