from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinesim.anatomy.levels import RARE, Level
from spinesim.anatomy.reading import read_labels
from spinesim.anatomy.schemes import SCHEMES, STRUCTURES, detect_scheme, levels_of, parse_mapping
from spinesim.errors import LabelError

DATA = Path(__file__).resolve().parents[1].parent / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real scans (shared/data) are not on this machine")

USUAL = [level for level in Level if level not in RARE]


def heights_of(scheme, levels):
    """Heights of a straight spine with 25 mm between levels."""
    table = SCHEMES[scheme]
    numbers = {level: number for number, level in reversed(table.items())}
    return {numbers[level]: -25.0 * level for level in levels}


def test_published_numbers_stand_for_their_levels():
    # Sekuboyina 2021 (VerSe); TotalSegmentator map_to_binary.py, tasks total and total_v1; MAISI label_dict.json
    known = {
        "verse": {1: "C1", 7: "C7", 8: "T1", 19: "T12", 20: "L1", 25: "L6", 26: "S", 28: "T13"},
        "spineps": {1: "C1", 24: "L5", 26: "S", 28: "T13"},
        "totalsegmentator": {26: "S", 27: "L5", 31: "L1", 32: "T12", 43: "T1", 44: "C7", 50: "C1"},
        "totalsegmentator_v1": {92: "S", 18: "L5", 22: "L1", 23: "T12", 34: "T1", 35: "C7", 41: "C1"},
        "maisi": {127: "S", 33: "L5", 37: "L1", 38: "T12", 49: "T1", 50: "C7", 56: "C1"},
    }
    for scheme, numbers in known.items():
        assert {n: SCHEMES[scheme][n].name for n in numbers} == numbers
    assert len(STRUCTURES) == 117
    places = {"sacrum": 25, "vertebrae_C1": 50, "heart": 51, "rib_left_1": 92, "rib_right_12": 115}
    assert {name: STRUCTURES[name] for name in places} == places


def test_s1_stands_for_the_sacrum_where_it_was_drawn():
    assert levels_of("totalsegmentator", (25, 26, 27))[26] == Level.S
    assert 25 not in levels_of("totalsegmentator", (25, 26, 27))
    assert levels_of("totalsegmentator", (25, 27))[25] == Level.S


@given(
    st.sampled_from(["verse", "totalsegmentator"]),
    st.integers(0, len(USUAL) - 2),
    st.integers(2, len(USUAL)),
)
def test_a_run_of_vertebrae_is_read_as_itself_or_refused(scheme, first, count):
    levels = USUAL[first : first + count]
    heights = heights_of(scheme, levels)
    try:
        found = detect_scheme(heights)
    except LabelError as error:
        assert scheme != "verse" and "--scheme" in str(error)
    else:
        assert {levels_of(found, heights)[n] for n in heights} == set(levels)


def test_order_decides_where_numbers_do_not():
    upright = heights_of("verse", USUAL[10:])  # 11 to 26: organs and the sacrum for TotalSegmentator
    assert detect_scheme(upright) == "verse"
    assert detect_scheme({number: -height for number, height in upright.items()}) == "totalsegmentator_v1"


def test_discs_and_end_plates_tell_spineps():
    heights = heights_of("spineps", [Level.L1, Level.L2, Level.L3])
    assert detect_scheme(heights | {120: -520.0, 220: -515.0}) == "spineps"


@pytest.mark.parametrize(
    ("heights", "word"),
    [
        ({35: 0.0}, "different levels"),  # T9, C7 or L3
        ({25: 0.0}, "different levels"),  # TotalSegmentator's sacrum or T10 of its version 1: never L6 alone
        ({n: 25.0 * n for n in range(33, 42)}, "different levels"),
        ({41: 0.0, 42: 3.0, 49: -4.0, 50: 1.0}, "no scheme"),  # subregions of one vertebra
        ({200: 0.0}, "no scheme"),
    ],
)
def test_what_cannot_be_told_is_refused(heights, word):
    with pytest.raises(LabelError, match=f"{word}.*--scheme"):
        detect_scheme(heights)


def test_a_mapping_reads_both_ways_round():
    assert parse_mapping({7: "L3", 8: "sacrum"}, "m.yaml") == {7: Level.L3, 8: Level.S}
    assert parse_mapping({"l3": 7, "S1": 8}, "m.yaml") == {7: Level.L3, 8: Level.S}


@pytest.mark.parametrize("entries", [{7: "L9"}, {7: "L3", 8: "L3"}, {"L3": 7, "L4": 7}, {0: "L3"}, {7: 8}, {}])
def test_a_bad_mapping_is_refused_by_name(entries):
    with pytest.raises(LabelError, match=r"^m\.yaml: "):
        parse_mapping(entries, "m.yaml")


def test_an_unknown_scheme_is_refused():
    with pytest.raises(LabelError, match="verse"):
        levels_of("nnunet", (1,))


@needs_data
def test_two_schemes_of_one_patient_give_the_same_levels():
    verse = read_labels(DATA / "LIDC-IDRI-0001_seg-vert_VerSe.nii.gz")
    total = read_labels(DATA / "LIDC-IDRI-0001_totalseg_v2.nii.gz")
    assert (verse.scheme, total.scheme) == ("verse", "totalsegmentator")
    assert verse.numbers.keys() == total.numbers.keys()
    for level, number in verse.numbers.items():
        assert np.array_equal(verse.voxels == number, total.voxels == total.numbers[level])


@needs_data
@pytest.mark.parametrize(
    ("name", "first", "last"),
    [
        ("verse_cc-by-sa/sub-verse004_seg-vert_msk.nii.gz", Level.T9, Level.L5),
        ("tiny/sub-ct_seg-vert_label-22_msk.nii.gz", Level.L2, Level.L4),
    ],
)
def test_real_verse_maps_are_told(name, first, last):
    levels = list(read_labels(DATA / name).numbers)
    assert (levels[0], levels[-1]) == (first, last)
