"""Presets as YAML, read with ``importlib.resources``."""
