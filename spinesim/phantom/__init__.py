"""The built-in healthy phantom: a synthetic CT of a trunk made from published dimensions."""

from spinesim.phantom.build import build_phantom
from spinesim.phantom.parameters import PhantomParameters

__all__ = ["PhantomParameters", "build_phantom"]
