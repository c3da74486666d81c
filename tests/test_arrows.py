"""The contracts of lint-imports bite: a contract that sees nothing would keep quiet too."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def lint(command, house):
    """Run a linter in a copy of the house and give its exit code and words."""
    done = subprocess.run([sys.executable, *command], cwd=house, capture_output=True, encoding="utf-8", check=False)
    return done.returncode, done.stdout + done.stderr


LINT_IMPORTS = ("-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache")
RUFF = ("-m", "ruff", "check", "--no-cache", "--select", "TID", ".")


@pytest.fixture
def house(tmp_path):
    """A copy of the house in which a test may break something."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("spinesim", "cli"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_the_arrows_of_the_house_are_kept(house):
    code, words = lint(LINT_IMPORTS, house)
    assert code == 0, words


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("spinesim/anatomy/intruder.py", "import spinesim.deform", "Arrows run down"),
        ("spinesim/deform/intruder.py", "import spinesim.pathology", "Arrows run down"),
        ("spinesim/deform/intruder.py", "import spinesim.series", "Arrows run down"),
        ("spinesim/attic/__init__.py", "", "Arrows run down"),
        ("spinesim/series/intruder.py", "import cli", "The command line stands on top"),
        ("spinesim/series/intruder.py", "import click", "Only the command line knows click"),
        (
            "spinesim/deform/intruder.py",
            "def late():\n    import torch",
            "Only the kernels for a GPU and the networks that paint know torch",
        ),
        ("cli/intruder.py", "import torch", "Only the kernels for a GPU and the networks that paint know torch"),
    ],
)
def test_an_arrow_that_runs_back_breaks_a_contract(house, file, line, contract):
    intruder = house / file
    intruder.parent.mkdir(exist_ok=True)
    intruder.write_text(f"{line}\n", encoding="utf-8")
    code, words = lint(LINT_IMPORTS, house)
    assert code != 0
    assert any(contract in said and "BROKEN" in said for said in words.splitlines()), words


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("spinesim/series/intruder.py", "import spinesim.cli.main"),
        ("spinesim/series/intruder.py", "from spinesim import cli"),
        ("cli/intruder.py", "from spinesim.cli import main"),
        ("cli/intruder.py", "from .. import errors"),
        ("spinesim/series/intruder.py", "import configs"),
    ],
)
def test_ruff_refuses_what_the_contracts_cannot_see(house, file, line):
    (house / file).write_text(f"{line}\n", encoding="utf-8")
    code, words = lint(RUFF, house)
    assert code != 0
    assert "intruder.py" in words and "TID25" in words
