"""What a warp could not know is found and named; noise is given back there, and nothing else is touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import ndimage, stats
from scipy.spatial.transform import Rotation

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.reading import read_scan
from spinesim.anatomy.scan import Volume
from spinesim.errors import ConfigError
from spinesim.inpaint import grain
from spinesim.inpaint.carried import draw_carried_noise
from spinesim.inpaint.grain import restore_noise
from spinesim.inpaint.mask import Reason
from spinesim.inpaint.rows import Rows
from spinesim.inpaint.scanner import measure_noise
from spinesim.pathology.combination import Combination
from spinesim.pathology.fracture import Fracture
from spinesim.pathology.lesion import Lesion
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.series.case import OutputGrid, simulate
from spinesim.series.painting import paint_case

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"
SHAPE = (48, 40, 36)
ANY = (-np.inf, np.inf)


def lattice(shape=SHAPE) -> np.ndarray:
    """Voxels of a block, (a, b, c, 3) float32."""
    return np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij"), axis=-1)


def drawn(sources, seed=0) -> np.ndarray:
    return draw_carried_noise(sources.astype(np.float32), SHAPE, (0, 0, 0), SHAPE, seed=seed)[0]


def lag_one(noise) -> list[float]:
    """Correlation of neighbours along each axis."""
    return [np.corrcoef(np.delete(noise, -1, a).ravel(), np.delete(noise, 0, a).ravel())[0, 1] for a in range(3)]


def ways(turn, stretch, lean=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Where a block comes from that was turned about its middle and stretched along leaning axes."""
    middle = (np.array(SHAPE) - 1) / 2
    matrix = Rotation.from_rotvec(turn).as_matrix() @ np.diag(stretch) @ Rotation.from_rotvec(lean).as_matrix()
    return ((lattice() - middle) @ matrix.T + middle).astype(np.float32)


@given(
    st.tuples(*[st.floats(-0.6, 0.6)] * 3),
    st.tuples(*[st.floats(0.4, 2.0)] * 3),
    st.tuples(*[st.floats(-1.0, 1.0)] * 3),
    st.integers(0, 2**70),
)
def test_carried_noise_stays_white_however_tissue_is_turned_and_stretched(turn, stretch, lean, seed):
    noise = drawn(ways(turn, stretch, lean), seed)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.var() - 1) < 0.03
    assert np.abs(lag_one(noise)).max() < 0.05
    assert len(np.unique(noise)) > (0.98 if min(stretch) >= 0.5 else 0.95) * noise.size


def test_carried_noise_is_normal_and_goes_along_with_the_tissue():
    rest = drawn(lattice())
    assert stats.kstest(rest.ravel()[::3], "norm").pvalue > 1e-3
    shifted = drawn(lattice() + np.float32([2.3, -1.0, 0.0]))
    assert_array_equal(shifted[5:40, 5:35], rest[7:42, 4:34])
    turned = ways((0.0, 0.0, 0.3), (1.0, 1.0, 1.0))
    nearest = np.round(turned).astype(int)
    inside = ((nearest >= 0) & (nearest < SHAPE)).all(axis=-1)
    same = drawn(turned)[inside] == rest[tuple(nearest[inside].T)]
    assert same.mean() > 0.8
    assert not np.any(drawn(lattice(), seed=1) == rest)


def test_carried_noise_does_not_depend_on_the_block():
    sources = ways((0.2, 0.1, -0.3), (1.2, 0.8, 1.0))
    whole = drawn(sources)
    part = draw_carried_noise(np.ascontiguousarray(sources[10:30, 5:25, 8:30]), SHAPE, (10, 5, 8), SHAPE, seed=0)[0]
    assert_array_equal(part[1:-1, 1:-1, 1:-1], whole[11:29, 6:24, 9:29])


def grainy(shape=(96, 90, 60), *, sharp=0.6) -> Volume:
    """An even CT with noise of 20 HU whose neighbours correlate."""
    rng = np.random.default_rng(4)
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), (sharp, sharp, 0.4))
    hu = 40 + 20 * noise / noise.std()
    return Volume(np.asfortranarray(hu.astype(np.float32)), Grid(shape, np.diag([0.8, 0.8, 1.5, 1.0])))


