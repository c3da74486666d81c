"""One noise for a case, in the scan at rest, that a field carries to every timepoint and that stays white."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import special

from spinesim.inpaint.kernels import CELLS, OCTAVES, claim_sources, draw_normals, nearest_sources
from spinesim.inpaint.rows import Rows


def _tabulate_normals() -> Float[np.ndarray, " n"]:
    """How far from 0 numbers of the normal distribution lie, by 31 bits, as ``kernels.draw_normals`` looks them up.

    The number r stands for the share (r + 0.5) / 2^32 of one tail. Cells are those of floating numbers from 0.5 on.
    """
    octave, cell = np.divmod(np.arange(CELLS * OCTAVES + 1), CELLS)
    tail = np.ldexp(1 + cell / CELLS, octave - 1 - 32)
    return -special.ndtri(np.minimum(tail, 0.5)).astype(np.float32)


QUANTILES = _tabulate_normals()


def draw_carried_noise(
    sources: Float[np.ndarray, "a b c 3"],
    source_shape: tuple[int, int, int],
    start: tuple[int, int, int],
    shape: tuple[int, int, int],
    *,
    seed: int,
    channels: int = 1,
    rows: Rows | None = None,
) -> Float[np.ndarray, "n a b c"]:
    """White noise (mean 0, variance 1) on a block of an output grid that goes along with the tissue.

    Every voxel of the scan has its own number, which depends on nothing but the seed. A voxel of the output takes that
    of the source voxel nearest to where it comes from, unless a neighbour comes from nearer to that one: it then gets a
    number of its own, and so does what comes from beyond the scan. So hardly a number occurs twice where tissue is
    stretched by less than 2.5, and the noise stays white however it is turned.

    Parameters
    ----------
    sources : (a, b, c, 3) float32 array
        Where the block comes from (fractional voxels of the scan). Of its outermost layer some numbers are not the same
        as in a larger block, since neighbours beyond are not seen.
    source_shape, shape : tuple of int
        Of the scan and of the output.
    start : tuple of int
        First voxel of the block in the output.
    seed : int
        Of the case.
    channels : int
        Independent noises to draw.
    rows : Rows or None
        Where it is drawn; elsewhere it is 0. Everywhere by default.

    Returns
    -------
    (n, a, b, c) float32 array
    """
    rows = rows or Rows.all_of(sources.shape[:3])
    found = np.empty(sources.shape[:3], dtype=np.int64, order="F")
    apart = np.empty(sources.shape[:3], dtype=np.float32, order="F")
    keys = np.empty(sources.shape[:3], dtype=np.uint64, order="F")
    around = rows.widened((1, 1, 1))
    seen = (around.low, around.high)
    nearest_sources(sources, np.array(source_shape), *seen, found, apart)
    place = (np.array(start), np.array(shape), np.uint64(seed % 2**64))
    claim_sources(found, apart, seen, rows.low, rows.high, *place, keys)
    out = np.zeros((channels, *sources.shape[2::-1]), dtype=np.float32)
    draw_normals(keys, rows.low, rows.high, QUANTILES, out)
    return out.transpose(0, 3, 2, 1)
