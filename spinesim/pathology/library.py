"""All pathologies by their kind, and how they are read from a configuration."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

import spinesim.pathology
from spinesim.errors import ConfigError, first_refusal
from spinesim.pathology.proposal import Pathology


@cache
def kinds() -> Mapping[str, type[Pathology]]:
    """Find every pathology in the files of this folder: its kind and its parameters."""
    for module in pkgutil.iter_modules(spinesim.pathology.__path__):
        importlib.import_module(f"spinesim.pathology.{module.name}")
    found = sorted(Pathology.__subclasses__(), key=lambda pathology: (pathology.stage, pathology.kind))
    return {pathology.kind: pathology for pathology in found}


def read_pathology(entry: Any, where: str) -> Pathology:
    """Read one pathology from the keys of a configuration; ``where`` names the place for messages.

    Raises
    ------
    ConfigError
        When the kind or a key is unknown; the nearest known one is named. Also when a value is out of its range.
    """
    if not isinstance(entry, Mapping) or "kind" not in entry:
        raise ConfigError(f"{where}: expected keys with a 'kind' ({', '.join(kinds())}), got {entry!r}; add it")
    kind, numbers = entry["kind"], {key: value for key, value in entry.items() if key != "kind"}
    if not isinstance(kind, str) or kind not in kinds():
        raise ConfigError(f"{where}: expected a kind among {', '.join(kinds())}, got {kind!r}{nearest(kind, kinds())}")
    pathology = kinds()[kind]
    for key in numbers:
        if key not in pathology.model_fields:
            raise ConfigError(
                f"{where}: expected a parameter of {kind}, got {key!r}{nearest(key, pathology.model_fields)}"
            )
    try:
        return pathology(**numbers)
    except ValidationError as error:
        raise ConfigError(f"{where}: {': '.join(filter(None, first_refusal(error)))}") from error


def tell_pathology(pathology: BaseModel) -> dict[str, Any]:
    """Say a pathology's parameters as JSON has them; those in a combination with their kinds."""
    told = pathology.model_dump(mode="json")
    parts = getattr(pathology, "pathologies", None)
    return told if parts is None else {"pathologies": [{"kind": part.kind, **tell_pathology(part)} for part in parts]}


def nearest(word: Any, known: Mapping[str, Any]) -> str:
    """Offer the nearest known word, if there is one, and else all of them."""
    near = difflib.get_close_matches(str(word), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; choose one of {', '.join(known)}"
