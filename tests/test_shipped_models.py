"""The shipped models: whole, what their recipes make, and what their cards say."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from numpy.testing import assert_allclose

from spinesim.anatomy.levels import Level
from spinesim.errors import ConfigError
from spinesim.shape.shipped import read_shipped_model, shipped_models

RECIPE = import_module("spinesim.shape_models.build_scoliosis")


@pytest.fixture(scope="module")
def drawn():
    """1,000 spines of the model, measured."""
    levels, _, _ = RECIPE.read_tilts()
    return RECIPE.draw(read_shipped_model("scoliosis"), RECIPE.published_spine(levels), 1000, seed=5)


def test_every_shipped_model_has_a_card_and_scores():
    assert "scoliosis" in shipped_models()
    for name in shipped_models():
        for suffix in (".md", "_scores.csv"):
            assert RECIPE.HERE.joinpath(name + suffix).is_file(), name + suffix


def test_a_model_that_is_not_shipped_is_refused_with_those_that_are():
    with pytest.raises(ConfigError, match=r"expected one of .*scoliosis.*got 'kyphoplasty'"):
        read_shipped_model("kyphoplasty")


def test_drawn_tilts_vary_as_those_of_the_films_do(drawn):
    levels, mean, covariance = RECIPE.read_tilts()
    tilts = drawn.tilt_rad - drawn.tilt_rad.mean(axis=1, keepdims=True)
    assert drawn.levels == levels == tuple(Level(rank) for rank in range(Level.T1, Level.L5 + 1) if rank in levels)
    assert np.abs(np.rad2deg(tilts.mean(axis=0) - mean)).max() < 1.5
    shares, films = (np.linalg.eigvalsh(c)[::-1][:4] / np.trace(c) for c in (np.cov(tilts.T), covariance))
    assert_allclose(shares, films, atol=0.03)
    assert_allclose(np.sqrt(np.diag(np.cov(tilts.T))), np.sqrt(np.diag(covariance)), rtol=0.12)


def test_drawn_angles_are_the_published_ones(drawn):
    """Within four standard errors of a thousand draws, and within a tenth for the spreads."""
    for got, (mean, sd) in (
        (drawn.kyphosis_deg, RECIPE.KYPHOSIS_T5_T12),
        (drawn.lordosis_deg, RECIPE.LORDOSIS_L1_L5),
    ):
        assert abs(got.mean() - mean) < 4 * sd / np.sqrt(len(got))
        assert abs(got.std() / sd - 1) < 0.1
    assert abs(np.median(np.abs(drawn.cobb_deg)) - 37.2) < 3
    for part, slope in drawn.rotation_per_cobb().items():
        assert abs(slope - RECIPE.ROTATION_PER_COBB[part]) < 0.04, part


@pytest.mark.slow
def test_the_recipe_makes_the_shipped_model():
    built, _ = RECIPE.build_scoliosis()
    shipped = read_shipped_model("scoliosis")
    assert built.levels == shipped.levels and built.cases == shipped.cases
    assert_allclose(built.mean, shipped.mean, atol=1e-6)
    assert_allclose(built.gaussian.covariance(), shipped.gaussian.covariance(), atol=1e-4)
