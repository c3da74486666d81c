"""The picture of a case, and the curved sections that it shows."""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.measure import measure_spine
from spinesim.anatomy.scan import LabelMap, Scan, Volume
from spinesim.anatomy.vertebra import EndPlate, Spine, Vertebra
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.series.picture import Panel, _plate_line, curve_words, draw_case
from spinesim.series.reformat import centre_line, curved_coronal, curved_sagittal

LEVELS = (Level.T8, Level.T9, Level.T10, Level.T11)
BODY_HU, RIGHT_HU, FRONT_HU, AIR_HU = 400, 150, 60, -1000
TILT_RAD = np.deg2rad(12.0)


def vertebra(level, centre, tilt=0.0):
    """A body of 30 x 30 x 20 mm that leans to the patient's right by an angle."""
    turn = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    plates = [EndPlate(centre + sign * 10 * turn[:, 2], turn[:, 2]) for sign in (1, -1)]
    return Vertebra(level, centre, turn, *plates, 30.0, 30.0, measured=True)


def column(bow_mm=0.0, tilt=0.0):
    """Four bodies above each other, the two in the middle farther forward."""
    forward = bow_mm * np.array([0, 1, 1, 0])
    centres = [np.array([0.0, forward[n], 37.5 - 25.0 * n]) for n in range(4)]
    return Spine(tuple(vertebra(LEVELS[n], centres[n], tilt * (1, 0.5, -0.5, -1)[n]) for n in range(4)))


def scan_of(spine, flips=(1, 1, 1)):
    """Boxes of bone for the bodies, a sheet far to the patient's right and one in front, in any voxel order."""
    spacing = np.array([2.0, 2.0, 2.5])
    affine = np.diag([*(spacing * flips), 1.0])
    shape = (60, 50, 52)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
    grid = Grid(shape, affine)
    points = grid.to_world(np.indices(shape).reshape(3, -1).T.astype(float)).reshape(*shape, 3)
    hu = np.full(shape, AIR_HU, dtype=np.int16)
    labels = np.zeros(shape, dtype=np.uint8)
    hu[np.abs(points[..., 0] - 45) < 6] = RIGHT_HU
    hu[np.abs(points[..., 1] - 40) < 6] = FRONT_HU
    for v in spine:
        inside = (np.abs(points - v.centre) < (15, 15, 10)).all(axis=-1)
        hu[inside], labels[inside] = BODY_HU, v.level
    return Scan(LabelMap(labels, grid, {int(level): level for level in LEVELS}), Volume(hu, grid))


def pixel(section, point):
    """Row and column of a world point."""
    across, height = section.project(np.asarray(point, dtype=float))
    return np.abs(section.heights_mm - height).argmin(), np.abs(section.across_mm - across).argmin()


@pytest.fixture(scope="module")
def phantom():
    scan = build_phantom(PhantomParameters(upper="T7", lower="T10", spacing_mm=(3, 3, 3)))
    return scan, estimate_spine(scan.labels)


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("bow_mm", [0.0, 20.0])
def test_a_section_follows_the_bodies(flips, bow_mm):
    spine = column(bow_mm)
    scan = scan_of(spine, flips=flips)
    for section in (curved_coronal(scan, spine), curved_sagittal(scan, spine)):
        for v in spine:
            row, at = pixel(section, v.centre)
            assert_allclose(section.hu[row - 6 : row + 7, at - 12 : at + 13], BODY_HU, atol=1e-3)
            assert (section.levels[row - 6 : row + 7, at - 12 : at + 13] == v.level).all()


def test_the_patients_right_and_front_are_on_the_left():
    spine = column()
    scan = scan_of(spine)
    coronal, sagittal = curved_coronal(scan, spine), curved_sagittal(scan, spine)
    assert np.median(np.flatnonzero(coronal.hu[80] == RIGHT_HU)) < coronal.hu.shape[1] / 4
    assert np.median(np.flatnonzero(sagittal.hu[80] == FRONT_HU)) < sagittal.hu.shape[1] / 4


def test_a_millimetre_is_a_millimetre():
    section = curved_coronal(scan_of(column()), column())
    rows, columns = np.nonzero(section.levels == Level.T9)
    assert_allclose(np.ptp(section.heights_mm[rows]), 8 * 2.5, atol=1)  # 8 voxels of 2.5 mm, 14 of 2 mm
    assert_allclose(np.ptp(section.across_mm[columns]), 14 * 2.0, atol=1)
    left, right, lower, upper = section.extent_mm
    assert_allclose((right - left) / section.hu.shape[1], (upper - lower) / section.hu.shape[0])


