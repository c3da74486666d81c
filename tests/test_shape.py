"""Laws of the articulated pose model: blind to where the patient lies, it recovers what it was made of, and obeys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import subspace_angles
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_normal

from spinesim.anatomy.curves import coronal_tilt
from spinesim.anatomy.levels import Level
from spinesim.anatomy.locate import estimate_spine
from spinesim.anatomy.measure import sagittal_angle
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import ConfigError, GeometryError, PathologyError
from spinesim.shape.chain import Chain, measure_chain, pose_spine
from spinesim.shape.conditioning import Hold, condition
from spinesim.shape.constraints import Apex, AxialRotation, CoronalCobb, Kyphosis, Offset
from spinesim.shape.latent import Gaussian, fit_gaussian
from spinesim.shape.model_file import read_pose_model, write_pose_model
from spinesim.shape.pose_model import MM_PER_RADIAN, PoseModel, fit_pose_model


@pytest.fixture(scope="module")
def spine(small_phantom):
    """T6 to L1 of the phantom."""
    return estimate_spine(small_phantom.labels)


@pytest.fixture(scope="module")
def model(spine):
    """A known model about the phantom: bends to the side in an arc and in an S, bends forward, turns, and noise."""
    chain, joints = measure_chain(spine), len(spine) - 1
    arc, s = np.sin(np.linspace(0, np.pi, joints)), np.sin(np.linspace(0, 2 * np.pi, joints))
    modes = np.zeros((joints, 6, 4))
    modes[:, 1, 0], modes[:, 1, 1], modes[:, 0, 2], modes[:, 2, 3] = 8 * arc, 4 * s, 2 * arc, 2 * arc
    for mode in range(4):  # the discs' middles stay: the upper centre shifts with the turn
        modes[:, 3:5, mode] = modes[:, [1, 0], mode] * (1, -1) * 12.0 / MM_PER_RADIAN
    return PoseModel(
        chain.levels, chain.lower_from_upper, Gaussian(np.zeros(6 * joints), modes.reshape(-1, 4), 0.04), 100
    )


@pytest.fixture(scope="module")
def chains(model):
    return model.sample(500, np.eye(4), rng=np.random.default_rng(0))


def moved(spine, motion):
    return Spine(tuple(v.moved(motion) for v in spine))


def test_a_chain_is_blind_to_where_the_patient_lies_and_puts_the_spine_back(spine):
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_rotvec([0.3, -0.8, 1.9]).as_matrix()
    motion[:3, 3] = 40.0, -300.0, 12.0
    here, there = measure_chain(spine), measure_chain(moved(spine, motion))
    assert_allclose(there.lower_from_upper, here.lower_from_upper, atol=1e-9)
    back = pose_spine(moved(spine, motion), replace(there, base=here.base))
    for old, new in zip(spine, back, strict=True):
        assert_allclose(new.world_from_vertebra, old.world_from_vertebra, atol=1e-9)
        assert_allclose(new.superior.centre, old.superior.centre, atol=1e-9)


def test_rows_and_chains_are_the_same_thing(model, chains):
    for chain in chains[:20]:
        assert_allclose(model.decode(model.encode(chain)), chain.lower_from_upper, atol=1e-9)


@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_a_fit_recovers_the_model_that_made_its_cases(model, chains, lost):
    rng, shown = np.random.default_rng(1), []
    for chain in chains:
        count = len(chain.levels)
        if rng.random() < 2 * lost:  # a scan that ends early, above or below
            keep = rng.integers(count // 2, count)
            part = slice(0, keep) if rng.random() < 0.5 else slice(count - keep, count)
            chain = measured_again(chain, part)
        shown.append(chain)
    fitted = fit_pose_model(shown, modes=4)
    known, found = model.gaussian, fitted.gaussian
    assert np.rad2deg(subspace_angles(known.modes, found.modes)).max() < 5.0
    whole = [chain for chain in chains[:50]]
    rows = np.stack([fitted.encode(chain) for chain in whole]) - np.stack([model.encode(chain) for chain in whole])
    assert np.abs(rows.std(axis=0)).max() < 0.15  # the mean moved, the coordinates did not
    assert_allclose(np.sort(found.explained())[::-1], np.sort(known.explained())[::-1], atol=0.04)
    assert found.noise_var == pytest.approx(known.noise_var, rel=0.05)


def measured_again(chain, part):
    """The chain of some of its levels."""
    return Chain(chain.levels[part], chain.lower_from_upper[part.start : part.stop - 1], chain.poses()[part][-1])


def test_weights_come_back_and_likelihood_is_that_of_the_gaussian(model, chains):
    weights = np.array([1.5, -0.5, 0.3, 1.0])
    assert_allclose(model.transform(model.inverse(weights, np.eye(4))), weights, atol=0.05)
    row = model.encode(chains[0])
    row[6:18] = np.nan
    seen = np.isfinite(row)
    covariance = model.gaussian.covariance()[np.ix_(seen, seen)]
    expected = multivariate_normal(model.gaussian.mean[seen], covariance).logpdf(row[seen])
    assert model.gaussian.log_likelihood(row) == pytest.approx(expected)


def test_what_is_asked_is_measured_on_the_posed_spine(model, spine):
    asked = [
        CoronalCobb(Level.T7, Level.L1, np.deg2rad(40.0)),
        Apex(Level.T10, Level.T7, Level.L1),
        Kyphosis(Level.T6, Level.T12, np.deg2rad(25.0)),
        AxialRotation(Level.T10, np.deg2rad(8.0)),
        Offset(Level.T6, Level.L1, 0.0),
    ]
    posterior = condition(model, spine)
    rng = np.random.default_rng(2)
    for chain in [posterior.solve(asked), *posterior.sample(asked, 5, rng=rng)]:
        bent = pose_spine(spine, chain)
        axes = bent.patient_axes
        tilt = coronal_tilt(bent[Level.L1].inferior, axes) - coronal_tilt(bent[Level.T7].superior, axes)
        assert np.rad2deg(tilt) == pytest.approx(40.0, abs=0.1)
        assert np.rad2deg(sagittal_angle(bent, Level.T6, Level.T12)) == pytest.approx(25.0, abs=0.1)
        across, _, up = axes.T @ (bent[Level.T7].centre - bent[Level.L1].centre)
        apex = np.mean([coronal_tilt(plate, axes) for plate in (bent[Level.T10].superior, bent[Level.T10].inferior)])
        assert np.rad2deg(apex - np.arctan2(across, up)) == pytest.approx(0.0, abs=0.1)
        turn = axes.T @ bent[Level.T10].axes[:, 1]
        assert np.rad2deg(np.arctan2(turn[0], turn[1])) == pytest.approx(8.0, abs=0.1)
        assert abs((bent[Level.T6].centre - bent[Level.L1].centre) @ axes[:, 0]) < 0.1
        gaps = [
            np.linalg.norm(a.inferior.centre - b.superior.centre)
            for a, b in zip(bent, bent.vertebrae[1:], strict=False)
        ]
        before = [
            np.linalg.norm(a.inferior.centre - b.superior.centre)
            for a, b in zip(spine, spine.vertebrae[1:], strict=False)
        ]
        assert_allclose(gaps, before, atol=1.5)  # discs keep their heights


def disc_heights(spine):
    """From plate centre to plate centre, mm."""
    pairs = zip(spine, spine.vertebrae[1:], strict=False)
    return [np.linalg.norm(upper.inferior.centre - lower.superior.centre) for upper, lower in pairs]


def test_draws_differ_and_shrink_to_the_mean(model, spine):
    asked = [CoronalCobb(Level.T7, Level.L1, np.deg2rad(30.0))]
    posterior = condition(model, spine)
    mean = model.encode(posterior.solve(asked))

    def spread(variability):
        draws = posterior.sample(asked, 8, rng=np.random.default_rng(3), variability=variability)
        return np.array([model.encode(draw) - mean for draw in draws]).std(axis=0)

    assert spread(0.0).max() < 1e-6
    assert_allclose(spread(0.5).sum() / spread(1.0).sum(), 0.5, atol=0.05)
    assert spread(1.0).max() > 0.3


def test_a_firm_hold_keeps_the_patient_and_a_free_one_gives_the_model(model, chains, spine):
    patient = pose_spine(spine, replace(chains[7], base=measure_chain(spine).base))
    firm = condition(model, patient, Hold((1e-3,) * 3, (1e-3,) * 3))
    assert_allclose(firm.mean, model.encode(chains[7]), atol=0.01)
    free = condition(model, patient, Hold((np.inf,) * 3, (np.inf,) * 3))
    assert_allclose(free.mean, model.gaussian.mean)
    assert_allclose(free.covariance, model.gaussian.covariance())


def test_a_linear_constraint_gives_the_textbook_posterior(model, spine):
    """Against the closed form on the linearised Cobb angle, at an angle where it is all but linear."""
    posterior = condition(model, spine)
    asked = CoronalCobb(Level.T7, Level.L1, posterior_cobb(posterior) + np.deg2rad(1.0))
    slope = posterior._slope(posterior.mean, [asked])[0]
    expected = posterior.mean + posterior.covariance @ slope / (slope @ posterior.covariance @ slope) * np.deg2rad(1.0)
    found = posterior.model.encode(posterior.solve([replace(asked, tolerance=1e-9)]))
    assert_allclose(found, expected, atol=2e-3)


def posterior_cobb(posterior):
    """Cobb angle of the posterior mean, T7 to L1."""
    return float(posterior._read(posterior.mean[None], [CoronalCobb(Level.T7, Level.L1, 0.0)])[0, 0])


def test_what_cannot_be_is_refused(model, spine, chains):
    with pytest.raises(PathologyError, match="shape model: expected a spine that meets"):
        condition(model, spine).solve([Offset(Level.T6, Level.L1, 500.0)])
    with pytest.raises(GeometryError, match="expected a level from T6 to L1, got C7"):
        condition(model, spine).solve([AxialRotation(Level.C7, 0.1)])
    gap = Spine(tuple(v for v in spine if v.level != Level.T9))
    with pytest.raises(GeometryError, match="unbroken run of the levels T6 to L1"):
        condition(model, gap)
    with pytest.raises(ConfigError, match="expected two cases or more with L1 on L2, got 1"):
        longer = Chain((Level.L1, Level.L2), np.eye(4)[None], np.eye(4))
        fit_pose_model([*chains[:5], longer], modes=2)
    with pytest.raises(ConfigError, match="modes: expected from 1 to 4 with 5 rows"):
        fit_pose_model(chains[:5], modes=5)
    with pytest.raises(GeometryError, match="expected rigid poses"):
        Chain((Level.L1, Level.L2), 1.1 * np.eye(4)[None], np.eye(4))
    with pytest.raises(ConfigError, match="every number in two rows or more"):
        fit_gaussian(np.array([[1.0, np.nan], [2.0, 1.0], [0.5, np.nan]]), 1)


def test_a_model_comes_back_from_its_file_and_a_damaged_one_is_refused(model, tmp_path):
    write_pose_model(model, tmp_path / "a.npz")
    back = read_pose_model(tmp_path / "a.npz")
    assert (back.levels, back.cases, back.gaussian.noise_var) == (model.levels, model.cases, model.gaussian.noise_var)
    assert_array_equal(back.mean, model.mean)
    assert_array_equal(back.gaussian.modes, model.gaussian.modes)
    write_pose_model(back, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()

    with np.load(tmp_path / "a.npz") as file:
        parts = dict(file)
    for change, words in (
        ({"mean": parts["mean"] + 1e-6}, "fails its checksum"),
        ({"version": np.int64(2)}, "expected a pose model of version 1, got 2"),
    ):
        np.savez(tmp_path / "c.npz", **parts | change)
        with pytest.raises(ConfigError, match=words):
            read_pose_model(tmp_path / "c.npz")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:900])
    with pytest.raises(ConfigError, match="got something else"):
        read_pose_model(tmp_path / "c.npz")
    with pytest.raises(ConfigError, match="got no file"):
        read_pose_model(tmp_path / "none.npz")
