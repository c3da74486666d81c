"""Laws of the command line: it answers at once, refuses in one sentence, and writes what it prints."""

import csv
import json
import re
import subprocess
import sys
import warnings

import click
import numpy as np
import pytest
from click.testing import CliRunner
from pydantic import BaseModel, ConfigDict, Field

from spinesim.anatomy.findings import tell_coarseness
from spinesim.anatomy.grid import Grid
from spinesim.anatomy.writing import write_labels
from spinesim.cli import main as entry
from spinesim.cli.main import main
from spinesim.errors import PathologyError, ScanWarning
from spinesim.phantom import PhantomParameters, build_phantom

HEAVY = ("numpy", "scipy", "numba", "SimpleITK", "matplotlib", "nibabel", "pydantic")


@pytest.fixture(scope="module")
def labels_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "labels.nii.gz"
    write_labels(build_phantom(PhantomParameters(upper="T9", lower="L1", spacing_mm=(2.0, 2.0, 2.0))).labels, path)
    return path


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def failing(monkeypatch):
    """Put a command ``measure`` in place that does what it is told."""

    def install(action):
        @click.command()
        @click.option("--cobb", "cobb_deg")
        def measure(cobb_deg):
            action()

        monkeypatch.setattr(entry.LazyGroup, "get_command", lambda self, ctx, name: measure)

    return install


def test_the_overview_imports_nothing_heavy():
    code = (
        "import sys; from spinesim.cli.main import main; main(['--help'], standalone_mode=False); "
        f"print('heavy:', sorted(set({HEAVY!r}) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heavy: []\n")
    assert "measure" in done.stdout and "deform" in done.stdout


def test_what_is_printed_is_written(labels_file, tmp_path):
    out, table = tmp_path / "out.json", tmp_path / "out.csv"
    done = run("measure", labels_file, "--json", out, "--csv", table)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["level"] for row in rows] == ["T9", "T10", "T11", "T12", "L1"]
    assert report["scheme"] == "verse"
    (coarse,) = report["findings"]
    assert coarse.startswith("Voxels are up to 2 mm long") and coarse in done.output
    assert tell_coarseness(Grid((9, 9, 9), np.diag([0.7, 0.7, 1.5, 1.0]))) == ()
    for row in rows:
        line = next(line for line in done.output.splitlines() if line.split()[:1] == [row["level"]])
        assert line.split()[4] == f"{report['heights_mm'][row['level']]['anterior']:.1f}"
        assert float(row["height_anterior_mm"]) == report["heights_mm"][row["level"]]["anterior"]
    assert "none of 5° or more" in done.output


def test_quiet_prints_nothing(labels_file):
    assert run("measure", labels_file, "--quiet").output == ""


def test_labels_must_be_named():
    done = run("measure")
    assert done.exit_code == 2 and "LABELS" in done.output


def test_a_refusal_is_one_sentence_and_exit_code_2(tmp_path):
    done = run("measure", tmp_path / "none.nii.gz")
    assert done.exit_code == 2 and done.stdout == ""
    assert re.fullmatch(r"Error: .*none\.nii\.gz: expected a file .*\n", done.stderr)


def test_an_unknown_command_is_refused_with_the_nearest():
    done = run("mesure")
    assert done.exit_code == 2 and "Did you mean 'measure'?" in done.stderr


def test_a_refusal_from_the_library_is_said(failing):
    def refuse():
        raise PathologyError("cobb: expected less, got more; ask for less")

    failing(refuse)
    done = run("measure")
    assert (done.exit_code, done.stderr) == (2, "Error: cobb: expected less, got more; ask for less\n")


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cobb_deg: float = Field(ge=0, le=90)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"cobb_deg": 120}, "--cobb: expected less than or equal to 90, got 120"),
        ({"cobb_deg": "many"}, "--cobb: expected a valid number, unable to parse string as a number, got 'many'"),
        (
            {"cobb_deg": 20, "cob_deg": 3},
            "cob_deg: expected a known parameter of Asked, got 'cob_deg'; did you mean --cobb?",
        ),
    ],
)
def test_a_value_out_of_range_names_its_option(failing, given, said):
    failing(lambda: Asked(**given))
    done = run("measure")
    assert (done.exit_code, done.stderr) == (2, f"Error: {said}\n")


def test_a_full_disk_is_one_sentence(failing):
    def fill():
        raise OSError(28, "No space left on device", "out.nii.gz")

    failing(fill)
    done = run("measure")
    assert done.exit_code == 2
    assert done.stderr == "Error: out.nii.gz: expected to read and write there, got no space left on device\n"


def test_ctrl_c_ends_without_a_traceback(failing):
    def interrupt():
        raise KeyboardInterrupt

    failing(interrupt)
    done = run("measure")
    assert (done.exit_code, done.stderr) == (130, "Interrupted.\n")


def test_a_mistake_of_ours_is_not_hidden(failing):
    def blunder():
        raise ValueError("a bug")

    failing(blunder)
    assert isinstance(run("measure").exception, ValueError)


def test_a_doubt_about_the_data_is_a_line_on_stderr_said_once(failing):
    def doubt():
        for _ in range(2):
            warnings.warn("labels: expected several levels, got one", ScanWarning, stacklevel=1)

    failing(doubt)
    done = run("measure")
    assert (done.exit_code, done.stderr) == (0, "Warning: labels: expected several levels, got one\n")
