"""Laws of the morphology model: blind to where a vertebra lies, it recovers what it was made of, and obeys."""

from __future__ import annotations

import builtins
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import subspace_angles
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_normal

from spinesim.anatomy.grid import Grid
from spinesim.anatomy.levels import Level
from spinesim.anatomy.surface_motion import SurfaceMotion
from spinesim.deform.local import Fading, build_local_field
from spinesim.errors import ConfigError, GeometryError, PathologyError
from spinesim.shape.bone import Bone, own_grid
from spinesim.shape.change import Change, solve_change
from spinesim.shape.latent import Gaussian
from spinesim.shape.meshing import fill_surface, mesh_bone
from spinesim.shape.model_file import read_pose_model
from spinesim.shape.morphology import fit_morphology, log_density, model_of
from spinesim.shape.morphology_file import is_morphology, read_morphology, write_morphology
from spinesim.shape.procrustes import centroid_size, lay_on
from spinesim.shape.registration import register
from spinesim.shape.specimen import Person, Specimen
from spinesim.shape.surface import Surface

RING_MM, TUBE_MM = 14.0, 6.0
LEVELS = (Level.L2, Level.L3)


def ring():
    """A bone whose one hole is that of a ring, as a depth."""
    grid = own_grid(np.full(3, -30.0), np.full(3, 30.0), 1.0)
    x, y, z = np.meshgrid(*[np.arange(-30, 31.0)] * 3, indexing="ij", sparse=True)
    return Bone((TUBE_MM - np.hypot(np.hypot(x, y) - RING_MM, z)).astype(np.float32), grid)


@pytest.fixture(scope="module")
def surface():
    return mesh_bone(ring(), 2.5)


def bent(surface, weights):
    """A ring in three known ways of bending, of about a millimetre, that neither move nor grow it."""
    x, y, z = surface.vertices.T
    ways = [np.cos(2 * np.arctan2(y, x)), np.sin(3 * np.arctan2(y, x)), z * np.cos(np.arctan2(y, x))]
    ways = [way / way.std() for way in ways]
    return surface.vertices + np.column_stack([np.zeros_like(x), np.zeros_like(x), weights @ np.array(ways)])


@pytest.fixture(scope="module")
def specimens(surface):
    """200 rings: two levels, the lower one wider; men larger than women; what is measured is their bending."""
    rng, made = np.random.default_rng(3), []
    for number in range(200):
        level, sex = LEVELS[number % 2], "male" if rng.random() < 0.5 else "female"
        size = np.exp(0.04 * (1 if sex == "male" else -1) + 0.05 * rng.standard_normal())
        weights = rng.standard_normal(3) * (1.5, 1.0, 0.6)
        vertices = bent(surface, weights) * (1.1 if level is Level.L3 else 1.0, 1.0, 1.0) * size
        motion = Rotation.from_rotvec(rng.normal(0, 0.05, 3)).as_matrix()
        measures = {"first_mm": float(size * weights[0]), "width_mm": 40.0 * size}
        made.append(Specimen(level, vertices @ motion.T + rng.normal(0, 1, 3), measures, Person(sex)))
    return made


@pytest.fixture(scope="module")
def model(specimens, surface):
    return fit_morphology(specimens, surface.triangles, modes=3)


def test_the_net_is_closed_even_and_on_the_bone(surface):
    assert surface.genus() == 1
    assert_allclose(surface.volume_mm3(), 2 * np.pi**2 * RING_MM * TUBE_MM**2, rtol=0.06)  # chords cut corners
    lengths = np.linalg.norm(np.diff(surface.vertices[surface.edges], axis=1), axis=-1)
    assert np.quantile(lengths, 0.05) > 0.5 * lengths.mean() and lengths.max() < 2 * lengths.mean()
    assert np.abs(ring().at(surface.vertices)).max() < 0.01
    with pytest.raises(GeometryError, match="two triangles at every edge"):
        Surface(surface.vertices, surface.triangles[1:])


