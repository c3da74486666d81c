"""Laws of the levels: ordered from the head down, read from their names, refused with the nearest one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinesim.anatomy.levels import RARE, Level, levels_between, parse_level, region
from spinesim.errors import LabelError

levels = st.sampled_from(list(Level))


def test_levels_run_from_the_head_down():
    names = [f"C{n}" for n in range(1, 8)] + [f"T{n}" for n in range(1, 14)] + [f"L{n}" for n in range(1, 7)] + ["S"]
    assert [level.name for level in sorted(Level)] == names
    assert [level.value for level in Level] == list(range(1, 28))


@given(levels, st.sampled_from(["{}", " {} ", "{}\n"]), st.booleans())
def test_a_level_is_read_from_its_name_in_any_case(level, frame, lower):
    name = level.name.lower() if lower else level.name
    assert parse_level(frame.format(name)) is level


@pytest.mark.parametrize("name", ["S1", "sacrum", "s"])
def test_the_sacrum_has_three_names(name):
    assert parse_level(name) is Level.S


@pytest.mark.parametrize(("name", "near"), [("T91", "T9"), ("TH9", "T9"), ("LL3", "L3"), ("C77", "C7")])
def test_a_name_that_is_no_level_is_refused_with_the_nearest(name, near):
    with pytest.raises(LabelError, match=f"did you mean {near}"):
        parse_level(name)


@pytest.mark.parametrize("name", ["", "T", "T14", "0", "L3/L4"])
def test_what_is_no_level_is_refused(name):
    with pytest.raises(LabelError, match="expected one of C1 to C7"):
        parse_level(name)


@given(levels, levels)
def test_what_lies_between_two_levels_lies_between_them_and_is_usual(upper, lower):
    between = levels_between(upper, lower)
    assert all(upper < level < lower and level not in RARE for level in between)
    assert list(between) == sorted(between)


def test_neighbours_across_the_rare_levels_have_nothing_between_them():
    assert levels_between(Level.T12, Level.L1) == levels_between(Level.L5, Level.S) == ()
    assert levels_between(Level.T9, Level.T12) == (Level.T10, Level.T11)


def test_each_level_has_its_region():
    assert [region(level) for level in (Level.C1, Level.T13, Level.L6, Level.S)] == [
        "cervical",
        "thoracic",
        "lumbar",
        "sacral",
    ]