@pytest.mark.parametrize("sharp", [0.3, 0.6])
@pytest.mark.parametrize("fraction", [(0.5, 0.5, 0.5), (0.5, 0.0, 0.0), (0.0, 0.25, 0.4)])
def test_noise_gets_its_level_and_its_spectrum_back(sharp, fraction):
    image = grainy(sharp=sharp)
    noise = measure_noise(image, np.zeros(image.grid.shape, bool))
    assert noise.mean_hu == pytest.approx(20, rel=0.15)
    moved = ndimage.shift(image.voxels, [-f for f in fraction], order=1, mode="nearest")
    warped = Volume(np.asfortranarray(moved.astype(np.float32)), image.grid)

    def trace(box):
        start = np.array([side.start for side in box], dtype=np.float32)
        return lattice(tuple(side.stop - side.start for side in box)) + start + np.float32(fraction)

    everywhere = np.ones(image.grid.shape, bool)
    back, lost = restore_noise(warped, noise, trace, image.grid, everywhere, ANY, seed=2)
    assert lost.all()
    inner = (slice(8, -8),) * 3
    true, got = image.voxels[inner] - 40, back.voxels[inner] - 40
    assert (warped.voxels[inner] - 40).std() < 0.93 * true.std()
    assert got.std() == pytest.approx(true.std(), rel=0.08)
    assert np.abs(np.subtract(lag_one(got), lag_one(true))).max() < 0.09
    kept, same = restore_noise(warped, noise, trace, image.grid, ~everywhere, ANY, seed=2)
    assert_array_equal(kept.voxels, warped.voxels)
    assert not same.any()


@pytest.mark.parametrize("order", [(2, 0, 1), (0, 2, 1)])
def test_slices_may_lie_along_any_axis_of_the_array(order):
    image = grainy()
    voxels = np.asfortranarray(np.transpose(image.voxels, order))
    image = Volume(voxels, Grid(voxels.shape, image.grid.world_from_voxel[:, [*order, 3]]))
    noise = measure_noise(image, np.zeros(voxels.shape, bool))
    assert noise.axis == order.index(2)
    moved = ndimage.shift(voxels, (-0.5, -0.5, -0.5), order=1, mode="nearest")

    def trace(box):
        start = np.array([side.start for side in box], dtype=np.float32)
        return lattice(tuple(side.stop - side.start for side in box)) + start + np.float32(0.5)

    warped = replace(image, voxels=np.asfortranarray(moved))
    back, _ = restore_noise(warped, noise, trace, image.grid, np.ones(voxels.shape, bool), ANY, seed=2)
    true, got = voxels - 40, back.voxels - 40
    for piece in ((slice(8, -8),) * 3, (slice(0, 8), slice(None), slice(None)), (slice(None), slice(-8, -1))):
        assert got[piece].std() == pytest.approx(true[piece].std(), rel=0.1)  # inside, and where neighbours are missing
    assert np.abs(np.subtract(lag_one(got), lag_one(true))).max() < 0.12


def test_noise_is_drawn_in_rows_as_it_is_everywhere():
    sources = ways((0.2, 0.1, -0.3), (1.2, 0.8, 1.0))
    mask = np.linalg.norm(lattice() - np.float32([20, 18, 15]), axis=-1) < 9
    rows = Rows.holding(mask).widened((2, 1, 3))
    drawn_there = draw_carried_noise(sources, SHAPE, (0, 0, 0), SHAPE, seed=3, channels=2, rows=rows)
    everywhere = draw_carried_noise(sources, SHAPE, (0, 0, 0), SHAPE, seed=3, channels=2)
    around = ndimage.binary_dilation(mask, np.ones((5, 3, 7)))
    assert_array_equal(drawn_there[:, around], everywhere[:, around])
    assert not drawn_there[:, 40:].any()


def test_tissue_that_did_not_move_keeps_its_noise():
    image = grainy()
    noise = measure_noise(image, np.zeros(image.grid.shape, bool))

    def trace(box):
        start = np.array([side.start for side in box], dtype=np.float32)
        return lattice(tuple(side.stop - side.start for side in box)) + start + np.float32([3, 0, -2])

    back, lost = restore_noise(image, noise, trace, image.grid, np.ones(image.grid.shape, bool), ANY, seed=0)
    assert not lost.any()
    assert_array_equal(back.voxels, image.voxels)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_level_is_that_of_the_slice_on_any_axis(order):
    """Slices twice as noisy in the upper half."""
    image = grainy((96, 90, 100), sharp=0.3)
    louder = np.where(np.arange(100) < 50, 1.0, 2.0).astype(np.float32)
    voxels = np.transpose(40 + (image.voxels - 40) * louder, order)
    noise = measure_noise(
        Volume(voxels, Grid(voxels.shape, image.grid.world_from_voxel[:, [*order, 3]])), np.zeros(voxels.shape, bool)
    )
    level = noise.level_at(*(np.arange(n) for n in voxels.shape)).transpose(np.argsort(order))
    assert level[48, 45, 95] > 1.25 * level[48, 45, 5]
    assert level[48, 45, 5] == pytest.approx(20, rel=0.35)


