"""Lesions have the size that was asked, stay inside their structure, and leave everything else as it was."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import ndimage

import spinesim
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.measure import ball_diameter_mm
from spinesim.anatomy.scan import Scan
from spinesim.anatomy.schemes import STRUCTURES
from spinesim.errors import PathologyError
from spinesim.pathology.combination import Combination
from spinesim.pathology.lesion import Lesion
from spinesim.pathology.library import tell_pathology
from spinesim.pathology.proposal import seat
from spinesim.phantom import PhantomParameters, build_whole_phantom
from spinesim.series.case import simulate
from spinesim.series.fidelity import bone_fidelity
from spinesim.series.lesion_picture import (
    BONE_HU,
    LUNG_HU,
    PANEL_PX,
    SOFT_HU,
    WORDS_PX,
    draw_lesions,
    find_lesions,
)
from spinesim.series.writer import write_case

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def whole():
    """CT and labels of all structures, T6 to L2 at 2 mm."""
    phantom = build_whole_phantom(PhantomParameters(upper="T6", lower="L2", spacing_mm=(2.0, 2.0, 2.0)))
    return Scan(phantom.structures, phantom.scan.image)


def keep_promises(case) -> np.ndarray:
    """Assert size, one piece, its place inside the structure, and a CT that is as it was beyond its rim."""
    ((asked, measured, native),) = case.goals.values()
    assert measured == pytest.approx(asked, rel=0.05)
    assert native == 0
    mask = case.masses.voxels > 0
    assert ndimage.label(mask)[1] == 1
    volume = mask.sum() * case.masses.grid.voxel_volume_mm3 / 1000
    assert measured == pytest.approx(volume if "volume" in next(iter(case.goals)) else ball_diameter_mm(volume))
    assert case.pathology.breach or set(np.unique(case.after.labels.voxels[mask])) == {case.pathology.label}
    return mask


def untouched(case, mask) -> bool:
    """Whether labels stay, and the CT beyond three voxels of the lesion."""
    rim = ndimage.binary_dilation(mask, iterations=3)
    same = case.after.image.voxels == case.before.image.voxels
    return bool(same[~rim].all() and (case.after.labels.voxels == case.before.labels.voxels).all())


@pytest.mark.parametrize(
    ("asked", "hu"),
    [
        ({"structure": "L1", "diameter_mm": 15}, (0, 90)),
        ({"structure": "T11", "volume_ml": 1.5, "type": "sclerotic", "irregularity": 0.8}, (450, 750)),
        ({"structure": "lung_upper_lobe_left", "diameter_mm": 20, "spiculation": 0.7}, (0, 90)),
        ({"structure": "liver", "diameter_mm": 30, "position": "superior"}, (0, 90)),
        ({"structure": "rib_left_8", "volume_ml": 0.4, "type": "mixed"}, (100, 600)),
    ],
)
def test_a_lesion_has_its_size_and_its_matter_and_changes_nothing_else(whole, asked, hu):
    case = simulate(whole, Lesion(**asked))
    mask = keep_promises(case)
    assert untouched(case, mask)
    core = ndimage.binary_erosion(mask)
    assert hu[0] < case.after.image.hu()[core if core.any() else mask].mean() < hu[1]


@pytest.mark.parametrize(
    ("axis", "sign", "asked"),
    [
        (0, 1, {"side": "right"}),
        (0, -1, {"side": "left"}),
        (1, 1, {"position": "anterior"}),
        (1, -1, {"position": "posterior"}),
        (2, 1, {"position": "superior"}),
        (2, -1, {"position": "inferior"}),
    ],
)
def test_it_is_seated_on_the_side_that_was_asked(whole, axis, sign, asked):
    spine = estimate_spine(whole.labels)
    for seed in range(5):
        lesion = seat(Lesion(structure="L1", diameter_mm=8, **asked), whole.labels, spine, seed)
        assert sign * lesion.offset_mm[axis] > 2.0


def test_it_stays_within_the_cortex(whole):
    case = simulate(whole, Lesion(structure="L1", diameter_mm=16, position="posterior"))
    mask = keep_promises(case)
    bone = case.after.labels.voxels == case.after.labels.numbers[Level.L1]
    depth = ndimage.distance_transform_edt(bone, sampling=case.after.grid.spacing_mm)
    assert depth[mask].min() > 1.5
    spine, middle = case.before_spine, case.masses.grid.to_world(np.argwhere(mask).astype(float)).mean(axis=0)
    assert ((middle - spine[Level.L1].centre) @ spine[Level.L1].axes)[1] < -2.0


def test_it_leaves_its_bone_only_where_a_breach_is_asked(whole):
    spine = estimate_spine(whole.labels)
    front = {"structure": "L1", "diameter_mm": 16, "offset_mm": (0.0, spine[Level.L1].depth_mm / 2 - 4, 0.0)}
    kept, breached = (simulate(whole, Lesion(**front, breach=breach)) for breach in (False, True))
    keep_promises(kept)
    mask = keep_promises(breached)
    assert 0.05 < np.mean(whole.labels.voxels[mask] != breached.pathology.label) < 0.5
    assert np.array_equal(breached.after.labels.voxels, whole.labels.voxels)


def test_a_part_solid_nodule_is_solid_inside_and_ground_glass_around(whole):
    case = simulate(whole, Lesion(structure="lung_upper_lobe_left", diameter_mm=24, type="part-solid", irregularity=0))
    mask, hu = keep_promises(case), case.after.image.hu()
    deep = ndimage.distance_transform_edt(mask, sampling=case.after.grid.spacing_mm)
    assert hu[deep > 7].mean() > -50
    assert -700 < hu[(deep > 0) & (deep < 3)].mean() < -400


def test_spicules_reach_beyond_what_is_smooth(whole):
    far = []
    for form in ({"irregularity": 0}, {"irregularity": 0.8}, {"irregularity": 0, "spiculation": 1}):
        case = simulate(whole, Lesion(structure="lung_upper_lobe_left", diameter_mm=20, **form))
        places = case.masses.grid.to_world(np.argwhere(keep_promises(case)).astype(float))
        away = np.linalg.norm(places - case.pathology.centre_mm, axis=1)
        far.append(np.mean(away > 12))
    assert far[0] == 0
    assert min(far[1:]) > 0.05


@pytest.mark.slow
def test_a_seed_draws_the_place_and_the_form_and_draws_them_again(whole):
    asked = Lesion(structure="liver", diameter_mm=20)
    first, again, other = (simulate(whole, asked, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.after.image.voxels, again.after.image.voxels)
    assert first.pathology.centre_mm != other.pathology.centre_mm
    placed = simulate(whole, Lesion(structure="liver", diameter_mm=20, centre_mm=other.pathology.centre_mm), seed=1)
    assert placed.pathology.centre_mm == pytest.approx(other.pathology.centre_mm, abs=0.01)


@pytest.mark.slow
def test_an_expanding_lesion_pushes_its_vertebra_apart_and_no_other(whole):
    plain = {"structure": "L1", "diameter_mm": 22, "offset_mm": (8.0, 0.0, 0.0), "irregularity": 0.0}
    sizes = []
    for expansion in (0.0, 0.5):
        case = simulate(whole, Lesion(**plain, expansion=expansion))
        keep_promises(case)
        assert case.deformation.jacobian[0] > 0
        bone = np.argwhere(case.after.labels.voxels == case.after.labels.numbers[Level.L1])
        sizes.append(len(bone) * case.after.grid.voxel_volume_mm3 / 1000)
        for level, (rms, volume) in bone_fidelity(case).items():
            assert level == "L1" or level == "L2" or (rms <= 0.1 and abs(volume - 1) <= 0.02), level
    assert 0.15 < (sizes[1] - sizes[0]) / (0.5 * case.after_measures.masses_ml["lesion at L1"]) < 1.2


@pytest.mark.slow
def test_an_expanding_mass_pushes_its_organ_apart_and_no_bone(whole):
    case = simulate(whole, Lesion(structure="liver", diameter_mm=30, expansion=0.6))
    keep_promises(case)
    assert case.deformation.jacobian[0] > 0
    number = STRUCTURES["liver"]
    before, after = (np.count_nonzero(scan.labels.voxels == number) for scan in (case.before, case.after))
    pushed_ml = 0.6 * case.after_measures.masses_ml["lesion at liver"]
    assert 0.3 < (after - before) * case.after.grid.voxel_volume_mm3 / 1000 / pushed_ml < 2.5
    for level, (rms, volume) in bone_fidelity(case).items():
        assert rms <= 0.1, level
        assert abs(volume - 1) <= 0.02, level
    with pytest.raises(ValidationError, match="by itself"):
        Combination(pathologies=[case.pathology, {"kind": "scoliosis", "cobb_deg": 30, "apex": "T9"}])


def test_a_number_that_means_a_level_is_that_level(small_phantom):
    number = small_phantom.labels.numbers[Level.T9]
    spine = estimate_spine(small_phantom.labels)
    found = seat(Lesion(structure=f"label {number}", diameter_mm=12), small_phantom.labels, spine, 0)
    assert found == seat(Lesion(structure="T9", diameter_mm=12), small_phantom.labels, spine, 0)


def several(structure: str, count: int, **asked) -> Combination:
    return Combination(pathologies=[{"kind": "lesion", "structure": structure, **asked}] * count)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"structure": "L1", "count": 3, "diameter_mm": 9}, ["L1", "L1-2", "L1-3"]),
        ({"structure": "liver", "count": 2, "volume_ml": 5, "irregularity": 0.8}, ["liver", "liver-2"]),
    ],
)
def test_each_of_several_lesions_in_one_structure_has_its_size_and_its_place(whole, asked, names):
    case = simulate(whole, several(**asked))
    assert [goal.split("_")[1] for goal in case.goals] == names
    assert [mass.name for mass in case.proposal.plan.masses] == [f"lesion at {name}" for name in names]
    for number, (asked_, measured, native) in enumerate(case.goals.values(), start=1):
        mask = case.masses.voxels == number
        volume = mask.sum() * case.masses.grid.voxel_volume_mm3 / 1000
        assert ndimage.label(mask)[1] == 1
        assert measured == pytest.approx(asked_, rel=0.05)
        assert measured == pytest.approx(volume if "volume_ml" in asked else ball_diameter_mm(volume))
        assert native == 0
        assert set(np.unique(case.after.labels.voxels[mask])) == {case.pathology.pathologies[0].label}
    assert case.masses.voxels.max() == len(names)


def test_the_record_of_several_lesions_gives_the_same_again(small_phantom):
    case = simulate(small_phantom, several("T9", 2, diameter_mm=9))
    again = simulate(small_phantom, Combination(**tell_pathology(case.pathology)))
    assert again.pathology == case.pathology
    assert np.array_equal(again.after.image.voxels, case.after.image.voxels)


def test_the_first_of_several_lies_where_it_lies_alone(small_phantom):
    labels, spine = small_phantom.labels, estimate_spine(small_phantom.labels)
    both = seat(several("T9", 2, diameter_mm=9), labels, spine, 0).pathologies
    assert both[0] == seat(Lesion(structure="T9", diameter_mm=9), labels, spine, 0)
    assert both[0].offset_mm != both[1].offset_mm


def test_what_is_open_makes_room_for_what_is_pinned(small_phantom):
    labels, spine = small_phantom.labels, estimate_spine(small_phantom.labels)
    for seed in range(5):
        parts = [Lesion(structure="T9", diameter_mm=10), Lesion(structure="T9", diameter_mm=12, offset_mm=(3, 0, 0))]
        free, pinned = seat(Combination(pathologies=parts), labels, spine, seed).pathologies
        assert pinned.offset_mm == (3, 0, 0)
        assert np.linalg.norm(np.subtract(free.offset_mm, pinned.offset_mm)) >= 11


def test_a_level_and_its_number_are_one_structure(small_phantom):
    number, spine = small_phantom.labels.numbers[Level.T9], estimate_spine(small_phantom.labels)
    parts = [Lesion(structure="T9", diameter_mm=9), Lesion(structure=f"label {number}", diameter_mm=9)]
    seated = seat(Combination(pathologies=parts), small_phantom.labels, spine, 0)
    assert [each.title for each in seated.pathologies] == ["lesion at T9", "lesion at T9-2"]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            [{"offset_mm": (-3, 0, 0)}, {"offset_mm": (4, 0, 0)}],
            "lesion at T9-2: expected its centre 10.0 mm or more from that of the lesion at T9, for they are 10.0 and "
            "10.0 mm wide, got 7.0 mm; ",
        ),
        ([{"diameter_mm": 16}, {"diameter_mm": 16}], "expected room for its 16.0 mm beside the lesion at T9 (16.0 mm)"),
    ],
)
def test_lesions_that_would_overlap_are_refused_and_both_are_named(small_phantom, parts, said):
    with pytest.raises(PathologyError) as refusal:
        simulate(
            small_phantom,
            Combination(pathologies=[Lesion(structure="T9", **{"diameter_mm": 10} | part) for part in parts]),
        )
    assert "lesion at T9-2: " in str(refusal.value)
    assert said in str(refusal.value)


@pytest.mark.slow
def test_a_lesion_goes_with_its_bone_through_a_curve(whole):
    parts = [{"kind": "scoliosis", "cobb_deg": 30, "apex": "T10"}]
    parts += [{"kind": "lesion", "structure": "T10", "diameter_mm": 14, "type": "sclerotic"}]
    parts += [{"kind": "lesion", "structure": "lung_lower_lobe_right", "volume_ml": 5}]
    case = simulate(whole, Combination(pathologies=parts))
    for name, (asked, measured, _) in case.goals.items():
        assert abs(asked - measured) <= (1.0 if name == "cobb_deg" else 0.05 * asked)
    for number, label in ((1, case.after.labels.numbers[Level.T10]), (2, STRUCTURES["lung_lower_lobe_right"])):
        assert set(np.unique(case.after.labels.voxels[case.masses.voxels == number])) == {label}


@pytest.mark.slow
@pytest.mark.parametrize("asked", [{"structure": "T9", "diameter_mm": 14}, {"structure": "L1", "volume_ml": 6}])
def test_a_real_vertebra_gets_its_lesion(asked):
    ct, labels = REAL / "LIDC-IDRI-0001_ct.nii.gz", REAL / "LIDC-IDRI-0001_seg-vert_VerSe.nii.gz"
    if not ct.exists():
        pytest.skip("the real scans are not here (../shared/data)")
    case = simulate(spinesim.read_scan(ct, labels), Lesion(**asked))
    assert untouched(case, keep_promises(case))


def test_the_mask_is_written_beside_the_labels(small_phantom, tmp_path):
    case = simulate(small_phantom, Lesion(structure="T9", diameter_mm=12))
    files = write_case(case, tmp_path / "out")
    assert files["lesions"].name == "sub-phantom_desc-lesion_msk.nii.gz"
    written = nibabel.load(files["lesions"])
    assert np.array_equal(np.asarray(written.dataobj), case.masses.voxels)
    assert np.allclose(written.affine, nibabel.load(files["labels"]).affine)
    names = json.loads(files["record"].read_text(encoding="utf-8"))["files"]
    assert names["lesions_picture"] == files["lesions_picture"].name == "sub-phantom_desc-lesion_picture.png"
    assert files["lesions_picture"].read_bytes()[:4] == b"\x89PNG"
    write_case(case, tmp_path / "out", overwrite=True)


@pytest.mark.parametrize("with_image", [True, False])
def test_the_picture_has_a_row_for_each_lesion_and_is_the_same_bytes_each_time(small_phantom, tmp_path, with_image):
    parts = [{"kind": "lesion", "structure": level, "diameter_mm": 12} for level in ("T9", "T11")]
    scan = small_phantom if with_image else Scan(small_phantom.labels)
    heights = []
    for some in (parts[:1], parts):
        case = simulate(scan, Combination(pathologies=some))
        for name in ("a.png", "b.png"):
            draw_lesions(case, "phantom", tmp_path / name)
        data = (tmp_path / "a.png").read_bytes()
        assert data == (tmp_path / "b.png").read_bytes()
        width, height = struct.unpack(">II", data[16:24])
        assert width == 1600
        heights.append(height)
    assert heights[1] - heights[0] == PANEL_PX + WORDS_PX


def test_the_picture_shows_the_tissue_that_a_lesion_comes_from(small_phantom):
    parts = [{"kind": "scoliosis", "cobb_deg": 20, "apex": "T9"}, {"kind": "lesion", "structure": "T9", "volume_ml": 1}]
    case = simulate(small_phantom, Combination(pathologies=parts))
    (lesion,) = find_lesions(case)
    before, after = (
        (middle - spine[Level.T9].centre) @ spine[Level.T9].axes
        for middle, spine in zip(lesion.middles, (case.before_spine, case.after_spine), strict=True)
    )
    assert np.linalg.norm(np.subtract(*lesion.middles)) > 3
    assert np.linalg.norm(before - after) < 1
    assert lesion.words.startswith("1  lesion at T9: asked 1.00 ml, measured 1.00 ml (a ball of 12.4 mm); ")


def test_the_picture_has_the_window_of_the_tissue(whole):
    windows = {"L1": BONE_HU, "rib_left_8": BONE_HU, "lung_upper_lobe_left": LUNG_HU, "liver": SOFT_HU}
    parts = [{"kind": "lesion", "structure": structure, "volume_ml": 0.5} for structure in windows]
    case = simulate(whole, Combination(pathologies=parts))
    assert [lesion.window_hu for lesion in find_lesions(case)] == list(windows.values())


@given(
    st.sampled_from(["exponential", "gompertz", "power"]), st.floats(20, 900), st.floats(1, 24),
    st.lists(st.floats(0, 1), min_size=2, max_size=5),
)  # fmt: skip
def test_every_law_grows_to_the_size_that_was_asked(law, doubling, months, shares):
    lesion = Lesion(structure="L1", volume_ml=4, over_months=months, law=law, doubling_days=doubling)
    volumes = [lesion.volume_at(months * share) for share in sorted(shares)]
    assert volumes == sorted(volumes)
    assert lesion.volume_at(months) == pytest.approx(4)


def test_an_exponential_lesion_doubles_in_its_time():
    lesion = Lesion(structure="L1", volume_ml=4, over_months=12, doubling_days=365.25 / 2)
    assert [lesion.volume_at(months) for months in (0, 6, 12)] == pytest.approx([1, 2, 4])
    by_surface = lesion.model_copy(update={"law": "power"})
    assert by_surface.volume_at(6) == pytest.approx(2)


def test_time_does_not_move_a_lesion(whole):
    spine = estimate_spine(whole.labels)
    grown = {"structure": "L1", "diameter_mm": 15, "over_months": 12}
    places = {seat(Lesion(**grown, months=m), whole.labels, spine, 0).offset_mm for m in (6.0, 9.0, 12.0)}
    assert len(places) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"structure": "L1"}, "either a diameter or a volume"),
        ({"structure": "L1", "diameter_mm": 9, "volume_ml": 1}, "either a diameter or a volume"),
        ({"structure": "livver", "diameter_mm": 9}, "structure of TotalSegmentator.* did you mean 'liver'"),
        ({"structure": "L1", "diameter_mm": 9, "months": 3}, "raise over_months"),
        ({"structure": "L1", "diameter_mm": 9, "side": "left", "offset_mm": (1, 2, 3)}, "one way to say where"),
    ],
)
def test_what_is_no_lesion_is_refused(asked, said):
    with pytest.raises(ValidationError, match=said):
        Lesion(**asked)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"structure": "liver", "diameter_mm": 20}, "expected a structure of the label map (T6, "),
        ({"structure": "T9", "diameter_mm": 60}, "that have room there"),
        ({"structure": "T9", "diameter_mm": 3}, "10 voxels at least"),
        ({"structure": "T9", "diameter_mm": 9, "offset_mm": (0, -20, 0)}, "expected a centre inside it"),
    ],
)
def test_a_lesion_that_the_scan_cannot_hold_is_refused(small_phantom, asked, said):
    with pytest.raises(PathologyError) as refusal:
        simulate(small_phantom, Lesion(**asked))
    assert said in str(refusal.value)
