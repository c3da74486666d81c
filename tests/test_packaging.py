"""What lands on a user's machine: all of spinesim, nothing but spinesim, and quick to answer."""

import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
FOLDERS = SETUPTOOLS["package-dir"]
"""Installed package to folder of the checkout."""

HEAVY = ("torch", "vtk", "matplotlib", "numba", "SimpleITK")


def run(*command, cwd):
    """Run a command and give what it printed; show all of it when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shipped(package):
    """List what a mapped folder must put into the wheel: all code, and all data in the wheel's own paths."""
    folder, inside = ROOT / FOLDERS[package], package.replace(".", "/")
    return {
        f"{inside}/{file.relative_to(folder).as_posix()}"
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the checkout, so that no stale build folder leaks into it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in FOLDERS.values():
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", cwd=copy)
    (built,) = (copy / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel into an environment of its own that borrows only the dependencies of this one."""
    home = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", home, cwd=home)
    scripts = home / ("Scripts" if sys.platform == "win32" else "bin")
    run(sys.executable, "-m", "pip", f"--python={scripts / 'python'}", "install", "-q", "--no-deps", wheel, cwd=home)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(scripts / "python", "-c", ask, cwd=home).strip())
    # A path named in a .pth file is searched, but the .pth files in it (the editable install's) are not read.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "dependencies.pth").write_text("\n".join(borrowed), encoding="utf-8")
    return scripts


@pytest.mark.slow
def test_only_spinesim_lands_in_site_packages(wheel):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"spinesim"}


@pytest.mark.slow
@pytest.mark.parametrize("package", FOLDERS)
def test_every_file_of_a_room_is_in_the_wheel(wheel, package):
    with zipfile.ZipFile(wheel) as archive:
        missing = shipped(package) - set(archive.namelist())
    assert not missing, "list the package or the kind of data in pyproject.toml, [tool.setuptools]"


@pytest.mark.slow
def test_the_wheel_works_away_from_the_checkout(installed, tmp_path):
    assert "deform" in run(installed / "spinesim", "--help", cwd=tmp_path)
    ask = "import spinesim.phantom as p, spinesim.cli as c; print(p.__file__, c.__file__, sep='\\n')"
    for file in run(installed / "python", "-c", ask, cwd=tmp_path).splitlines():
        assert Path(file).is_relative_to(installed.parent)


def test_every_room_with_code_is_listed_as_a_package():
    found = {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts])
        for package, folder in FOLDERS.items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert found == set(SETUPTOOLS["packages"])


def test_help_answers_without_heavy_imports(tmp_path):
    script = (
        "import sys\n"
        "from spinesim.cli.main import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        f"print('heavy:', *(name for name in {HEAVY!r} if name in sys.modules))\n"
    )
    assert run(sys.executable, "-c", script, cwd=tmp_path).splitlines()[-1] == "heavy:"