@pytest.fixture(scope="module")
def broken():
    """A fracture and a lesion in a curve, on a piece of the phantom."""
    asked = Combination(
        pathologies=(
            Scoliosis(cobb_deg=25, apex="T9"),
            Fracture(level="T8", type="wedge", loss_percent=35),
            Lesion(structure="T11", diameter_mm=10),
        )
    )
    return simulate(build_phantom(PhantomParameters(upper="T6", lower="L1")), asked, inpaint="none")


def test_every_reason_lies_where_it_should(broken):
    reasons, labels = broken.unknown.reasons, broken.after.labels
    assert_array_equal(reasons == Reason.OUTSIDE, broken.outside)
    for reason, level in ((Reason.FRACTURE, Level.T8), (Reason.LESION, Level.T11)):
        found = labels.voxels[(reasons == reason) & (labels.voxels > 0)]
        assert len(found) > 20
        assert (found == labels.numbers[level]).mean() > 0.95
    whole = np.isin(labels.voxels, [n for level, n in labels.numbers.items() if level not in (Level.T8, Level.T11)])
    assert not np.isin(reasons[whole], [Reason.FRACTURE, Reason.STRETCHED, Reason.SQUEEZED, Reason.SEAM]).any()
    density = broken.deformation.field.density(broken.after.grid, tuple(slice(0, n) for n in broken.after.grid.shape))
    assert (density[reasons == Reason.STRETCHED] < 0.65).all()
    assert (density[reasons == Reason.SQUEEZED] > 1.5).all()
    seam = ndimage.binary_dilation((reasons > 0) & (reasons != Reason.SEAM), iterations=2)
    assert seam[reasons == Reason.SEAM].all()


def test_a_lesion_is_unknown_as_a_whole(broken):
    lesion = broken.masses.voxels == 1
    assert (broken.unknown.reasons[lesion] == Reason.LESION).all()


def test_regions_add_up_and_are_named(broken):
    names = [mass.name for mass in broken.proposal.plan.masses]
    regions = broken.unknown.regions(broken.after.labels, broken.masses, names)
    assert sum(region.voxels for region in regions) == np.count_nonzero(broken.unknown.mask)
    named = {(region.reason, region.place) for region in regions}
    assert {(Reason.FRACTURE, "T8"), (Reason.LESION, names[0])} <= named
    voxel_ml = broken.after.grid.voxel_volume_mm3 / 1000
    assert all(region.volume_ml == pytest.approx(region.voxels * voxel_ml) for region in regions)


def test_what_is_known_is_not_touched(broken):
    painted = paint_case(broken, "noise")
    known = ~painted.unknown.mask
    assert_array_equal(painted.after.image.voxels[known], broken.after.image.voxels[known])
    assert np.any(painted.after.image.voxels != broken.after.image.voxels)
    assert_array_equal(painted.after.labels.voxels, broken.after.labels.voxels)
    assert painted.noise_hu > 0
    again = paint_case(broken, "noise")
    assert_array_equal(again.after.image.voxels, painted.after.image.voxels)


def test_slabs_and_a_grid_that_is_shifted_change_nothing(monkeypatch):
    image = grainy((40, 44, 48), sharp=0.3)
    noise = measure_noise(grainy(), np.zeros((96, 90, 60), bool))
    everywhere = np.ones(image.grid.shape, bool)
    shift = np.eye(4)
    shift[:3, 3] = -4, -6, -9
    larger = Grid((50, 60, 70), image.grid.world_from_voxel @ shift)

    def trace(box):
        start = np.array([side.start for side in box], dtype=np.float32)
        return lattice(tuple(side.stop - side.start for side in box)) + start + np.float32([4.3, 6.4, 9.5])

    whole, _ = restore_noise(image, noise, trace, larger, everywhere, ANY, seed=1)
    monkeypatch.setattr(grain, "SLAB_VOXELS", 1)
    parts, _ = restore_noise(image, noise, trace, larger, everywhere, ANY, seed=1)
    inner = (slice(4, -4), slice(4, -4), slice(None))
    assert_array_equal(parts.voxels[inner], whole.voxels[inner])