def test_a_cut_vertebra_is_named_only_where_its_centre_is_seen():
    spine = column()
    scan, section = scan_of(spine), curved_coronal(scan_of(spine), spine)
    beyond = vertebra(Level.T7, np.array([0.0, 0.0, 62.5]))
    spine = Spine((*spine, replace(beyond, measured=False)))
    assert Panel("before", curved_coronal(scan, spine), spine, measure_spine(spine)).seen == spine.vertebrae[1:]
    assert [section.level_at(v.centre) for v in spine] == [0, *LEVELS]


def test_what_grew_is_seen_where_the_section_meets_it():
    spine = column()
    scan = scan_of(spine)
    points = scan.grid.to_world(np.indices(scan.grid.shape).reshape(3, -1).T.astype(float)).reshape(*scan.grid.shape, 3)
    right = spine[Level.T9].centre + [9.0, 0.0, 0.0]
    grown = (np.linalg.norm(points - right, axis=-1) < 5).astype(np.uint8)
    masses = LabelMap(grown, scan.grid, {})
    coronal, sagittal = (look(scan, spine, None, masses) for look in (curved_coronal, curved_sagittal))
    assert coronal.masses[pixel(coronal, right)] == 1
    assert coronal.masses[pixel(coronal, spine[Level.T9].centre)] == 0
    assert not sagittal.masses.any()
    assert curved_coronal(scan, spine).masses is None


def test_outside_the_scan_is_air():
    spine = column()
    leaning = column(tilt=0.3)[Level.T8].axes
    section = curved_coronal(scan_of(spine), spine, leaning)
    assert_allclose([section.hu[0, 0], section.hu[-1, -1]], AIR_HU)
    assert section.levels[0, 0] == 0


def test_the_centre_line_meets_every_centre_and_goes_on_straight():
    spine = column(bow_mm=20)
    line = centre_line(spine, np.eye(3))
    centres = np.stack([v.centre for v in spine])
    assert_allclose(line(centres[:, 2]), centres, atol=1e-9)
    beyond = line(centres[0, 2] + np.array([10.0, 20.0, 30.0]))
    assert_allclose(np.diff(beyond, n=2, axis=0), 0, atol=1e-9)
    assert_allclose(beyond[0] - centres[0], (centres[0] - centres[1]) * 10 / 25, atol=1e-9)


def test_a_single_vertebra_has_a_vertical_line():
    spine = Spine((vertebra(Level.T9, np.array([3.0, 4.0, 5.0])),))
    assert_allclose(centre_line(spine, np.eye(3))(np.array([-40.0, 5.0, 60.0]))[:, :2], [[3.0, 4.0]] * 3)


def test_the_cobb_lines_meet_at_the_cobb_angle():
    spine = column(tilt=TILT_RAD)
    section = curved_coronal(scan_of(spine), spine)
    curve = measure_spine(spine).curves[0]
    plates = spine[curve.upper].superior, spine[curve.lower].inferior
    ends = [_plate_line(plate, section, 40.0) for plate in plates]
    angles = [np.arctan2(*(end[::-1, 1] - end[::-1, 0])) for end in ends]
    assert_allclose(abs(angles[0] - angles[1]), 2 * TILT_RAD, atol=1e-9)
    assert_allclose(ends[0].mean(axis=1), section.project(plates[0].centre), atol=1e-9)
    assert ends[0][1, 0] < ends[0][1, 1]  # the upper plate leans to the patient's right: the line falls to the left
    assert curve_words(curve) == f"Cobb T8-T11 24.0° {curve.side}, apex {curve.apex_name}"


@pytest.mark.parametrize("with_image", [True, False])
def test_the_picture_is_a_png_and_the_same_bytes_each_time(phantom, tmp_path, with_image):
    scan, spine = phantom
    scan = scan if with_image else Scan(scan.labels)
    for name in ("a.png", "b.png"):
        draw_case(scan, spine, scan, spine, None, "phantom", tmp_path / name)
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert width == 1600 and 400 < height <= 1100
    assert 10_000 < len(data) < 2_000_000
    assert data == (tmp_path / "b.png").read_bytes()


def test_a_picture_leaves_its_scan_as_it_was(phantom, tmp_path):
    scan, spine = phantom
    image, labels = scan.image.voxels.copy(), scan.labels.voxels.copy()
    draw_case(scan, spine, Scan(scan.labels), spine, None, "phantom", tmp_path / "a.png")
    assert (scan.image.voxels == image).all() and (scan.labels.voxels == labels).all()
