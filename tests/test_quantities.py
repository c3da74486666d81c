"""Quantities mean what their words and units say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinesim.anatomy.levels import USUAL, Level
from spinesim.pathology.quantities import QUANTITIES, levels_from


@pytest.mark.parametrize(
    ("kind", "text", "meant"),
    [
        ("number", "thirty-five", 35),
        ("number", "seventeen", 17),
        ("angle", "35°", 35),
        ("angle", "35.5 deg", 35.5),
        ("angle", "forty degrees", 40),
        ("percent", "25 %", 25),
        ("percent", "thirty per cent", 30),
        ("length", "2 cm", 20),
        ("length", "4mm", 4),
        ("length", "0.5 centimetres", 5),
        ("volume", "3 ml", 3),
        ("volume", "500 mm3", 0.5),
        ("duration", "6-month", 6),
        ("duration", "2 years", 24),
        ("duration", "half a year", 6),
        ("duration", "a year", 12),
        ("duration", "120 days", 3.943),
        ("duration", "two weeks", 0.46),
        ("level", "th9", "T9"),
        ("level", "d 12", "T12"),
        ("level", "l one", "L1"),
        ("level", "ninth thoracic vertebra", "T9"),
        ("level", "5th lumbar", "L5"),
        ("level", "sacrum", "S"),
        ("pair", "t8/9", ("T8", "T9")),
        ("pair", "t12-l1", ("T12", "L1")),
        ("pair", "t11 - t5", ("T5", "T11")),
        ("range", "t5 to t11", ("T5", "T11")),
        ("disc", "disc between t8 and t9", ("T8", "T9")),
        ("disc", "l4-5 disc space", ("L4", "L5")),
    ],
)
def test_a_quantity_is_read_with_its_unit(kind, text, meant):
    quantity = QUANTITIES[kind]
    assert re.fullmatch(quantity.pattern, text)
    assert quantity.read(text) == meant


@pytest.mark.parametrize(
    ("kind", "text"),
    [("level", "t14"), ("level", "l9"), ("level", "q3"), ("angle", "35"), ("length", "2 miles"), ("number", "1.2.3")],
)
def test_what_is_no_quantity_is_not_taken_for_one(kind, text):
    assert not re.fullmatch(QUANTITIES[kind].pattern, text)


@given(st.sampled_from([level for level in Level if level is not Level.S]))
def test_every_level_is_known_by_its_name(level):
    assert QUANTITIES["level"].read(level.name.lower()) == level.name
    assert re.fullmatch(QUANTITIES["level"].pattern, level.name.lower())


@given(st.sampled_from(USUAL), st.sampled_from(USUAL))
def test_levels_from_one_to_another_are_those_of_a_usual_spine(one, other):
    upper, lower = sorted((one, other))
    between = [level.name for level in USUAL if upper <= level <= lower]
    assert list(levels_from(upper.name, lower.name)) == between
