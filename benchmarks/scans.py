"""The scans of the benchmark, read once each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spinesim.anatomy.reading import read_scan
from spinesim.anatomy.scan import Scan
from spinesim.phantom import build_phantom

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Where the real scans lie: beside the repository, never in it."""

LIDC = (DATA / "LIDC-IDRI-0001_ct.nii.gz", DATA / "LIDC-IDRI-0001_seg-vert_VerSe.nii.gz")
VERSE004 = DATA / "verse_cc-by-sa" / "sub-verse004_seg-vert_msk.nii.gz"


@dataclass(frozen=True)
class Source:
    """A scan by its short name: what it is, the files that it needs, and how to read it."""

    name: str
    title: str
    files: tuple[Path, ...]
    read: Callable[[], Scan]

    @property
    def missing(self) -> tuple[Path, ...]:
        """The files that are not there."""
        return tuple(path for path in self.files if not path.is_file())


SOURCES = {
    source.name: source
    for source in (
        Source("lidc", "LIDC-IDRI-0001, CT and labels (T1 to L2 whole)", LIDC, lambda: read_scan(*LIDC)),
        Source("verse004", "verse004, label map alone (T9 to L5)", (VERSE004,), lambda: read_scan(None, VERSE004)),
        Source("phantom", "built-in phantom, CT and labels (C7 to S)", (), build_phantom),
    )
}
