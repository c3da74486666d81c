"""The same request gives the same files, bit for bit."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_first_run_after_an_install_writes_the_bytes_of_the_next(small_files, tmp_path):
    """The first compiles its loops, the next loads them; one thread or two shall make no difference either."""
    ct, labels = small_files
    asked = ["deform", str(ct), "--labels", str(labels), "--cobb", "30", "--apex", "T10", "--quiet", "--out"]
    written = []
    for run, threads in (("first", 2), ("next", 2), ("alone", 1)):
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "kernels"), "NUMBA_NUM_THREADS": str(threads)}
        code = "from spinesim.cli.main import main; main()"
        subprocess.run([sys.executable, "-c", code, *asked, str(tmp_path / run)], env=environment, check=True)
        written.append({f.name: f.read_bytes() for f in (tmp_path / run).iterdir() if f.suffix != ".json"})
        assert any((tmp_path / "kernels").rglob("*.nbc"))
    assert len(written[0]) >= 5
    for other in written[1:]:
        assert other.keys() == written[0].keys()
        assert [name for name, data in other.items() if data != written[0][name]] == []
