"""Simulate spine pathology on CT.

>>> import spinesim
>>> scan = spinesim.read_scan("ct.nii.gz", "labels.nii.gz")  # or spinesim.build_phantom()
>>> case = spinesim.simulate(scan, spinesim.Scoliosis(cobb_deg=35, apex="T9"))
>>> spinesim.write_case(case, "out")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spinesim.anatomy.locate import estimate_spine
    from spinesim.anatomy.measure import measure_spine
    from spinesim.anatomy.reading import read_labels, read_scan, read_volume
    from spinesim.errors import SpinesimError
    from spinesim.pathology.combination import Combination
    from spinesim.pathology.configuration import read_configuration
    from spinesim.pathology.fracture import Fracture
    from spinesim.pathology.prompt import read_prompt
    from spinesim.pathology.scoliosis import Scoliosis
    from spinesim.phantom import Phantom, PhantomParameters, build_phantom, build_whole_phantom
    from spinesim.series.case import Case, OutputGrid, simulate
    from spinesim.series.phantom_folder import write_phantom
    from spinesim.series.writer import write_case

_HOMES = {
    "estimate_spine": "anatomy.locate",
    "measure_spine": "anatomy.measure",
    "read_labels": "anatomy.reading",
    "read_scan": "anatomy.reading",
    "read_volume": "anatomy.reading",
    "SpinesimError": "errors",
    "Combination": "pathology.combination",
    "read_configuration": "pathology.configuration",
    "Fracture": "pathology.fracture",
    "read_prompt": "pathology.prompt",
    "Scoliosis": "pathology.scoliosis",
    "Phantom": "phantom",
    "PhantomParameters": "phantom",
    "build_phantom": "phantom",
    "build_whole_phantom": "phantom",
    "Case": "series.case",
    "OutputGrid": "series.case",
    "simulate": "series.case",
    "write_case": "series.writer",
    "write_phantom": "series.phantom_folder",
}
"""Where each public name lives. It is imported when first asked for, so that ``import spinesim`` costs nothing."""

__all__ = [
    "Case",
    "Combination",
    "Fracture",
    "OutputGrid",
    "Phantom",
    "PhantomParameters",
    "Scoliosis",
    "SpinesimError",
    "build_phantom",
    "build_whole_phantom",
    "estimate_spine",
    "measure_spine",
    "read_configuration",
    "read_labels",
    "read_prompt",
    "read_scan",
    "read_volume",
    "simulate",
    "write_case",
    "write_phantom",
]

__version__ = version("spinesim")


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'spinesim' has no attribute {name!r}")
    return getattr(import_module(f"spinesim.{_HOMES[name]}"), name)
