"""Rows of voxels along the first axis of a block: where work is to be done, with hardly a voxel too many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int
from scipy import ndimage

from spinesim.inpaint.kernels import find_rows

Triple = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Rows:
    """First voxel of each row of a block, and the one after the last; none where ``low`` is not below ``high``."""

    low: Int[np.ndarray, "b c"]
    high: Int[np.ndarray, "b c"]
    length: int

    @classmethod
    def all_of(cls, shape: Triple) -> Rows:
        """Every voxel of a block."""
        return cls(np.zeros(shape[1:], dtype=np.int64), np.full(shape[1:], shape[0]), shape[0])

    @classmethod
    def holding(cls, mask: Bool[np.ndarray, "a b c"]) -> Rows:
        """As little as holds all voxels of a mask."""
        low, high = np.empty((2, *mask.shape[1:]), dtype=np.int64)
        find_rows(mask, low, high)
        return cls(low, high, mask.shape[0])

    def placed(self, lead: Triple, shape: Triple) -> Rows:
        """The same in a larger block, so many voxels into it."""
        low, high = np.full(shape[1:], shape[0]), np.zeros(shape[1:], dtype=np.int64)
        (n, m), (a, b, c) = self.low.shape, lead
        some = self.low < self.high
        low[b : b + n, c : c + m][some], high[b : b + n, c : c + m][some] = self.low[some] + a, self.high[some] + a
        return Rows(low, high, shape[0])

    def widened(self, reach: Triple) -> Rows:
        """All that lies within so many voxels along each axis."""
        size = (2 * reach[1] + 1, 2 * reach[2] + 1)
        some = self.low < self.high
        low = ndimage.minimum_filter(np.where(some, self.low, 2 * self.length), size) - reach[0]
        high = ndimage.maximum_filter(np.where(some, self.high, -self.length), size) + reach[0]
        none = low > self.length
        low, high = np.clip(low, 0, self.length), np.clip(high, 0, self.length)
        return Rows(np.where(none, self.length, low), np.where(none, 0, high), self.length)
