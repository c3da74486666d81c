"""Full disks, kills, locked folders, bombs and links: nothing is lost, nothing half written, one sentence is said."""

from __future__ import annotations

import errno
import gzip
import json
import os
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tracemalloc
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from click.testing import CliRunner
from scipy import ndimage

from spinesim.anatomy.nifti import encode_header
from spinesim.anatomy.reading import read_volume
from spinesim.anatomy.scan import Scan, Volume
from spinesim.anatomy.writing import write_labels, write_volume
from spinesim.cli.main import main
from spinesim.errors import OutputError, ScanError
from spinesim.series import job as job_room
from spinesim.series import writer as writer_room
from spinesim.series.claim import claimed
from spinesim.series.writer import check_target, write_case

ASKED = ("--cobb", 30, "--apex", "T10", "--scheme", "verse")
CHANGES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove"}


def call(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


def refused(*args):
    """Call a command that must be refused, and give its one sentence."""
    done = call(*args)
    assert done.exit_code == 2, done.exception or done.output
    *warned, sentence = done.stderr.splitlines()
    assert not done.stdout and all(line.startswith("Warning: ") for line in warned)
    assert sentence.startswith("Error: ") and "expected" in sentence and ", got " in sentence
    return sentence.removeprefix("Error: ")


def contents(folder):
    """Everything below a folder: names, bytes of files, targets of links."""
    return {
        str(entry.relative_to(folder)): os.readlink(entry)
        if entry.is_symlink()
        else entry.read_bytes()
        if entry.is_file()
        else None
        for entry in sorted(folder.rglob("*"))
    }


@pytest.fixture
def quick_picture(monkeypatch):
    """A picture that takes no time."""
    monkeypatch.setattr(writer_room, "draw_case", lambda *args: args[-1].write_bytes(b"picture"))


@pytest.fixture
def bare(small_case):
    """The small case without its CT: four files."""
    return replace(small_case, before=Scan(small_case.before.labels), after=Scan(small_case.after.labels))


@pytest.fixture
def ready_made(monkeypatch, bare):
    """That case instead of a new one."""
    monkeypatch.setattr(job_room, "simulate", lambda *args, **more: bare)


@pytest.fixture
def older(small_written, tmp_path):
    """A folder that the small case was written to before."""
    return Path(shutil.copytree(small_written["record"].parent, tmp_path / "out"))


# --- a watch on what is done to files ---------------------------------------------------------------------------------

_watch = []


def _tell(event, args):
    """Tell the watcher before anything below its folder is opened for writing, renamed, made or removed."""
    if not _watch:
        return
    below, act = _watch[0]
    writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wxa+")
    if (writes or event in CHANGES) and not isinstance(args[0], int):
        removed_inside = event in ("os.remove", "os.rmdir") and args[-1] != -1
        if removed_inside or str(args[0]).startswith(str(below)):
            watcher = _watch.pop()
            try:
                act()
            finally:
                _watch.append(watcher)


sys.addaudithook(_tell)


@contextmanager
def watched(below, act):
    """Call a function before every change to files below a folder (an audit hook can never be taken off again)."""
    _watch.append((below, act))
    try:
        yield
    finally:
        _watch.clear()


@pytest.mark.usefixtures("quick_picture")
def test_a_kill_at_any_step_leaves_the_old_case_or_the_new_one_and_a_second_run_mends_the_rest(
    bare, older, tmp_path_factory
):
    here, left = older.parent, tmp_path_factory.mktemp("left")
    old = contents(older)
    with watched(here, lambda: shutil.copytree(here, left / str(len(list(left.iterdir()))))):
        write_case(bare, older, overwrite=True)
    new, moments = contents(older), sorted(left.iterdir(), key=lambda folder: int(folder.name))
    assert [entry.name for entry in here.iterdir()] == ["out"]
    assert len(moments) > 15
    for moment in moments:  # each is what a kill there leaves
        out = moment / "out"
        assert not out.exists() or contents(out) in (old, new)
        with pytest.raises(OutputError, match="--overwrite"):
            check_target(out, overwrite=False)
        assert contents(out) in (old, new)
        assert [entry.name for entry in moment.iterdir()] == ["out"]
    write_case(bare, moments[len(moments) // 2] / "out", overwrite=True)
    assert contents(moments[len(moments) // 2] / "out") == new


@pytest.mark.usefixtures("quick_picture")
def test_an_old_case_that_was_being_thrown_away_is_never_given_back(bare, older, tmp_path_factory):
    here, left = older.parent, tmp_path_factory.mktemp("left")
    old = contents(older)
    with watched(here, lambda: shutil.copytree(here, left / str(len(list(left.iterdir()))))):
        write_case(bare, older, overwrite=True)
    for moment in left.iterdir():
        if (moment / "out").exists():
            (moment / "out").rename(moment / "kept")
            with suppress(OutputError):  # where it was set aside whole, it may be given back
                check_target(moment / "out", overwrite=False)
            assert not (moment / "out").exists() or contents(moment / "out") == old


@pytest.mark.usefixtures("ready_made", "quick_picture")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_disk_that_is_full_at_any_step_takes_nothing_away(overwrite, small_files, small_written, tmp_path):
    labels, out, steps, room = small_files[1], tmp_path / "out", 1, 0

    def fill():
        nonlocal steps
        steps += 1
        if steps == room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    while steps >= room:
        if overwrite:
            shutil.copytree(small_written["record"].parent, out)
        before, steps, room = contents(tmp_path), 0, room + 1
        with watched(tmp_path, fill):
            done = call("deform", "--labels", labels, *ASKED, "--out", out, *(["--overwrite"] if overwrite else []))
        if done.exit_code:
            (sentence,) = done.stderr.splitlines()
            assert done.exit_code == 2, done.exception
            assert "no space left on device" in sentence and ".partial" not in sentence and "; " in sentence
            assert contents(tmp_path) == before
        else:  # all was written, and only the older case could not be thrown away
            wanted = {small_written[key].name for key in ("labels", "field", "record", "picture")}
            assert {path.name for path in out.iterdir()} == wanted
            with pytest.raises(OutputError, match="--overwrite"):
                check_target(out, overwrite=False)
            assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
        shutil.rmtree(out, ignore_errors=True)
    assert room > 8


@pytest.mark.usefixtures("ready_made")
@pytest.mark.parametrize("room", [0, 1000, 40_000])
def test_a_file_that_may_grow_no_larger_leaves_nothing_behind(room, small_files, tmp_path):
    before, (soft, hard) = contents(tmp_path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        sentence = refused("deform", "--labels", small_files[1], *ASKED, "--out", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sentence.startswith(str(tmp_path / "out")) and "file too large; " in sentence
    assert contents(tmp_path) == before


# --- kills of the real command ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_killed_at_any_time_leaves_the_older_case_whole_and_can_be_run_again(small_phantom, tmp_path):
    voxels = small_phantom.labels.voxels
    box = ndimage.find_objects(np.minimum(voxels, 1))[0]
    start, stop = (tuple(getattr(side, end) + room for side in box) for end, room in (("start", -4), ("stop", 4)))
    block = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    cropped = small_phantom.labels.with_voxels(voxels[block], small_phantom.grid.cropped(start, stop))
    write_labels(cropped, tmp_path / "labels.nii.gz")
    out = tmp_path / "results" / "out"
    code = "from spinesim.cli.main import main; main()"
    words = ["deform", "--labels", tmp_path / "labels.nii.gz", "--apex", "T10", "--out", out, "--overwrite"]
    command = [sys.executable, "-c", code, *map(str, words)]

    def run(cobb):
        began = time.perf_counter()
        subprocess.run([*command, "--cobb", str(cobb)], check=True, capture_output=True)
        return time.perf_counter() - began

    took = run(30)
    old = contents(out)
    volumes = {name: data for name, data in old.items() if not name.endswith("json")}
    for moment in random.Random(0).sample(range(20, 100), 6):
        run_again = subprocess.Popen([*command, "--cobb", "20"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(took * moment / 100)
        run_again.send_signal(signal.SIGKILL)
        _, said = run_again.communicate()
        assert not said
        with pytest.raises(OutputError, match="--overwrite"):
            check_target(out, overwrite=False)
        assert [entry.name for entry in out.parent.iterdir()] == ["out"]
        record = json.loads((out / "sub-labels_record.json").read_text(encoding="utf-8"))
        assert contents(out) == old or record["parameters"]["cobb_deg"] == 20
        assert {path.name for path in out.iterdir()} == set(record["files"].values())
    run(30)
    assert {name: data for name, data in contents(out).items() if not name.endswith("json")} == volumes


# --- two runs onto one folder -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("ready_made", "quick_picture")
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_second_run_onto_a_folder_is_told_at_once_that_another_one_writes_it(overwrite, small_files, tmp_path):
    out = tmp_path / "deep" / "out"
    for words in (("deform", "--labels", small_files[1], *ASKED), ("phantom",)):
        with claimed(out):
            (partial := out.with_name(".out.partial")).mkdir(exist_ok=True)
            before = contents(tmp_path)
            sentence = refused(*words, "--out", out, *overwrite)
            assert sentence.startswith(f"{out}: expected a folder that no other run is writing, got ")
            assert contents(tmp_path) == before
            partial.rmdir()
        assert contents(tmp_path) == {}
    assert call("deform", "--labels", small_files[1], *ASKED, "--out", out).exit_code == 0
    assert [entry.name for entry in out.parent.iterdir()] == ["out"]


def test_what_a_killed_run_held_is_free(tmp_path):
    code = "import os, signal, sys; from pathlib import Path; from spinesim.series.claim import claimed\n"
    code += "with claimed(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "out"])
    assert killed.returncode == -signal.SIGKILL
    assert [entry.name for entry in tmp_path.iterdir()] == [".out.lock"]
    check_target(tmp_path / "out", overwrite=False)
    assert contents(tmp_path) == {}


def test_a_link_where_the_lock_should_be_is_left_as_it_is(tmp_path):
    (tmp_path / "kept").write_bytes(b"kept")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "kept")
    before = contents(tmp_path)
    with claimed(tmp_path / "out"):
        assert contents(tmp_path) == before
    assert contents(tmp_path) == before


# --- locked folders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def nobody():
    """A folder of one's own, and the rights of somebody who may not do all (root gives them up for the test)."""
    here = Path(tempfile.mkdtemp())
    here.chmod(0o755)
    root = os.geteuid() == 0
    (here / "own").mkdir()
    (here / "closed").mkdir()
    (here / "closed" / "scan.nii.gz").write_bytes(b"scan")
    (here / "closed" / "folder").mkdir()
    os.chmod(here / "closed", 0o000)
    (here / "locked").mkdir()
    os.chmod(here / "locked", 0o555)
    (here / "secret.nii.gz").write_bytes(b"secret")
    os.chmod(here / "secret.nii.gz", 0o000)
    if root:
        os.chown(here / "own", 65534, 65534)
        os.seteuid(65534)
    try:
        yield here
    finally:
        if root:
            os.seteuid(0)
        for folder in ("closed", "locked"):
            os.chmod(here / folder, 0o755)
        shutil.rmtree(here)


def test_what_may_not_be_read_is_named(nobody):
    for path in (nobody / "closed" / "scan.nii.gz", nobody / "closed", nobody / "secret.nii.gz"):
        for words in (["deform", "--labels", path, *ASKED, "--out", nobody / "own" / "out"], ["measure", path]):
            sentence = refused(*words)
            assert sentence.startswith(f"{path}: ") and "ermission denied" in sentence and "; " in sentence
    assert not list((nobody / "own").iterdir())


def test_where_may_not_be_written_is_said(nobody, bare, monkeypatch):
    monkeypatch.setattr(job_room, "read_scan", lambda *args, **more: bare.before)
    monkeypatch.setattr(job_room, "digest", lambda path: "0" * 64)
    monkeypatch.setattr(job_room, "simulate", lambda *args, **more: bare)
    for out in (nobody / "locked" / "out", nobody / "closed" / "folder" / "out", nobody / "closed" / "folder"):
        sentence = refused("deform", "--labels", "any.nii.gz", *ASKED, "--out", out)
        assert sentence.startswith(f"{out}: ") and "permission" in sentence and "; " in sentence
    assert not list((nobody / "locked").iterdir())


# --- bombs ------------------------------------------------------------------------------------------------------------


def peak_of(action):
    """Most memory (bytes) that Python and numpy held during an action."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["more than it says", "less than it says", "voxels far away"])
def test_a_bomb_is_refused_at_once_and_takes_no_memory(kind, small_phantom, tmp_path):
    grid, path = small_phantom.grid.cropped((0, 0, 0), (4, 5, 6)), tmp_path / "bomb.nii.gz"
    header = bytearray(encode_header(grid, small_phantom.image.storage))
    if kind == "less than it says":
        struct.pack_into("<8h", header, 40, 3, 32767, 32767, 32767, 1, 1, 1, 1)
    if kind == "voxels far away":
        struct.pack_into("<f", header, 108, 3e11)
    inflated = 400_000_000 if kind == "more than it says" else 4000
    with gzip.open(path, "wb", 1) as stream:
        stream.write(header)
        for _ in range(inflated // 4000):
            stream.write(b"\1" * 4000)

    def read():
        with pytest.raises(ScanError, match=r"bomb\.nii\.gz: expected .*header.*, got .*; copy"):
            read_volume(path)

    began = time.perf_counter()
    assert peak_of(read) < 30_000_000
    assert time.perf_counter() - began < 2


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.nii.gz")
    with pytest.raises(ScanError, match=r"pipe\.nii\.gz: expected .*, got a pipe or a device; save it"):
        read_volume(tmp_path / "pipe.nii.gz")


# --- names ------------------------------------------------------------------------------------------------------------

ODD = "Größe 漢字 'a' \"b\" #1 😀"


@pytest.mark.usefixtures("ready_made", "quick_picture")
def test_names_with_spaces_and_signs_of_any_script_are_read_and_written(bare, small_files, tmp_path):
    here = tmp_path / ODD
    here.mkdir()
    mapping, out = here / f"{ODD}.yaml", here / f"{ODD} out"
    mapping.write_text("".join(f"{n}: {level.name}\n" for level, n in bare.before.labels.numbers.items()), "utf-8")
    ct, labels = (Path(shutil.copy(file, here / f"{ODD} {file.name}")) for file in small_files)
    for ending in ("nii", "nrrd", "mha"):
        if ending == "nii":
            write_labels(bare.before.labels, here / f"{ODD}.nii")
        else:
            sitk.WriteImage(sitk.ReadImage(small_files[1]), here / f"{ODD}.{ending}")
        done = call("measure", here / f"{ODD}.{ending}", "--mapping", mapping, "--json", here / f"{ODD}.json")
        assert done.exit_code == 0, done.output
        assert json.loads((here / f"{ODD}.json").read_text(encoding="utf-8"))["labels"].endswith(f"{ODD}.{ending}")
    done = call("measure", labels, "--ct", ct, "--mapping", mapping, "--csv", here / f"{ODD}.csv", "-q")
    assert (done.exit_code, done.output) == (0, "")
    done = call("deform", ct, "--labels", labels, *ASKED[:4], "--mapping", mapping, "--out", out)
    assert done.exit_code == 0, done.output
    assert f"written: {out}\n" in done.stdout
    assert len(list(out.iterdir())) == 4


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def outside(small_written, tmp_path):
    """A case in another place, which no link may lead to, and a place for links."""
    (tmp_path / "here").mkdir()
    return Path(shutil.copytree(small_written["record"].parent, tmp_path / "outside"))


@pytest.mark.usefixtures("ready_made", "quick_picture")
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("target", ["outside", "nowhere", "link"])
def test_a_link_is_no_folder_to_write_to(target, overwrite, outside, small_files, tmp_path, monkeypatch):
    monkeypatch.setattr(job_room, "read_scan", lambda *args, **more: pytest.fail("the scan was read"))
    link = tmp_path / "here" / "link"
    link.symlink_to(tmp_path / target if target != "link" else link)
    before = contents(tmp_path)
    for out in (link, f"{link}/"):
        sentence = refused("deform", "--labels", small_files[1], *ASKED, "--out", out, *overwrite)
        assert sentence.startswith(f"{link}: expected a folder to write to, got a link to ")
    if target != "outside":
        sentence = refused("deform", "--labels", small_files[1], *ASKED, "--out", link / "out", *overwrite)
        assert sentence == (
            f"{link / 'out'}: expected a folder to make it in, got the dangling link {link}; choose another --out"
        )
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("quick_picture")
def test_a_case_is_written_through_a_link_among_the_parents_and_where_the_system_finds_it(bare, outside, tmp_path):
    (tmp_path / "here" / "link").symlink_to(outside.parent / "deep", target_is_directory=True)
    (tmp_path / "deep").mkdir()
    thesis = tmp_path / "here" / "out"
    thesis.mkdir()
    (thesis / "thesis.txt").write_text("years of work", encoding="utf-8")
    write_case(bare, tmp_path / "here" / "link" / "out")
    assert len(list((tmp_path / "deep" / "out").iterdir())) == 4
    # here/link/.. is the folder that deep lies in, and not here
    write_case(bare, f"{tmp_path}/here/link/../out")
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert [file.name for file in thesis.iterdir()] == ["thesis.txt"]


@pytest.mark.usefixtures("quick_picture")
def test_links_in_the_way_are_replaced_and_what_they_point_to_is_kept(bare, outside, older, tmp_path):
    kept = contents(outside)
    for file in older.iterdir():
        if not file.name.endswith(".json"):
            file.unlink()
            file.symlink_to(outside / file.name)
    (tmp_path / ".out.partial").symlink_to(outside)
    write_case(bare, older, overwrite=True)
    assert contents(outside) == kept
    assert not any(file.is_symlink() for file in older.iterdir())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["here", "out", "outside"]


def test_a_file_is_never_written_through_a_link(small_phantom, tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    tiny = small_phantom.grid.cropped((0, 0, 0), (2, 2, 2))
    for name in (".a.nii.part", "a.nii"):
        (tmp_path / name).symlink_to("precious")
    write_volume(Volume(np.zeros((2, 2, 2), np.int16), tiny), tmp_path / "a.nii")
    assert (tmp_path / "precious").read_bytes() == b"precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.nii", "precious"]
    assert not (tmp_path / "a.nii").is_symlink()


def test_overwrite_never_takes_a_folder_that_bears_the_name_of_a_file(bare, older):
    (older / "sub-small_ct.nii.gz").unlink()
    (older / "sub-small_ct.nii.gz").mkdir()
    (older / "sub-small_ct.nii.gz" / "thesis.txt").write_text("years of work", encoding="utf-8")
    before = contents(older)
    with pytest.raises(OutputError, match=r"nothing but a case .*, got one with sub-small_ct\.nii\.gz; "):
        write_case(bare, older, overwrite=True)
    assert contents(older) == before


@pytest.mark.usefixtures("ready_made", "quick_picture")
def test_an_input_is_read_through_a_link_and_never_lies_in_the_folder_to_replace(small_files, older, tmp_path):
    link = tmp_path / "link.nii.gz"
    link.symlink_to(small_files[1])
    assert call("deform", "--labels", link, *ASKED, "--out", tmp_path / "new").exit_code == 0
    link.unlink()
    link.symlink_to(older / "sub-small_seg-vert_msk.nii.gz")
    before = contents(tmp_path)
    sentence = refused("deform", "--labels", link, *ASKED, "--out", older, "--overwrite")
    assert sentence == f"{older}: expected a folder without the input, got the one of {link}; choose another --out"
    assert contents(tmp_path) == before
    (tmp_path / "loop.nii.gz").symlink_to("loop.nii.gz")
    (tmp_path / "dangling.nii.gz").symlink_to("nowhere.nii.gz")
    for name, said in (("loop", "too many levels of symbolic links"), ("dangling", "nothing there")):
        path = tmp_path / f"{name}.nii.gz"
        sentence = refused("deform", "--labels", path, *ASKED, "--out", tmp_path / "other")
        assert sentence == f"{path}: expected a file or a DICOM folder, got {said}; check the path"


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_report_never_takes_the_place_of_its_input(option, small_files, tmp_path):
    ct, labels = (Path(shutil.copy(file, tmp_path)) for file in small_files)
    (tmp_path / "link").symlink_to(labels.name)
    before = contents(tmp_path)
    for target in (labels, ct, tmp_path / "link"):
        sentence = refused("measure", labels, "--ct", ct, option, target)
        assert sentence == (
            f"{target}: expected a file of its own, got an input or another report; choose another name"
        )
    new = tmp_path / "new"
    assert "got an input or another report" in refused("measure", labels, "--json", new, "--csv", new)
    assert contents(tmp_path) == before
