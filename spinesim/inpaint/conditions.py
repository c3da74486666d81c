"""What the network sees beside the noisy volume: what is known, what is to be painted, and what tissue that is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from spinesim.anatomy.boxes import Box
from spinesim.anatomy.grid import Grid
from spinesim.inpaint.texture import CLIP, FEWEST, Texture, measure_texture
from spinesim.inpaint.tissues import PER_MM, Kind, TissueMaps

CENTRE_HU, SCALE_HU = 100.0, 150.0
"""The network's numbers are asinh((HU - centre) / scale): even where marrow and soft tissue are, compressed beyond."""

LIMITS_HU = (-1024.0, 3071.0)
"""HU that a scanner gives; what is painted stays inside."""

FILL_MM = (12.0, 5.0, 1.5)
"""Widths of the Gaussians that guide: the last where enough of the volume says something, wider ones where little."""

ENOUGH = 0.2
"""A Gaussian counts in full where such a share of it lies on voxels that say something."""

MASK_MM = 1.5
"""Width of the Gaussian that softens the mask."""

CLASSES_HU = (-500.0, -30.0, 150.0)
"""Gas, fat and soft tissue are below these; what is above is none of them."""

CHANNELS = (
    "known",
    "mask",
    "guide",
    "guided",
    "gas",
    "fat",
    "soft",
    "depth",
    "x_mm",
    "y_mm",
    "z_mm",
    "noise",
    "marrow",
    "texture",
)
"""Channels before those of ``Kind``."""

COUNT = len(CHANNELS) + len(Kind)
"""Channels of conditions."""

GUIDE, TEXTURE = CHANNELS.index("guide"), CHANNELS.index("texture")
"""Channels that say about what mean, and by how much, the volume varies."""

SPACING = slice(CHANNELS.index("x_mm"), CHANNELS.index("z_mm") + 1)
"""Channels of the logarithms of the voxels' sides."""

EDGE_CLIP = 4.0
"""What is known is told about its guide up to so many levels of its texture."""

EDGE_SHARE, BONE_SHARE = 0.5, 0.1
"""Texture is looked at on this share of the known tissue, where the guide is most even: on bone, if at least this share
of what is painted is bone."""

WHOLE: Box = (slice(None), slice(None), slice(None))


