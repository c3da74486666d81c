"""Training goes on where it was left, gives the same weights from the same seed, and refuses what it cannot use."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.testing import assert_array_equal

from spinesim.anatomy.grid import Grid
from spinesim.cli.main import main
from spinesim.errors import ConfigError, ScanError
from spinesim.inpaint.patches import patch_shape
from spinesim.inpaint.samples import _untold, draw_batch, draw_canvas
from spinesim.inpaint.tissues import Kind
from spinesim.inpaint.training import train
from spinesim.inpaint.training_config import TrainingConfig, find_training_config
from spinesim.inpaint.training_run import WEIGHTS, run_training
from spinesim.inpaint.training_scans import find_pairs, read_training_scan
from spinesim.inpaint.weights import read_weights

TINY = {
    "network": {"channels": (8, 16), "attention": (False, False), "prior": (8, 16), "head_channels": 8},
    "patch_voxels": 4096,
    "batch": 1,
    "look_every": 2,
    "warmup": 1,
}


def silent(*_: object) -> None:
    """Tell nothing."""


@pytest.fixture(scope="module")
def data(small_files, tmp_path_factory):
    """A folder with a CT that has labels, and one that has none."""
    folder = tmp_path_factory.mktemp("data")
    ct, labels = small_files
    shutil.copy(ct, folder / "a_ct.nii.gz")
    shutil.copy(labels, folder / "a_seg-vert_msk.nii.gz")
    shutil.copy(ct, folder / "b_ct.nii.gz")
    return folder


@pytest.fixture(scope="module")
def scan(data):
    return read_training_scan(data / "a_ct.nii.gz", data / "a_seg-vert_msk.nii.gz")


def test_labels_are_found_beside_their_ct(data):
    assert find_pairs([data]) == [
        (data / "a_ct.nii.gz", data / "a_seg-vert_msk.nii.gz"),
        (data / "b_ct.nii.gz", None),
    ]


def test_a_scan_without_labels_has_bone_and_nothing_that_only_labels_tell(data, scan):
    bare = read_training_scan(data / "b_ct.nii.gz", None)
    assert bare.tissues.of(Kind.BONE).any()
    assert not bare.tissues.of(Kind.DISC).any()
    assert scan.tissues.of(Kind.DISC).any()
    assert scan.tissues.of(Kind.VERTEBRAL_BODY)[tuple(scan.middles.T)].all()
    assert 100 < scan.marrow_hu < 350


def test_a_patch_holds_the_voxels_of_its_scan_unaveraged(scan):
    canvas = draw_canvas(scan, (16, 16, 16), np.ones(3), rng=np.random.default_rng(0))
    windows = np.lib.stride_tricks.sliding_window_view(scan.hu, (16, 16, 16))
    starts = np.argwhere(windows[..., 0, 0, 0] == canvas.hu[0, 0, 0])
    mirrored = np.argwhere(windows[..., -1, 0, 0] == canvas.hu[0, 0, 0])
    found = any(np.array_equal(windows[tuple(s)], canvas.hu) for s in starts)
    assert found or any(np.array_equal(windows[tuple(s)][::-1], canvas.hu) for s in mirrored)


def test_a_batch_weighs_the_mask_and_its_margin_and_is_the_same_from_the_same_seed(scan):
    one, again = (draw_batch([scan], 2, 4096, rng=np.random.default_rng(3)) for _ in range(2))
    for name in ("truth", "conditions", "mask", "weight", "noise"):
        assert_array_equal(getattr(one, name), getattr(again, name))
    assert one.truth.shape[2:] in {patch_shape(scan.spacing_mm, 4096)}
    hidden = (one.weight[:, 0] == 0) & (one.conditions[:, 1] < 0.01)
    assert_array_equal(one.conditions[:, 0][hidden], one.truth[:, 0][hidden])
    assert 0 < one.weight.mean() < 1


@pytest.mark.parametrize(("method", "process"), [("diffusion", "flow"), ("diffusion", "ddpm"), ("pix2pix", "flow")])
def test_training_goes_on_where_it_was_left_as_if_it_had_not_been(method, process, scan, tmp_path):
    network = TINY["network"] | {"process": process}
    config = TrainingConfig(method=method, steps=4, final_share=1.0, **TINY | {"network": network})
    whole = train(config, [scan], [scan], tmp_path / "whole", silent)
    train(config.model_copy(update={"steps": 2}), [scan], [scan], tmp_path / "parts", silent)
    parts = train(config, [scan], [scan], tmp_path / "parts", silent)
    assert np.isfinite(whole.held_out_loss)
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(weight, parts.network.state_dict()[name]), name
    with pytest.raises(ConfigError, match="expected a training with the same configuration"):
        train(config.model_copy(update={"seed": 1}), [scan], [], tmp_path / "parts", silent)


def test_a_network_learns_a_texture(scan, tmp_path):
    stripes = np.where(np.arange(scan.hu.shape[2]) // 2 % 2, 300, 0).astype(np.int16)
    striped = replace(scan, hu=np.broadcast_to(stripes, scan.hu.shape), noise_hu=0.0)
    losses = []
    config = TrainingConfig(steps=60, learning_rate=2e-3, decay=0.9, **TINY | {"look_every": 3})
    train(config, [striped], [striped], tmp_path, lambda _step, _loss, held_out, _seconds: losses.append(held_out))
    assert losses[-1] < 0.8 * losses[0]


def test_a_training_from_files_ends_in_weights_with_a_card(data, tmp_path):
    config = TrainingConfig(steps=2, held_out=("b_ct",), **TINY)
    weights = run_training(config, [data], tmp_path / "run", licence="CC0")
    painter = read_weights(weights)
    assert (painter.card.data, painter.card.licence, painter.card.steps) == (("a_ct.nii.gz",), "CC0", 2)
    assert painter.card.spacing_mm == (3.0, 3.0)
    assert weights.name == WEIGHTS
    assert (tmp_path / "run" / "weights.json").is_file()
    assert any((tmp_path / "run" / "tensorboard").iterdir())


def test_a_training_goes_on_from_weights_and_the_prior_learns_alone_first(data, tmp_path):
    weights = run_training(TrainingConfig(steps=2, **TINY), [data / "a_ct.nii.gz"], tmp_path / "one")
    config = TrainingConfig(start=weights, steps=3, prior_steps=3, **TINY)
    painter = read_weights(run_training(config, [data / "b_ct.nii.gz"], tmp_path / "two"))
    assert (painter.card.steps, painter.card.data) == (5, ("a_ct.nii.gz", "b_ct.nii.gz"))
    before = read_weights(weights).network.state_dict()
    changed = {name for name, now in painter.network.state_dict().items() if not torch.equal(now, before[name])}
    assert changed and all(name.startswith("first.") for name in changed)
    other = config.model_copy(update={"network": TrainingConfig().network})
    with pytest.raises(ConfigError, match="expected weights of the network and method that are trained"):
        run_training(other, [data / "b_ct.nii.gz"], tmp_path / "three")


def test_beyond_a_field_of_view_no_tissue_is_told_but_where_the_patient_ends(scan):
    mask = np.zeros(scan.hu.shape, dtype=bool)
    mask[:, :, : scan.hu.shape[2] // 2] = True
    told = _untold(scan.tissues, mask, Grid(scan.hu.shape, np.diag([*scan.spacing_mm, 1.0])))
    assert scan.tissues.of(Kind.BONE)[mask].any()
    assert set(np.unique(told.bits[mask])) <= {0, Kind.OUTSIDE.bit}
    assert (told.depth[mask] < 0).all()
    assert_array_equal(told.bits[~mask], scan.tissues.bits[~mask])


def test_the_command_trains(data, tmp_path):
    (tmp_path / "tiny.yaml").write_text(
        "steps: 1\nbatch: 1\npatch_voxels: 4096\n"
        "network: {channels: [8, 16], attention: [false, false], prior: [8, 16], head_channels: 8}\n"
    )
    asked = ["train", "inpaint", str(data), "--config", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    assert "step 1 of 1: loss" in result.output
    assert (tmp_path / "run" / WEIGHTS).is_file()


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("stepps: 3", "stepps: expected a known parameter of TrainingConfig, got 'stepps'"),
        ("prior_steps: 2\ndevices: 2", "expected one device where the prior learns alone first, got 2"),
        ("steps: 0", "steps: expected greater than or equal to 1, got 0"),
        ("- steps", "expected keys like 'steps'"),
        (
            "network: {channels: [9, 16], attention: [false, false]}",
            "expected channels that are multiples of groups (8)",
        ),
        ("network: {channels: [8, 32]}", "expected attention for each of 2 levels, got 3"),
        ("held_out: [nobody]", "held_out: expected a scan that begins with 'nobody', got none"),
    ],
)
def test_what_a_training_cannot_use_is_refused_in_a_sentence(yaml, said, data, tmp_path):
    (tmp_path / "bad.yaml").write_text(yaml)
    asked = ["train", "inpaint", str(data), "--config", str(tmp_path / "bad.yaml"), "--out", str(tmp_path / "run")]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 2
    assert said in result.output
    assert not (tmp_path / "run").exists()


def test_places_without_a_ct_are_refused(tmp_path):
    with pytest.raises(ScanError, match="got no such file"):
        find_pairs([tmp_path])
    with pytest.raises(ScanError, match="expected a CT or a folder of CTs, got none"):
        find_pairs([tmp_path / "nowhere"])


def test_configurations_that_ship_are_right():
    for name in ("inpaint-cpu", "inpaint-gpu", "inpaint-smoke", "pix2pix-cpu"):
        config = find_training_config(name)
        assert 8 % config.network.multiple == 0, "patches have sides of 8"
    with pytest.raises(ConfigError, match="expected a YAML file or one of inpaint-cpu"):
        find_training_config("inpaint-tpu")