def test_what_was_meshed_is_filled_again(surface):
    depth = fill_surface(surface)
    assert_allclose((depth.depth > 0).sum(), 2 * np.pi**2 * RING_MM * TUBE_MM**2, rtol=0.02)
    near = np.abs(depth.depth) < 1
    places = depth.grid.to_world(np.argwhere(near).astype(float))
    assert np.abs(ring().at(places) - depth.depth[near]).mean() < 0.1


def test_a_fit_recovers_the_ways_in_which_its_cases_bend(model, surface):
    known = np.column_stack([(bent(surface, way) - surface.vertices).ravel() for way in np.eye(3)])
    assert np.rad2deg(subspace_angles(model.gaussian.modes, known)).max() < 8
    assert abs(model.size_by_sex - 0.04) < 0.01 and abs(model.size_sd - 0.05) < 0.01
    assert_allclose(
        np.ptp(model.mean(Level.L3).vertices[:, 0]) / np.ptp(model.mean(Level.L2).vertices[:, 0]), 1.1, 0.01
    )


def test_moving_the_vertebra_changes_no_coefficient(model, specimens):
    motion = Rotation.from_rotvec([0.4, -1.2, 2.0]).as_matrix()
    for specimen in specimens[:10]:
        here = model.encode(specimen.level, specimen.vertices, specimen.person)
        there = model.encode(specimen.level, specimen.vertices @ motion.T + (30, -200, 9), specimen.person)
        assert_allclose(there.weights, here.weights, atol=1e-8)
        assert_allclose(there.log_size, here.log_size, atol=1e-12)


def test_what_is_encoded_is_decoded(model, specimens):
    for specimen in specimens[:10]:
        code = model.encode(specimen.level, specimen.vertices, specimen.person)
        back = model.decode(code).vertices
        apart = np.linalg.norm(lay_on(specimen.vertices, back) - back, axis=1)
        assert apart.mean() < 0.3 and apart.max() < 1.0
        assert abs(model.measure(code)["first_mm"] - specimen.measures["first_mm"]) < 0.15


def test_sex_size_and_seed_mean_what_they_say(model):
    first, second = (model.sample(Level.L2, rng=np.random.default_rng(4)) for _ in range(2))
    assert_array_equal(model.decode(first).vertices, model.decode(second).vertices)
    sizes = {sex: centroid_size(model.mean(Level.L2, Person(sex)).vertices) for sex in ("male", None, "female")}
    assert sizes["male"] > sizes[None] > sizes["female"]
    drawn = [model.sample(Level.L2, size=1.05, rng=np.random.default_rng(n)).log_size for n in range(3)]
    assert_allclose(drawn, np.log(1.05))
    with pytest.raises(ConfigError, match="expected a level from L2 to L3"):
        model.mean(Level.T1)
    with pytest.raises(ConfigError, match="sex: expected male, female or none"):
        Person("x")


def test_the_density_is_that_of_the_whole_covariance():
    rng = np.random.default_rng(0)
    gaussian = Gaussian(rng.standard_normal(6), rng.standard_normal((6, 2)), 0.3)
    row = rng.standard_normal(6)
    assert_allclose(log_density(gaussian, row), multivariate_normal(gaussian.mean, gaussian.covariance()).logpdf(row))


