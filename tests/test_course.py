"""What the model expects of a spine's levels when something is asked of them."""

import numpy as np
import pytest

from spinesim.anatomy.levels import Level
from spinesim.errors import GeometryError
from spinesim.shape.course import Joints, Turns, expect_course
from spinesim.shape.shipped import read_shipped_model

LEVELS = tuple(level for level in Level if Level.C6 <= level <= Level.S and level != Level.L6)  # T13 among them


@pytest.fixture(scope="module")
def course():
    return expect_course(read_shipped_model("scoliosis"), LEVELS)


def lower_over_upper(course, upper, lower):
    """Weights that read a Cobb angle of tilts."""
    row = np.zeros(len(course.levels))
    row[course.levels.index(upper)], row[course.levels.index(lower)] = -1.0, 1.0
    return course.weights(tilt=row)


def test_mirrored_patients_are_expected_to_have_mirrored_courses(course):
    mirror = np.repeat([-1.0, 1.0, -1.0], len(LEVELS))
    assert np.allclose(course.covariance * np.outer(mirror, mirror), course.covariance)
    assert np.allclose(course.mean * mirror, course.mean)


def test_what_is_asked_is_met_by_the_most_probable_change(course):
    row = lower_over_upper(course, Level.T5, Level.T12)
    met = course.meet(row, np.array([0.6]))
    assert np.isclose(row @ met.row(), 0.6)
    rng = np.random.default_rng(0)
    cost = lambda turns: turns.row() @ np.linalg.pinv(course.covariance, rcond=1e-9, hermitian=True) @ turns.row()  # noqa: E731
    for _ in range(20):  # any other that meets it is farther from the mean
        other = course.meet(row, np.array([0.6]), course.draw(rng=rng))
        assert np.isclose(row @ other.row(), 0.6)
        assert cost(other) > cost(met)


def test_a_thoracic_curve_turns_to_its_convexity_and_is_compensated_below(course):
    met = course.meet(lower_over_upper(course, Level.T6, Level.T12), np.array([0.6]))
    assert met.turn[LEVELS.index(Level.T9)] > 0.05
    assert met.tilt[LEVELS.index(Level.L4)] < met.tilt[LEVELS.index(Level.T12)] - 0.1
    assert np.allclose(met.nod, 0)


def test_joints_that_would_bend_too_far_leave_it_to_their_neighbours(course):
    between = np.diff(np.eye(len(LEVELS)), axis=0)
    joints = Joints(
        course.weights(tilt=between), np.zeros(len(between)), np.full(len(between), 0.1), np.full(len(between), 0.1)
    )
    row, asked = lower_over_upper(course, Level.T5, Level.L1), np.array([0.8])
    free = np.abs(np.diff(course.meet(row, asked).tilt)).max()
    held = course.meet_gently(row, asked, joints)
    assert free > 0.12
    assert np.abs(np.diff(held.tilt)).max() < 0.105
    assert np.isclose(row @ held.row(), 0.8)


def test_tilts_within_bounds_meet_what_is_asked_and_are_the_free_ones_where_the_bounds_are_wide(course):
    row, asked = lower_over_upper(course, Level.T5, Level.L1), np.array([0.8])
    wide, tight = np.full(len(LEVELS) - 1, 2.0), np.full(len(LEVELS) - 1, 0.105)
    free = course.meet(row, asked).tilt
    assert np.allclose(course.tilts_within(row, asked, -wide, wide), free, atol=2e-3)
    held = course.tilts_within(row, asked, -tight, tight)
    assert np.abs(np.diff(held)).max() < 0.105 + 1e-9
    assert np.isclose(row[:, : len(LEVELS)] @ held, 0.8, atol=1e-4)


def test_drawn_courses_have_the_covariance(course):
    rng = np.random.default_rng(1)
    drawn = np.array([course.draw(rng=rng).row() for _ in range(1500)])
    spread = np.sqrt(np.diag(course.covariance))
    assert np.allclose(drawn.std(axis=0), spread, rtol=0.1)


def test_turns_are_scaled_and_read_as_one_row():
    turns = Turns(np.array([1.0]), np.array([2.0]), np.array([3.0]))
    assert turns.scaled(0.5).row().tolist() == [0.5, 1.0, 1.5]


def test_levels_that_the_model_does_not_know_are_refused():
    with pytest.raises(GeometryError, match="T1 to L5"):
        expect_course(read_shipped_model("scoliosis"), (Level.C2, Level.C3))
