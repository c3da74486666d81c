"""Every command of the README does what the README says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from spinesim.cli.main import main
from spinesim.inpaint.training_config import TrainingConfig
from spinesim.series import job as job_room

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
SHELL = [line.removeprefix("$ ") for kind, text in BLOCKS if kind == "" for line in text.splitlines()]
ELSEWHERE = {
    "make demo": "run below as the command that it stands for",
    "make test": "this is it",
    "python -m pip install -c constraints.txt -e .": "how this environment was made",
}


def run(line: str) -> str:
    """Run a line that begins with ``spinesim`` and give what it said."""
    result = CliRunner().invoke(main, shlex.split(line)[1:])
    return f"{result.exit_code}\n{result.output}"


@pytest.fixture
def at_a_users_desk(small_files, tmp_path, monkeypatch):
    """A folder with a CT and its labels under the names of the README."""
    for source, name in zip(small_files, ("ct.nii.gz", "labels.nii.gz"), strict=True):
        shutil.copy(source, tmp_path / name)
    monkeypatch.chdir(tmp_path)


def test_every_line_is_known():
    unknown = [line for line in SHELL if not line.startswith(("spinesim ", "Error: ")) and line not in ELSEWHERE]
    assert unknown == []
    assert "spinesim deform --cobb 35 --apex T9 --out demo" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_what_is_linked_is_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_a_users_own_scan(at_a_users_desk):
    lines = [line for line in SHELL if ("ct.nii.gz" in line or "out/" in line) and "--weights" not in line]
    assert len(lines) == 2
    for line in lines:
        assert run(line).startswith("0\n"), line
    assert {path.name.split("_", 1)[1] for path in Path("out").iterdir()} == {
        "ct.nii.gz",
        "seg-vert_msk.nii.gz",
        "desc-unknown_msk.nii.gz",
        "field.nrrd",
        "record.json",
        "picture.png",
    }


def test_a_network_is_trained_and_paints(at_a_users_desk, monkeypatch):
    Path("scans").mkdir()
    for name, kept in (("ct.nii.gz", "a_ct.nii.gz"), ("labels.nii.gz", "a_seg-vert_msk.nii.gz")):
        shutil.copy(name, Path("scans") / kept)
    train, paint = [line for line in SHELL if "train inpaint" in line or "--weights" in line]
    network = {"channels": (8, 16), "attention": (False, False), "head_channels": 8}
    tiny = TrainingConfig(network=network, steps=2, batch=1, patch_voxels=4096)
    monkeypatch.setattr("spinesim.inpaint.training_config.find_training_config", lambda _: tiny)
    assert run(train).startswith("0\n")
    said = run(f"{paint} --steps 1")
    assert said.startswith("0\n"), said
    assert "voxels with diffusion (where unknown for: outside, lesion, fracture, tissue, stretched, squeezed)" in said


def test_the_phantoms_command_writes_what_the_table_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (command,) = [line for line in SHELL if line.startswith("spinesim phantom")]
    said = run(f"{command} --spacing 3 3 3")
    assert said.startswith("0\n"), said
    written = {path.name for path in Path("phantom").iterdir()}
    assert written == set(re.findall(r"`(sub-phantom_\S+)`", README))


def test_the_commands_of_shape_models_write_what_they_name(small_cohort, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_cohort, "labels")
    for line in [line for line in SHELL if line.startswith("spinesim shape")]:
        assert run(line).startswith("0\n"), line
    written = {path.name for path in Path().iterdir()} - {"labels"}
    assert written == {f"model{end}" for end in (".npz", "_spines", "_report.json")} | {
        "modes.png",
        "scores.csv",
        "scores.png",
        "samples.csv",
    }


def test_presets_and_prompts_are_read_and_written(small_phantom, small_case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("spinesim.phantom.build_phantom", lambda parameters: small_phantom)
    monkeypatch.setattr(job_room, "simulate", lambda *args, **more: small_case)
    lines = [line for line in SHELL if line.startswith("spinesim simulate") and "wobbly" not in line]
    assert len(lines) == 4
    for line in lines:
        assert run(line).startswith("0\n"), line
    assert {path.name for path in Path().iterdir()} == {"curves", "broken", "asked"}


def test_the_three_lines_of_python(at_a_users_desk):
    (code,) = [text for kind, text in BLOCKS if kind == "python"]
    exec(compile(code, "README.md", "exec"), {})
    assert list(Path("out").glob("*_picture.png"))


def test_the_refusals_read_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = [line for line in SHELL if line.startswith("spinesim") and ("--apex C7" in line or "wobbly" in line)]
    sentences = [line for line in SHELL if line.startswith("Error: ")]
    for command, said in zip(commands, sentences, strict=True):
        assert run(command) == f"2\n{said}\n"
    assert os.listdir() == []


@pytest.mark.slow
def test_the_first_command_makes_the_first_picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = run("spinesim deform --cobb 35 --apex T9")
    assert said.startswith("0\n")
    assert re.search(r"asked 35, measured 3[45]\.\d", said)