def test_noise_is_what_was_put_in():
    """The phantom without noise has little, and with 12 HU about so much: the rest is anatomy that is as fast."""
    levels = []
    for hu in (0.0, 12.0):
        scan = build_phantom(PhantomParameters(upper="T10", lower="L2", noise_hu=hu))
        levels.append(measure_noise(scan.image, scan.labels.voxels > 0).mean_hu)
    assert levels[0] < 6
    assert levels[1] == pytest.approx(12, rel=0.15)


@pytest.mark.parametrize("fill", [0.0, 40.0])
def test_what_is_filled_with_one_number_is_no_even_tissue(fill):
    image = grainy()
    padded = image.voxels.copy(order="K")
    padded[:, :30] = fill
    noise = measure_noise(Volume(padded, image.grid), np.zeros(image.grid.shape, bool))
    assert noise.mean_hu == pytest.approx(20, rel=0.15)


@pytest.mark.parametrize("shape", [(96, 90, 2), (12, 12, 60)])
def test_too_small_a_scan_has_no_noise_to_measure(shape):
    assert measure_noise(grainy(shape), np.zeros(shape, bool)) is None


def test_a_scan_that_is_clipped_stays_in_its_range(broken):
    image = broken.before.image
    low, high = -160, 240

    def clipped(volume):
        return replace(volume, voxels=np.clip(volume.voxels, low, high))

    case = replace(
        broken,
        before=replace(broken.before, image=clipped(image)),
        after=replace(broken.after, image=clipped(broken.after.image)),
    )
    painted = paint_case(case, "noise").after.image.voxels
    assert painted.min() >= low and painted.max() <= high
    at_an_end = np.isin(case.after.image.voxels, (low, high))
    assert_array_equal(painted[at_an_end], case.after.image.voxels[at_an_end])
    assert np.any(painted != case.after.image.voxels)


def test_a_scan_without_even_tissue_keeps_its_blur_and_says_so(broken):
    """All bone: there is nothing that noise could be measured on."""
    hard = replace(broken.before, image=replace(broken.before.image, voxels=broken.before.image.voxels + 2000))
    case = paint_case(replace(broken, before=hard), "noise")
    assert case.noise_hu is None
    assert any("noise: expected even soft tissue" in said for said in case.warnings)
    assert not (case.unknown.reasons == Reason.BLUR).any()


def test_coarse_voxels_and_those_of_another_size_get_no_noise_and_it_is_said(small_phantom):
    other = OutputGrid(spacing_mm=(2.5, 2.5, 2.5))
    for output, said in ((OutputGrid(), "even soft"), (other, "the voxels of the scan")):
        case = simulate(small_phantom, Scoliosis(cobb_deg=25, apex="T9"), output=output)
        assert case.noise_hu is None
        assert any(f"noise: expected {said}" in warning for warning in case.warnings)


def test_a_way_to_paint_that_is_not_there_is_refused(small_phantom):
    with pytest.raises(ConfigError, match="expected one of auto, none, noise, diffusion, pix2pix, got 'watercolour'"):
        simulate(small_phantom, Scoliosis(cobb_deg=25, apex="T9"), inpaint="watercolour")


@pytest.mark.slow
def test_a_real_scan_keeps_its_noise_through_a_curve():
    files = [REAL / f"LIDC-IDRI-0001_{name}.nii.gz" for name in ("ct", "seg-vert_VerSe")]
    if not all(file.is_file() for file in files):
        pytest.skip("LIDC-IDRI-0001 is not here (../shared/data)")
    scan = read_scan(*files)
    bare = simulate(scan, Scoliosis(cobb_deg=35, apex="T9"), inpaint="none")
    painted = paint_case(bare, "noise")
    levels = [
        measure_noise(image, np.isin(labels.voxels, list(labels.levels)))
        for image, labels in (
            (scan.image, scan.labels),
            (bare.after.image, bare.after.labels),
            (painted.after.image, bare.after.labels),
        )
    ]
    before, warped, restored = levels
    assert warped.mean_hu < 0.8 * before.mean_hu
    assert restored.mean_hu == pytest.approx(before.mean_hu, rel=0.1)
    assert np.abs(restored.neighbours - before.neighbours).max() < 0.12
    known = ~painted.unknown.mask
    assert_array_equal(painted.after.image.voxels[known], bare.after.image.voxels[known])