def test_models_come_back_from_their_file_and_damage_is_told(model, tmp_path):
    for name in ("a.npz", "b.npz"):
        write_morphology([model], tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    (back,) = read_morphology(tmp_path / "a.npz")
    assert is_morphology(tmp_path / "a.npz") and model_of([back], Level.L3) is back
    for name in ("levels", "size_by_sex", "size_sd", "measures", "cases"):
        assert getattr(back, name) == getattr(model, name)
    for name in ("triangles", "coefficients", "log_sizes", "readout"):
        assert_array_equal(getattr(back, name), getattr(model, name))
    assert_array_equal(back.gaussian.modes, model.gaussian.modes)
    with pytest.raises(ConfigError, match="expected a pose model, got a morphology model"):
        read_pose_model(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        parts = {name: file[name] for name in file.files}
    np.savez(tmp_path / "c.npz", **(parts | {"readout_0": parts["readout_0"] + 1}))
    with pytest.raises(ConfigError, match="fails its checksum"):
        read_morphology(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", **(parts | {"version": np.int64(99)}))
    with pytest.raises(ConfigError, match="of version 1, got 99"):
        read_morphology(tmp_path / "d.npz")


def test_a_change_gives_what_is_asked_and_none_is_shorter(model):
    change = solve_change(model, Level.L2, {"first_mm": 2.0, "width_mm": 0.0})
    assert_allclose([change.measures(model)[name] for name in ("first_mm", "width_mm")], [2.0, 0.0], atol=1e-6)
    rng, reach = np.random.default_rng(0), np.vstack([model.readout[5:], model.size_sd * model.readout[3]])
    free = rng.standard_normal((50, 4))
    free -= free @ reach @ np.linalg.pinv(reach)  # what changes nothing that is asked
    lengths = np.linalg.norm(np.append(change.weights, change.size) + 0.1 * free, axis=1)
    assert (lengths >= change.length_sd - 1e-9).all()
    percent = solve_change(model, Level.L2, {"width_percent": 10.0}, {"width_mm": 40.0})
    assert_allclose(percent.measures(model)["width_mm"], 4.0, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"first_mm": 60.0}, PathologyError, "standard deviations"),
        ({"length_mm": 1.0}, ConfigError, "expected changes of first_mm, width_mm"),
        ({"width_percent": 1.0}, ConfigError, "measure it first"),
        ({}, ConfigError, "name a measure"),
    ],
)
def test_a_change_that_cannot_be_is_refused(model, asked, error, said):
    with pytest.raises(error, match=said):
        solve_change(model, Level.L2, asked)


def grown(surface, way_mm, still=()):
    """The ring, all of whose surface goes outwards, in a space of 2 mm voxels."""
    moved = surface.vertices + way_mm * surface.normals()
    grid = Grid((45, 45, 33), np.array([[2.0, 0, 0, -44], [0, 2.0, 0, -44], [0, 0, 2.0, -32], [0, 0, 0, 1]]))
    motion = SurfaceMotion(surface.vertices, moved, np.empty((0, 3)), np.reshape(still, (-1, 3)))
    return motion, grid


def test_the_field_takes_the_surface_where_it_goes_and_fades_out(surface):
    motion, grid = grown(surface, 1.5)
    field = build_local_field(motion, grid, Fading(reach_mm=9.0))
    assert field.jacobian_range()[0] > 0
    voxels = grid.to_voxel(motion.moved)
    assert np.linalg.norm(field.sources(grid, voxels) - motion.points, axis=1).mean() < 0.2
    nodes = np.argwhere(np.ones(field.grid.shape, bool))
    depth = ring().at(field.grid.to_world(nodes.astype(float)))
    far = nodes[depth < -12]
    assert (field.displacement[tuple(far.T)] == 0).all() and len(far) > 1000


def test_what_holds_still_holds_still(surface):
    still = np.column_stack([np.full(60, 24.0), np.linspace(-12, 12, 60), np.zeros(60)])
    field = build_local_field(*grown(surface, 1.5, still))
    motion, grid = grown(surface, 1.5)
    free = build_local_field(motion, grid)
    here, without = (
        np.linalg.norm(f.sources(grid, grid.to_voxel(still)) - still, axis=1).mean() for f in (field, free)
    )
    assert here < 0.25 * without


def test_space_never_folds_however_wild_the_surface(surface):
    motion, grid = grown(surface, 0.0)
    turned = motion.points * (1.0, 1.0, -1.0) * 0.8
    assert build_local_field(replace(motion, moved=turned), grid).jacobian_range()[0] > 0
    with pytest.raises(ConfigError, match="fades out beyond"):
        Fading(reach_mm=2.0)


def test_without_elastix_the_remedy_is_named(monkeypatch):
    real = builtins.__import__

    def none(name, *args, **kwargs):
        if name.split(".")[0] == "itk":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", none)
    with pytest.raises(ConfigError, match=r"spinesim\[registration\]"):
        register(ring(), ring(), np.zeros((1, 3)))


def test_raw_coefficients_are_a_change_too(model):
    change = Change(Level.L2, np.array([1.0, 0.0, 0.0]), 0.5)
    assert change.displacement(model).shape == model.mean(Level.L2).vertices.shape
    assert_allclose(change.length_sd, np.hypot(1.0, 0.5))
