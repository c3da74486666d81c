"""Register one vertebra to another by their depths: a similarity, then B-splines (itk-elastix, an optional extra)."""

from __future__ import annotations

import warnings
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from spinesim.errors import ConfigError
from spinesim.shape.bone import Bone, own_grid

STEP_MM = 1.5
"""Spacing of the lattice on which two bones are compared."""

CLIP_MM = 8.0
"""Deeper inside and farther outside all is alike."""

COMMON = {
    "FixedInternalImagePixelType": "float",
    "MovingInternalImagePixelType": "float",
    "Registration": "MultiResolutionRegistration",
    "FixedImagePyramid": "FixedSmoothingImagePyramid",
    "MovingImagePyramid": "MovingSmoothingImagePyramid",
    "Interpolator": "LinearInterpolator",
    "ResampleInterpolator": "FinalLinearInterpolator",
    "Resampler": "DefaultResampler",
    "Optimizer": "AdaptiveStochasticGradientDescent",
    "Metric": "AdvancedMeanSquares",
    "ImageSampler": "RandomCoordinate",
    "NewSamplesEveryIteration": "true",
    "AutomaticParameterEstimation": "true",
    "NumberOfJacobianMeasurements": "300",
    "NumberOfGradientMeasurements": "2",
    "NumberOfSamplesForExactGradient": "2000",
    "MaximumStepLength": "0.5",
    "AutomaticTransformInitialization": "false",
    "HowToCombineTransforms": "Compose",
    "DefaultPixelValue": f"{-CLIP_MM:g}",
    "WriteResultImage": "false",
}
SIMILARITY = COMMON | {
    "Transform": "SimilarityTransform",
    "AutomaticScalesEstimation": "true",
    "NumberOfResolutions": "2",
    "MaximumNumberOfIterations": "30",
    "NumberOfSpatialSamples": "1500",
}
SPLINES = COMMON | {
    "Transform": "RecursiveBSplineTransform",
    "FinalGridSpacingInPhysicalUnits": "10",
    "GridSpacingSchedule": ("4", "2", "1"),
    "NumberOfResolutions": "3",
    "MaximumNumberOfIterations": ("40", "40", "40"),
    "NumberOfSpatialSamples": "2000",
}
"""Parameters of elastix. What is drawn at random is drawn from elastix's own fixed seed.

The optimiser's step is bounded: bones that lie on each other already have a gradient of noise alone, from which too
long a step is estimated, and the registration goes astray.
"""


def register(template: Bone, bone: Bone, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Carry points of a template to where they lie on a bone (each in its own frame, mm).

    The same bones give the same points. One thread: elastix fails with several and B-splines (ITKElastix 160, 295).

    Raises
    ------
    ConfigError
        When itk-elastix is not installed.
    """
    with warnings.catch_warnings(), TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # SWIG's types warn while they are made: an error there ends the process
        itk = open_elastix()
        fixed, moving = (_image(itk, each) for each in (template, bone))
        parameters = itk.ParameterObject.New()
        for stage in (SIMILARITY, SPLINES):
            parameters.AddParameterMap({key: (v,) if isinstance(v, str) else v for key, v in stage.items()})
        _, found = itk.elastix_registration_method(fixed, moving, parameter_object=parameters, log_to_console=False)
        found.SetParameter("ResultImagePixelType", "float")
        field = itk.transformix_deformation_field(moving, found, output_directory=folder)  # writes it there, too
        return points + _look_up(itk, field, points)


def open_elastix() -> Any:
    """The optional dependency, on one thread.

    Raises
    ------
    ConfigError
        When it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import itk
            from itk import ParameterObject  # noqa: F401 - itk comes without elastix, too
    except ImportError as error:
        raise ConfigError(
            "registration: expected itk-elastix, got no such package; install it: pip install 'spinesim[registration]'"
        ) from error
    itk.set_nthreads(1)
    return itk


def _image(itk: Any, bone: Bone) -> Any:
    """A bone's clipped depth as an image; its frame is what ITK calls the world."""
    low, high = bone.grid.corners()[[0, -1]]
    grid = own_grid(low, high, STEP_MM)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1).reshape(-1, 3)
    depth = np.clip(bone.at(grid.to_world(places.astype(float))), -CLIP_MM, CLIP_MM).reshape(grid.shape)
    image = itk.image_from_array(np.ascontiguousarray(depth.transpose(2, 1, 0), dtype=np.float32))
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetOrigin(grid.world_from_voxel[:3, 3].tolist())
    return image


def _look_up(itk: Any, field: Any, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Displacement at points, linearly between the voxels of a field."""
    values = itk.array_from_image(field)
    place = ((points - np.array(field.GetOrigin())) / np.array(field.GetSpacing())).T[::-1]
    return np.column_stack(
        [ndimage.map_coordinates(values[..., part], place, order=1, mode="nearest") for part in range(3)]
    )
