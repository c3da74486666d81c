"""A folder that is being written belongs to one run: another one that wants it is told so at once."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from spinesim.errors import OutputError

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
"""What the system says of a file that another run has locked."""


@contextmanager
def claimed(out: Path) -> Iterator[None]:
    """Keep other runs away from a folder, by a hidden file beside it that is locked as long as it is open.

    The system unlocks it when a run ends, however it ends; what a killed run left of it is taken over. Where no such
    file can be made, nothing is kept away: neither can the folder be written there, or the system cannot lock.

    Raises
    ------
    OutputError
        When another run holds the folder.
    """
    whole = whole_path(out)
    beside = whole.with_name(f".{whole.name}.lock")
    made = [folder for folder in beside.parents if not os.path.lexists(folder)]
    file = None
    try:
        with suppress(OSError):
            nearest = nearest_parent(out)
            if nearest.is_dir() and os.access(nearest, os.W_OK):
                beside.parent.mkdir(parents=True, exist_ok=True)
                file = _open_locked(beside, out)
        yield
    finally:
        if file is not None:
            _give_back(file, beside)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()  # as far as they are empty


def whole_path(out: Path) -> Path:
    """Whole path of a folder, so that ``.`` and ``..`` have names of their own; only its last name may be a link.

    Raises
    ------
    OutputError
        When it is the root of the file system.
    """
    last = out.name not in ("", "..")
    whole = Path(os.path.realpath(out.parent), out.name) if last else Path(os.path.realpath(out))
    if not whole.name:
        raise OutputError(f"{out}: expected a folder to make, got the root of the file system; choose another --out")
    return whole


def nearest_parent(out: Path) -> Path:
    """Find the nearest of a folder's parents that is there, be it a folder, a file or a link to nowhere."""
    return next(folder for folder in out.absolute().parents if os.path.lexists(folder))


def _open_locked(beside: Path, out: Path) -> int:
    """Open the file beside a folder and lock it; one that was removed meanwhile is no longer beside it."""
    while True:
        file = os.open(beside, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(file)
            if os.path.samestat(os.fstat(file), os.stat(beside)):
                return file
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(file)
            if error.errno in HELD:
                raise OutputError(
                    f"{out}: expected a folder that no other run is writing, got one that another run holds; "
                    "wait for it to end, or choose another --out"
                ) from error
            raise
        os.close(file)


def _give_back(file: int, beside: Path) -> None:
    """Remove the file and unlock it, in this order where the system allows it: nobody then locks a removed file."""
    with suppress(OSError):
        beside.unlink()
    os.close(file)
    if sys.platform == "win32":
        with suppress(OSError):
            beside.unlink()
