"""The built-in healthy phantom: a synthetic CT of a trunk made from published dimensions."""

from spinesim.phantom.build import Phantom, build_phantom, build_whole_phantom
from spinesim.phantom.parameters import PhantomParameters

__all__ = ["Phantom", "PhantomParameters", "build_phantom", "build_whole_phantom"]