def compress(hu: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Give HU as numbers for the network."""
    return np.arcsinh((hu - np.float32(CENTRE_HU)) / np.float32(SCALE_HU)).astype(np.float32)


def expand(values: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Give the network's numbers as HU, inside ``LIMITS_HU``."""
    return np.clip(np.sinh(values) * np.float32(SCALE_HU) + np.float32(CENTRE_HU), *LIMITS_HU).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Canvas:
    """A CT, or a box of one, with a mask to paint in and what is known of it.

    Parameters
    ----------
    hu : (i, j, k) float32 array
        The CT; inside the mask a guess, or nothing.
    mask : (i, j, k) bool array
        Where to paint.
    guided : (i, j, k) bool array
        Where the guess says something: its local mean then guides the painting. Outside the mask it is True.
    tissues : TissueMaps
        On the same grid.
    grid : Grid
        Of the CT.
    noise_hu : float
        Standard deviation of its noise.
    marrow_hu : float
        Mean density of marrow in it.
    """

    hu: Float[np.ndarray, "i j k"]
    mask: Bool[np.ndarray, "i j k"]
    guided: Bool[np.ndarray, "i j k"]
    tissues: TissueMaps
    grid: Grid
    noise_hu: float
    marrow_hu: float

    def turned(self) -> tuple[Canvas, tuple[int, ...], tuple[bool, ...]]:
        """The same with its axes right, anterior, superior (views), the axes that were taken, and those turned over."""
        order, over = turns_to_ras(self.grid)
        hu, mask, guided = (turn(each, order, over) for each in (self.hu, self.mask, self.guided))
        tissues = TissueMaps(turn(self.tissues.bits, order, over), turn(self.tissues.depth, order, over))
        affine = np.eye(4)
        affine[:3, :3] = np.diag(self.grid.spacing_mm[list(order)])
        turned = replace(self, hu=hu, mask=mask, guided=guided, tissues=tissues, grid=Grid(hu.shape, affine))
        return turned, order, over


def turns_to_ras(grid: Grid) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Axes of an array that run most to the right, forward and up, and whether they run the other way."""
    along = np.abs(grid.direction)
    order: list[int] = []
    free = {0, 1, 2}
    for world in (2, 1, 0):  # the body's axis first
        axis = max(free, key=lambda n: along[world, n])
        free.remove(axis)
        order.insert(0, axis)
    return tuple(order), tuple(bool(grid.direction[world, axis] < 0) for world, axis in enumerate(order))


def turn(array: np.ndarray, order: tuple[int, ...], over: tuple[bool, ...]) -> np.ndarray:
    """Take axes in an order, some turned over (a view)."""
    return array.transpose(order)[tuple(slice(None, None, -1 if back else 1) for back in over)]


def turn_back(array: np.ndarray, order: tuple[int, ...], over: tuple[bool, ...]) -> np.ndarray:
    """Undo ``turn`` (a view)."""
    flipped = array[tuple(slice(None, None, -1 if back else 1) for back in over)]
    return flipped.transpose(np.argsort(order))


@dataclass(frozen=True, eq=False)
class Conditions:
    """What goes beside the noisy volume, kept small: the channels of a box are made when they are asked for."""

    mask: Bool[np.ndarray, "i j k"]
    known: Float[np.ndarray, "i j k"]
    soft_mask: Float[np.ndarray, "i j k"]
    guide: Float[np.ndarray, "i j k"]
    guided: Bool[np.ndarray, "i j k"]
    tissues: TissueMaps
    texture: Texture
    constants: tuple[float, float, float, float, float]

    def texture_from(self, white: Float[np.ndarray, "i j k"]) -> Float[np.ndarray, "i j k"]:
        """The known texture, and inside the mask noise that goes on with it: of its correlation, also across the rim.

        Texture is what is apart from the guide, in levels of the known one. White noise becomes texture by a filter;
        outside the mask that noise is taken which becomes the known texture.
        """
        apart = np.clip((self.known - self.guide) / self.texture.level, -EDGE_CLIP, EDGE_CLIP)
        known = np.where(self.mask, np.float32(0), apart.astype(np.float32))
        around = np.clip(self.texture.whitened(np.clip(known, -CLIP, CLIP)), -CLIP, CLIP)
        return np.where(self.mask, self.texture.coloured(np.where(self.mask, white, around)), known)

    def stack(self, box: Box = WHOLE) -> Float[np.ndarray, "c i j k"]:
        """The channels of a box, float32: those of ``CHANNELS``, then one for each ``Kind``."""
        guide, guided, tissues = self.guide[box], self.guided[box], self.tissues.cropped(box)
        gas, fat, soft = compress(np.array(CLASSES_HU, dtype=np.float32))
        out = np.empty((COUNT, *guide.shape), dtype=np.float32)
        out[:4] = self.known[box], self.soft_mask[box], guide, guided
        out[4] = guided & (guide < gas)
        out[5] = guided & (guide >= gas) & (guide < fat)
        out[6] = guided & (guide >= fat) & (guide < soft)
        out[7] = tissues.depth * np.float32(1 / (10 * PER_MM))
        out[8:14] = np.array((*self.constants, self.texture.level))[:, None, None, None]
        for kind in Kind:
            out[len(CHANNELS) + kind] = tissues.of(kind)
        return out


def find_conditions(canvas: Canvas) -> Conditions:
    """Find what a network is told of a canvas.

    Nothing inside the mask enters but the local mean of what guides there; where nothing does, that of what is known.
    """
    spacing, values = canvas.grid.spacing_mm, compress(canvas.hu)
    guide = _local_mean(values, canvas.guided, spacing)
    return Conditions(
        canvas.mask,
        np.where(canvas.mask, np.float32(0), values),
        ndimage.gaussian_filter(canvas.mask.astype(np.float32), MASK_MM / spacing),
        guide,
        canvas.guided,
        canvas.tissues,
        measure_texture(values - guide, _even(canvas, guide)),
        (*np.log(spacing).tolist(), canvas.noise_hu / 50, canvas.marrow_hu / 300),
    )


def _even(canvas: Canvas, guide: Float[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    """Where the texture of what is painted can be seen, and no edge: in known bone where that is to be painted.

    Elsewhere, or where too little bone is known, any tissue counts.
    """
    slope = np.sqrt(sum(each**2 for each in np.gradient(guide)))
    apart = ~ndimage.binary_dilation(canvas.mask, iterations=2)
    gas = compress(np.array(CLASSES_HU[0], dtype=np.float32))
    tissue, bone = apart & (guide > gas), canvas.tissues.of(Kind.BONE)
    painted = np.count_nonzero(bone & canvas.mask) > BONE_SHARE * np.count_nonzero(canvas.mask)
    for where in (apart & bone, tissue) if painted else (tissue,):
        if np.count_nonzero(where) * EDGE_SHARE > FEWEST:
            return where & (slope <= np.quantile(slope[where], EDGE_SHARE))
    return tissue


def _local_mean(
    values: Float[np.ndarray, "i j k"], said: Bool[np.ndarray, "i j k"], spacing: Float[np.ndarray, " 3"]
) -> Float[np.ndarray, "i j k"]:
    """Gaussian mean over the voxels that say something: over more of them where few are near."""
    mean = np.full(values.shape, values[said].mean() if said.any() else 0.0, dtype=np.float32)
    for width in FILL_MM:
        total = ndimage.gaussian_filter(np.where(said, values, 0.0), width / spacing, truncate=2.0)
        share = ndimage.gaussian_filter(said.astype(np.float32), width / spacing, truncate=2.0)
        weight = np.clip(share / ENOUGH, 0, 1)
        mean += weight * (np.divide(total, share, out=np.zeros_like(total), where=share > 0) - mean)
    return mean
