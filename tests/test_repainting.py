"""A network paints what is unknown, the same from the same seed, and nothing else is touched."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.schedulers import DDIMScheduler, RFlowScheduler
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

from spinesim.anatomy.grid import Grid
from spinesim.errors import ConfigError
from spinesim.inpaint.brush import PLAIN, Brush
from spinesim.inpaint.conditions import CHANNELS, COUNT, Canvas, compress, expand, find_conditions, turn, turn_back
from spinesim.inpaint.drawn_masks import LARGEST, draw_mask
from spinesim.inpaint.inferer import InpaintInferer
from spinesim.inpaint.kriging import LENGTH_MM, find_rim, krige
from spinesim.inpaint.mask import Reason, Unknown
from spinesim.inpaint.network import NetworkConfig, build_network, fold_voxels, unfold_voxels
from spinesim.inpaint.painter import check_spacing, find_regions, paint, with_context
from spinesim.inpaint.patches import hann, patch_shape, place_patches
from spinesim.inpaint.texture import measure_texture
from spinesim.inpaint.tissues import Kind, TissueMaps, depth_in, map_tissues
from spinesim.inpaint.weights import PREPROCESSING, Card, Painter, read_weights, write_weights
from spinesim.pathology.fracture import Fracture
from spinesim.pathology.scoliosis import Scoliosis
from spinesim.phantom import PhantomParameters, build_phantom
from spinesim.series.case import simulate
from spinesim.series.painting import paint_case
from spinesim.series.repainting import QUICK, Repainting, _with_beyond, choose_repainting, find_mask, repaint

TINY = NetworkConfig(fold=2, channels=(8, 16), attention=(False, False), prior=(8, 16), head_channels=8)
SPACINGS = st.tuples(*[st.floats(0.4, 5.0)] * 3).map(np.array)


def a_card(**changes) -> Card:
    told = {
        "method": "diffusion",
        "network": TINY,
        "preprocessing": PREPROCESSING,
        "spacing_mm": (0.5, 3.0),
        "hu": (-1024, 3071),
        "steps": 1,
        "loss": 1.0,
        "held_out_loss": None,
        "data": ("a_ct.nii.gz",),
        "licence": "CC0",
        "training": {},
        "hours": 0.0,
        "machine": "CPU",
    }
    return Card(**told | changes)


def a_network(process="flow") -> torch.nn.Module:
    """A network whose last convolutions are not zero, as they are before training."""
    torch.manual_seed(0)
    network = build_network(TINY.model_copy(update={"process": process})).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return network


def a_painter(process="flow") -> Painter:
    network = a_network(process)
    return Painter(network, a_card(network=network.config), "tiny.safetensors")


def a_canvas(shape=(24, 40, 32), spacing=(1.0, 1.0, 1.0), seed=0) -> Canvas:
    """A ball of bone in soft tissue, with a hole to paint."""
    rng = np.random.default_rng(seed)
    grid = Grid(shape, np.diag([*spacing, 1.0]))
    points = grid.to_world(np.indices(shape).reshape(3, -1).T.astype(float)).reshape(*shape, 3)
    apart = np.linalg.norm(points - points.mean(axis=(0, 1, 2)), axis=-1)
    bone = apart < 9
    bits = np.where(bone, Kind.BONE.bit, np.uint16(0))
    hu = (np.where(bone, 300, 40) + 20 * rng.normal(size=shape)).astype(np.float32)
    mask = np.abs(points[..., 2] - points[..., 2].mean()) < 4
    mask &= apart < 8
    return Canvas(hu, mask, ~mask, TissueMaps(bits, depth_in(bone, grid)), grid, 20.0, 200.0)


@given(st.floats(-1024, 3071))
def test_numbers_for_the_network_stand_for_hu(hu):
    assert_allclose(expand(compress(np.array([hu], dtype=np.float32))), hu, atol=0.05)


@given(st.integers(1, 3), st.integers(1, 3))
def test_folding_voxels_into_channels_is_undone_by_unfolding(fold, channels):
    volume = torch.arange(2 * channels * (6 * fold) ** 3).reshape(2, channels, 6 * fold, 6 * fold, 6 * fold)
    assert torch.equal(unfold_voxels(fold_voxels(volume, fold), fold), volume)


def grainy(shape, widths, seed=0) -> np.ndarray:
    """Gaussian texture of variance 1."""
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), widths, mode="wrap")
    return (texture / texture.std()).astype(np.float32)


@given(st.tuples(*[st.floats(0.0, 0.9)] * 3), st.floats(0.02, 2.0), st.integers(0, 100))
def test_noise_takes_the_level_and_the_correlation_of_a_texture_and_gives_them_back(widths, level, seed):
    shape = (48, 40, 44)
    texture = measure_texture(level * grainy(shape, widths, seed), np.ones(shape, dtype=bool))
    assert_allclose(texture.level, level, rtol=0.05)
    white = np.random.default_rng(seed + 1).normal(size=shape).astype(np.float32)
    coloured = texture.coloured(white)
    again = measure_texture(coloured, np.ones(shape, dtype=bool))
    assert_allclose(coloured.std(), 1, rtol=0.05)
    assert_allclose(again.correlation[:, :3], texture.correlation[:, :3], atol=0.1)
    assert_allclose(texture.whitened(coloured)[8:-8, 8:-8, 8:-8], white[8:-8, 8:-8, 8:-8], atol=0.4)


@pytest.mark.parametrize(("process", "steps"), [("flow", 1), ("flow", 4), ("flow", 9), ("ddpm", 9)])
def test_untrained_a_network_goes_on_with_the_texture_of_what_is_known_also_across_the_rim(process, steps):
    canvas = a_canvas((48, 48, 48))
    texture = grainy(canvas.hu.shape, (0.7, 0.7, 0.4), seed=2)
    canvas = replace(canvas, hu=100 + 20 * texture, guided=np.ones_like(canvas.mask))
    network = build_network(TINY.model_copy(update={"process": process})).eval()
    white = np.random.default_rng(3).normal(size=canvas.hu.shape).astype(np.float32)
    painter = Painter(network, a_card(network=network.config), "tiny.safetensors")
    painted = paint(canvas, white, painter, Brush(steps=steps), seed=0)
    assert (painted != canvas.hu)[canvas.mask].all()

    def spread(hu) -> float:
        return float((hu - ndimage.gaussian_filter(hu, 1.5))[canvas.mask].std())

    def jump(hu) -> float:
        across = canvas.mask[..., 1:] != canvas.mask[..., :-1]
        return float(np.abs(np.diff(hu)[across]).mean())

    assert_allclose(spread(painted), spread(canvas.hu), rtol=0.2)
    assert jump(painted) < 1.25 * jump(canvas.hu)


def test_what_is_painted_meets_what_is_known_also_where_the_mean_that_it_is_told_steps_at_the_rim():
    canvas = a_canvas((48, 48, 48))
    texture = 100 + 20 * grainy(canvas.hu.shape, (0.7, 0.7, 0.4), seed=2)
    stepped = np.where(canvas.mask, texture + 150, texture)
    canvas = replace(canvas, hu=stepped, guided=np.ones_like(canvas.mask))
    white = np.random.default_rng(3).normal(size=canvas.hu.shape).astype(np.float32)
    painted = paint(canvas, white, Painter(build_network(TINY).eval(), a_card(), "tiny.safetensors"), seed=0)
    across = canvas.mask[..., 1:] != canvas.mask[..., :-1]
    real, stepping, met = (float(np.abs(np.diff(hu)[across]).mean()) for hu in (texture, stepped, painted))
    assert stepping > 5 * real
    assert met < 1.5 * real
    assert painted[24, 24, 24] > 150, "far from the rim it is what it was"


@pytest.mark.parametrize("guided", [False, True])
def test_where_nothing_guides_texture_is_no_stronger_than_that_of_what_is_known(guided):
    canvas = a_canvas((48, 48, 48))
    canvas = replace(canvas, hu=100 + 20 * grainy(canvas.hu.shape, (0.7, 0.7, 0.4)))
    canvas = replace(canvas, guided=canvas.guided | guided)
    network = build_network(TINY).eval()
    plain = network.prior
    network.prior = lambda conditions: (plain(conditions)[0], 5 * plain(conditions)[1])
    white = np.random.default_rng(3).normal(size=canvas.hu.shape).astype(np.float32)
    painted = paint(canvas, white, Painter(network, a_card(), "tiny.safetensors"), seed=0)
    fast = (painted - ndimage.gaussian_filter(painted, 1.5))[ndimage.binary_erosion(canvas.mask, iterations=2)].std()
    real = (canvas.hu - ndimage.gaussian_filter(canvas.hu, 1.5))[canvas.mask].std()
    assert (fast > 2 * real) if guided else (0.6 * real < fast < 1.3 * real)


def test_texture_is_that_of_bone_where_bone_is_painted_and_else_of_any_tissue():
    canvas = a_canvas((48, 48, 48))
    bone = canvas.tissues.of(Kind.BONE)
    loud = np.where(bone, 300 + 100 * grainy(canvas.hu.shape, (0, 0, 0)), canvas.hu).astype(np.float32)
    beside = np.zeros_like(canvas.mask)
    beside[2:8, 2:40, 2:40] = True
    levels = []
    for mask in (ndimage.binary_erosion(canvas.mask, iterations=3), beside):
        levels.append(find_conditions(replace(canvas, hu=loud, mask=mask, guided=~mask)).texture.level)
    assert levels[0] > 1.5 * levels[1]


@given(st.tuples(*[st.floats(0.6, 3.0)] * 3), st.integers(0, 100))
def test_kriging_expects_what_the_precision_of_the_field_says(spacing, seed):
    rng, shape = np.random.default_rng(seed), (9, 8, 7)
    mask = np.zeros(shape, dtype=bool)
    mask[3:6, 3:6, 2:7] = rng.random((3, 3, 5)) < 0.8
    mask[4, 4, 4] = True
    rim = find_rim(mask, rng.random(shape) < 0.8)
    assert not (rim & mask).any()
    values = rng.normal(size=shape).astype(np.float32)
    found = krige(values, rim, mask, np.array(spacing))
    rough = np.eye(math.prod(shape))
    for axis, (n, mm) in enumerate(zip(shape, spacing, strict=True)):
        steps = np.diff(np.eye(n), axis=0) * LENGTH_MM / mm
        before, after = (np.eye(math.prod(sides)) for sides in (shape[:axis], shape[axis + 1 :]))
        rough += np.kron(np.kron(before, steps.T @ steps), after)
    precision = rough @ rough
    free = (ndimage.binary_dilation(mask, iterations=2) & ~rim).ravel()
    known = precision[np.ix_(free, rim.ravel())] @ values[rim]
    wanted = np.zeros(shape)
    wanted.ravel()[free] = np.linalg.solve(precision[np.ix_(free, free)], -known)
    assert_allclose(found[mask], wanted[mask], atol=0.05)
    assert not found[~mask].any()


def test_a_canvas_is_turned_so_that_its_axes_are_right_anterior_superior_and_back():
    hu = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    for order in itertools.permutations(range(3)):
        for signs in itertools.product((1.0, -1.0), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = np.eye(3)[:, order] * signs
            grid = Grid(hu.shape, affine)
            blank = np.zeros(hu.shape)
            tissues = TissueMaps(blank.astype(np.uint16), blank.astype(np.int8))
            canvas = Canvas(hu, blank > 0, blank == 0, tissues, grid, 1.0, 1.0)
            turned, taken, over = canvas.turned()
            corner = grid.to_world(np.array([np.unravel_index(hu.argmax(), hu.shape)], dtype=float))[0]
            first = np.where(np.array(over), np.array(turned.hu.shape) - 1, 0)
            place = np.array(np.unravel_index(turned.hu.argmax(), turned.hu.shape))
            assert_allclose(np.abs(corner), np.abs(place - first), atol=1e-9)
            assert_array_equal(turn_back(turn(hu, taken, over), taken, over), hu)


def test_what_lies_under_the_mask_does_not_reach_the_network_unless_it_guides():
    canvas = a_canvas()
    other = replace(canvas, hu=np.where(canvas.mask, np.float32(900), canvas.hu))
    assert_array_equal(find_conditions(canvas).stack(), find_conditions(other).stack())
    guided = [find_conditions(replace(c, guided=np.ones_like(c.mask))).stack() for c in (canvas, other)]
    differs = {n for n in range(COUNT) if not np.array_equal(guided[0][n], guided[1][n])}
    assert CHANNELS.index("guide") in differs
    assert differs <= {CHANNELS.index(name) for name in ("guide", "gas", "fat", "soft", "texture")}


def test_conditions_of_a_box_are_a_box_of_the_conditions():
    conditions = find_conditions(a_canvas())
    box = (slice(3, 11), slice(8, 30), slice(5, 21))
    assert_array_equal(conditions.stack(box), conditions.stack()[(slice(None), *box)])


@given(SPACINGS, st.integers(20_000, 600_000))
def test_a_patch_is_about_as_large_as_asked_and_about_even_in_mm(spacing, voxels):
    shape = np.array(patch_shape(spacing, voxels))
    assert (shape % 8 == 0).all()
    if (shape > 16).all():
        assert 0.4 < shape.prod() / voxels < 2.5
        assert np.ptp(shape * spacing) <= 8 * spacing.max() + 1e-6


@given(
    st.tuples(*[st.integers(16, 50)] * 3),
    st.lists(st.tuples(*[st.floats(0, 0.999)] * 3), min_size=1, max_size=6),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
def test_patches_cover_the_mask_stay_inside_and_overlap(shape, places, overlap):
    mask = np.zeros(shape, dtype=bool)
    for place in places:
        mask[tuple((np.array(place) * shape).astype(int))] = True
    seen = np.zeros(shape, dtype=int)
    for box in place_patches(mask, (16, 16, 16), overlap):
        assert seen[box].shape == (16, 16, 16)
        seen[box] += 1
    assert (seen[mask] > 0).all()


def noisy(shape, seed=0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, *shape)).astype(np.float32))


def a_hole(shape) -> torch.Tensor:
    mask = torch.zeros((1, 1, *shape), dtype=torch.bool)
    mask[..., 3:-2, 5:-6, 4:-4] = True
    return mask


@given(st.integers(1, 12), st.sampled_from([0.25, 0.5, 0.7]))
def test_patches_are_blended_inside_each_step_so_that_no_seam_is_left(steps, overlap):
    shape = (24, 40, 32)
    known, noise, mask = noisy(shape, 1), noisy(shape, 2), a_hole(shape)

    def pointwise(x, t):
        return torch.tanh(x) * (1 + t.reshape(-1, 1, 1, 1, 1) / 1000)

    small = InpaintInferer((16, 16, 16), steps=steps, overlap=overlap)(known, pointwise, mask, noise)
    whole = InpaintInferer(shape, steps=steps)(known, pointwise, mask, noise)
    assert torch.allclose(small, whole, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_a_network_that_knows_the_truth_paints_it_and_outside_the_mask_nothing_changes(steps):
    shape = (24, 40, 32)
    truth, noise, mask = noisy(shape, 1), noisy(shape, 2), a_hole(shape)
    hidden = torch.where(mask, torch.full_like(truth, 7.0), truth)
    straight = InpaintInferer(shape, steps=steps)(hidden, lambda x, t: truth - noise, mask, noise)
    assert torch.allclose(straight[mask], truth[mask], atol=1e-5)
    assert torch.equal(straight[~mask], truth[~mask])


@pytest.mark.parametrize("repaint", [1, 3])
def test_schedulers_of_the_diffusion_kind_paint_too(repaint):
    shape = (24, 40, 32)
    truth, noise, mask = noisy(shape, 1), noisy(shape, 2), a_hole(shape)
    scheduler = DDIMScheduler(prediction_type="sample", clip_sample=False)
    inferer = InpaintInferer(shape, scheduler, steps=5, repaint=repaint)
    painted = inferer(truth, lambda x, t: truth, mask, noise, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(painted[mask], truth[mask], atol=1e-2)
    assert torch.equal(painted[~mask], truth[~mask])


def test_what_is_known_is_put_back_at_each_step_as_noisy_as_the_step_is():
    shape, seen = (16, 16, 16), []
    known, noise, mask = noisy(shape, 1), noisy(shape, 2), a_hole(shape)

    def spy(x, t):
        seen.append((float(t[0]) / 1000, x.clone()))
        return torch.zeros_like(x)

    InpaintInferer(shape, RFlowScheduler(use_discrete_timesteps=False), steps=4)(known, spy, mask, noise)
    assert [t for t, _ in seen] == pytest.approx([1.0, 0.75, 0.5, 0.25])
    for t, x in seen:
        assert torch.allclose(x[~mask], ((1 - t) * known + t * noise)[~mask], atol=1e-5)


def test_an_inferer_refuses_what_does_not_fit():
    known, mask = noisy((16, 16, 16)), a_hole((16, 16, 16))
    with pytest.raises(ConfigError, match="of one shape"):
        InpaintInferer((16, 16, 16))(known, lambda x, t: x, mask, noisy((16, 16, 24)))
    with pytest.raises(ConfigError, match="pad it"):
        InpaintInferer((16, 16, 24))(known, lambda x, t: x, mask, known)
    with pytest.raises(ConfigError, match="steps, repaint and batch from 1"):
        InpaintInferer((16, 16, 16), steps=0)


@pytest.mark.parametrize("shape", [(24, 40, 32), (70, 60, 58), (9, 70, 12)])
def test_painting_touches_nothing_outside_the_mask_and_is_the_same_from_the_same_noise(shape):
    canvas, painter = a_canvas(shape), a_painter()
    one, other = (np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed in (0, 1))
    painted = paint(canvas, one, painter, Brush(steps=2), seed=0)
    assert_array_equal(painted[~canvas.mask], canvas.hu[~canvas.mask])
    assert np.isfinite(painted).all() and painted.min() >= -1024 and painted.max() <= 3071
    assert_array_equal(paint(canvas, one, painter, Brush(steps=2), seed=0), painted)
    again = paint(canvas, other, painter, Brush(steps=2), seed=0)
    assert (again != painted)[canvas.mask].mean() > 0.9


def test_a_network_of_the_diffusion_kind_paints_with_ddim():
    canvas = a_canvas()
    white = np.random.default_rng(0).normal(size=canvas.hu.shape).astype(np.float32)
    painted = paint(canvas, white, a_painter("ddpm"), Brush(steps=3), seed=0)
    assert_array_equal(painted[~canvas.mask], canvas.hu[~canvas.mask])
    assert np.abs(painted - canvas.hu)[canvas.mask].mean() < 500


def test_a_mirrored_file_is_painted_as_the_same_patient():
    canvas, painter = a_canvas(), a_painter()
    white = np.random.default_rng(0).normal(size=canvas.hu.shape).astype(np.float32)
    painted = paint(canvas, white, painter, Brush(steps=2), seed=0)
    turned = canvas.grid.world_from_voxel @ np.array([[0, -1, 0, 23], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    order, over = (2, 0, 1), (False, True, False)
    tissues = TissueMaps(turn(canvas.tissues.bits, order, over), turn(canvas.tissues.depth, order, over))
    arrays = {name: turn(getattr(canvas, name), order, over) for name in ("hu", "mask", "guided")}
    other = replace(canvas, grid=Grid(arrays["hu"].shape, turned), tissues=tissues, **arrays)
    found = paint(other, turn(white, order, over), painter, Brush(steps=2), seed=0)
    assert_allclose(found, turn(painted, order, over), atol=1e-3)


@given(st.integers(0, 2**32))
def test_masks_for_training_leave_enough_to_see(seed):
    canvas = a_canvas((40, 40, 40))
    mask = draw_mask(canvas.tissues, canvas.grid.spacing_mm, rng=np.random.default_rng(seed))
    assert 0 < mask.mean() < LARGEST


def test_regions_hold_the_whole_mask_and_a_patch_of_context():
    mask = np.zeros((120, 60, 60), dtype=bool)
    mask[2:9, 20:30, 20:40] = mask[100:118, 5:9, 50:60] = True
    spacing = np.ones(3)
    seen = np.zeros_like(mask)
    regions = list(find_regions(mask, spacing))
    assert len(regions) == 2
    for region in regions:
        seen[region] = True
        box = with_context(region, mask.shape, spacing)
        assert all(a.start <= b.start and a.stop >= b.stop for a, b in zip(box, region, strict=True))
        patch = patch_shape(spacing, 110_000)
        assert [s.stop - s.start for s in box] == [max(p, min(p, n)) for p, n in zip(patch, mask.shape, strict=True)]
    assert seen[mask].all()


@given(st.data())
def test_pieces_of_a_large_region_are_small_and_hold_its_mask_once(data):
    mask = np.zeros((200, 180, 40), dtype=bool)
    for _ in range(data.draw(st.integers(1, 3))):
        low = [data.draw(st.integers(0, side - 1)) for side in mask.shape]
        i, j, k = (slice(a, data.draw(st.integers(a + 1, side))) for a, side in zip(low, mask.shape, strict=True))
        mask[i, j, k] = True
    spacing = np.array([0.8, 0.8, 2.0])
    times, most = np.zeros(mask.shape, dtype=int), 500_000
    for region in find_regions(mask, spacing, most):
        times[region] += 1
        assert np.prod([s.stop - s.start for s in with_context(region, mask.shape, spacing)]) <= most
    assert times[mask].min() == 1
    assert times.max() <= 1 or ndimage.label(mask, np.ones((3, 3, 3)))[1] > 1  # boxes of parts may meet, not of pieces


def test_hann_weights_are_highest_in_the_middle_and_never_0():
    weights = hann((8, 16, 24))
    assert weights.min() > 0
    assert np.unravel_index(weights.argmax(), weights.shape) in [(3, 7, 11), (4, 8, 12)]


def test_tissues_of_the_phantom_are_those_it_was_built_with(bare_case):
    scan, spine = bare_case.before, bare_case.before_spine
    tissues = map_tissues(scan.image.hu(), scan.grid, np.ones(scan.grid.shape, dtype=bool), scan.labels, spine)
    bone = np.isin(scan.labels.voxels, list(scan.labels.levels))
    assert_array_equal(tissues.of(Kind.BONE) & bone, bone)
    body, arch = tissues.of(Kind.VERTEBRAL_BODY), tissues.of(Kind.POSTERIOR_ELEMENTS)
    assert_array_equal(body | arch, bone)
    assert not (body & arch).any()
    hu = scan.image.hu()
    assert 60 < hu[tissues.of(Kind.DISC)].mean() < 140  # the phantom's discs have 95 HU
    assert hu[tissues.of(Kind.CANAL)].mean() < 60
    assert hu[tissues.of(Kind.CORTEX)].mean() > hu[bone & ~tissues.of(Kind.CORTEX)].mean()


@pytest.fixture(scope="module")
def bare_case():
    scan = build_phantom(PhantomParameters(upper="T8", lower="T10"))
    return simulate(scan, Fracture(level="T9", type="wedge", loss_percent=30), inpaint="none")


@pytest.fixture
def tiny_weights(tmp_path) -> Path:
    write_weights(a_network(), a_card(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_a_case_is_painted_where_bone_broke_and_its_known_voxels_stay_bit_for_bit(bare_case, tiny_weights):
    work = choose_repainting("auto", Brush(tiny_weights, steps=1), "cpu", bare_case.after.grid.spacing_mm)
    noisy, painted = paint_case(bare_case, "noise"), paint_case(bare_case, "auto", work)
    known = np.isin(painted.unknown.reasons, [0, Reason.BLUR, Reason.STRETCHED, Reason.SQUEEZED])
    before, after = noisy.after.image.voxels, painted.after.image.voxels
    assert_array_equal(after[known], before[known])
    assert (after != before)[painted.unknown.reasons == Reason.FRACTURE].mean() > 0.5
    assert_array_equal(painted.after.labels.voxels, bare_case.after.labels.voxels)
    assert np.count_nonzero(after != before) <= painted.repainted.voxels <= np.count_nonzero(~known)
    assert_array_equal(paint_case(bare_case, "auto", work).after.image.voxels, after)


def test_painting_piece_by_piece_gives_about_what_painting_at_once_gives(bare_case, tiny_weights, monkeypatch):
    work = choose_repainting("auto", Brush(tiny_weights, steps=1), "cpu", bare_case.after.grid.spacing_mm)
    reasons = bare_case.unknown.reasons.copy(order="K")
    reasons[..., 8:] = 0
    case = replace(bare_case, unknown=Unknown(reasons))
    mask, spacing = find_mask(case.unknown, work.reasons), case.after.grid.spacing_mm
    body = np.ones(mask.shape, dtype=bool)
    once = repaint(case, lambda: body, work, lambda _: None)
    most = 600_000
    assert len(list(find_regions(mask, spacing, most))) > len(list(find_regions(mask, spacing)))
    monkeypatch.setattr("spinesim.inpaint.painter.find_regions", partial(find_regions, most=most))
    pieces = repaint(case, lambda: body, work, lambda _: None)
    assert pieces.repainted == once.repainted
    before, one, other = (case.after.image.voxels.astype(float) for case in (bare_case, once, pieces))
    assert_array_equal(other[~mask], before[~mask])
    assert np.abs(other - one)[mask].mean() < 0.2 * np.abs(one - one[mask].mean())[mask].mean()


def test_what_came_from_beyond_the_scan_is_patient_where_the_nearest_known_is(bare_case):
    grid, beyond = bare_case.after.grid, bare_case.unknown.reasons == Reason.OUTSIDE
    body = np.indices(grid.shape)[1] > grid.shape[1] // 3
    found = _with_beyond(body, beyond, grid)
    assert_array_equal(found[~beyond], body[~beyond])
    nearest = ndimage.distance_transform_edt(
        beyond, sampling=grid.spacing_mm, return_distances=False, return_indices=True
    )
    assert (found == body[tuple(nearest)])[beyond].mean() > 0.98
    assert not _with_beyond(np.zeros_like(body), beyond, grid).any()
    assert _with_beyond(np.ones_like(body), beyond, grid).all()


def test_where_air_alone_came_from_beyond_the_scan_nothing_is_painted(bare_case, tiny_weights):
    beyond = np.where(bare_case.unknown.reasons == Reason.OUTSIDE, np.uint8(Reason.OUTSIDE), np.uint8(0))
    assert beyond.any()
    work = choose_repainting("auto", Brush(tiny_weights), "cpu", bare_case.after.grid.spacing_mm)
    unseen = replace(bare_case, unknown=Unknown(beyond))
    case = repaint(unseen, lambda: np.zeros(beyond.shape, dtype=bool), work, lambda _: None)
    assert case.repainted is None
    assert_array_equal(case.after.image.voxels, bare_case.after.image.voxels)


def test_auto_loads_no_network_where_there_is_no_work_for_it():
    scan = build_phantom(PhantomParameters(upper="T8", lower="T11"))
    case = simulate(scan, Scoliosis(cobb_deg=12, apex="T9"), inpaint="noise")
    changed = (Reason.LESION, Reason.FRACTURE, Reason.TISSUE)
    assert not np.isin(case.unknown.reasons, changed).any()
    work = Repainting(lambda: pytest.fail("loaded"), changed, PLAIN, "cpu")
    assert paint_case(case, "auto", work).repainted is None


def test_auto_says_why_no_network_paints_and_diffusion_is_refused(monkeypatch):
    monkeypatch.setattr("spinesim.series.repainting.missing_packages", lambda: ("torch",))
    said = (
        "inpaint: expected torch for diffusion, got none installed; "
        "pip install 'spinesim[inpaint]', or take --inpaint noise"
    )
    assert choose_repainting("auto", PLAIN, "cpu", np.ones(3)).load() == said
    for method in ("noise", "none"):
        assert choose_repainting(method, PLAIN, "cpu", np.ones(3)) is None
    with pytest.raises(ConfigError) as refused:
        choose_repainting("diffusion", PLAIN, "cpu", np.ones(3))
    assert str(refused.value) == said


def test_auto_takes_no_weights_that_ship_unless_they_are_better_than_noise(tiny_weights, monkeypatch):
    monkeypatch.setattr("spinesim.series.repainting.find_weights", lambda _method, _brush: tiny_weights)
    work = choose_repainting("auto", PLAIN, "cpu", np.ones(3))
    assert "expected weights that are better than noise" in work.load()
    write_weights(a_network(), a_card(better_than_noise=True), tiny_weights)
    assert isinstance(work.load(), Painter)
    assert work.reasons == QUICK


@pytest.mark.parametrize("method", ["diffusion", "pix2pix"])
def test_the_weights_that_ship_fit_this_version_and_their_card(method):
    shipped = Path(__file__).resolve().parents[1] / "assets" / f"inpaint-{method}.safetensors"
    painter = read_weights(shipped)
    assert painter.card.method == method
    assert shipped.stat().st_size <= 16 * 2**20
    assert json.loads(shipped.with_suffix(".json").read_text()) == json.loads(painter.card.model_dump_json())
    for name in painter.card.data:
        assert name.partition("_ct")[0] in shipped.with_name("inpaint-diffusion.md").read_text()


def test_a_way_to_paint_wants_weights_of_its_own_kind(tiny_weights):
    with pytest.raises(ConfigError, match="expected weights for pix2pix, got diffusion"):
        choose_repainting("pix2pix", Brush(tiny_weights), "cpu", np.ones(3))


def test_weights_come_back_as_they_were_written(tiny_weights):
    painter, network = read_weights(tiny_weights), a_network()
    assert painter.card == a_card()
    for name, weight in network.state_dict().items():
        assert_array_equal(painter.network.state_dict()[name], weight.half().float())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "got no such file"),
        (lambda file: file.write_bytes(b"no weights"), "expected a safetensors file"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "expected a safetensors file"),
        (
            lambda file: write_weights(a_network(), a_card(preprocessing={"scale_hu": 1.0}), file),
            "got {'scale_hu': 1.0}",
        ),
        (lambda file: write_weights(torch.nn.Linear(1, 1), a_card(), file), "that fit their card"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tiny_weights, spoil, said):
    spoil(tiny_weights)
    with pytest.raises(ConfigError) as refused:
        read_weights(tiny_weights)
    assert said in str(refused.value)
    assert str(tiny_weights) in str(refused.value)


def test_voxels_that_a_network_has_not_seen_are_refused():
    check_spacing(a_painter(), np.array([0.5, 0.7, 3.0]))
    with pytest.raises(ConfigError, match=r"expected voxels of 0\.40 to 3\.75 mm.*got 1\.00 x 1\.00 x 5\.00"):
        check_spacing(a_painter(), np.array([1.0, 1.0, 5.0]))


@pytest.mark.parametrize(("brush", "said"), [({"steps": 0}, "--steps"), ({"repaint": 0}, "--repaint")])
def test_a_brush_refuses_numbers_out_of_range(brush, said):
    with pytest.raises(ConfigError, match=said):
        Brush(**brush)
