"""Configurations: what to simulate, said in YAML; those that ship are presets."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spinesim.errors import ConfigError, first_refusal
from spinesim.pathology.combination import Combination
from spinesim.pathology.library import kinds, nearest, read_pathology
from spinesim.pathology.proposal import Pathology

SUFFIXES = (".yaml", ".yml")


class Configuration(BaseModel):
    """What to simulate, and by which seed; ``about`` says it in words."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    pathologies: tuple[Pathology, ...] = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    about: str = ""

    @property
    def pathology(self) -> Pathology:
        """The one pathology, or the combination of several."""
        return self.pathologies[0] if len(self.pathologies) == 1 else Combination(pathologies=self.pathologies)


def read_configuration(source: str | Path, changes: Sequence[str] = ()) -> Configuration:
    """Read a YAML file, or a preset by its name.

    Parameters
    ----------
    source : str or Path
        File, or the name of a preset.
    changes : sequence of str
        ``level=T9`` gives that key of its pathology another value (in YAML); where several pathologies know the key,
        ``2.level=T9`` says it is of the second one.

    Raises
    ------
    ConfigError
        When there is none, when it is no YAML, when a value is out of its range, or when a key is unknown; the nearest
        known one is named. Also when a change is of a key that no pathology, or more than one, knows.
    """
    path = Path(source)
    if path.suffix not in SUFFIXES and path.parent == Path():
        found = presets()
        if path.name not in found:
            near = difflib.get_close_matches(path.name, found, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the presets are {', '.join(found) or 'none yet'}"
            raise ConfigError(f"{source}: expected a YAML file or a preset, got neither; {hint}")
        return parse_configuration(found[path.name].read_text(encoding="utf-8"), path.name, changes)
    if not path.is_file():
        raise ConfigError(f"{path}: expected a YAML file, got none; give the right path or the name of a preset")
    try:
        return parse_configuration(path.read_text(encoding="utf-8"), str(path), changes)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected YAML in UTF-8, got other bytes; save it as UTF-8") from error


def parse_configuration(text: str, where: str, changes: Sequence[str] = ()) -> Configuration:
    """Read the text of a configuration, with changes; ``where`` names it for messages.

    Raises
    ------
    ConfigError
        As ``read_configuration``.
    """
    try:
        said = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date that is none
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}: expected YAML, got something else{line}; see configs/ for examples") from error
    if not isinstance(said, dict):
        raise ConfigError(f"{where}: expected the key 'pathologies', got {said!r}; see configs/ for examples")
    for key in said:
        if key not in Configuration.model_fields:
            raise ConfigError(f"{where}: expected a known key, got {key!r}{nearest(key, Configuration.model_fields)}")
    entries = said.get("pathologies")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{where}: expected a list under 'pathologies', got {entries!r}; name one pathology at least")
    for change in changes:
        _change(entries, change)
    read = tuple(read_pathology(entry, f"{where}: pathologies[{rank}]") for rank, entry in enumerate(entries))
    try:
        configuration = Configuration(**said | {"pathologies": read})
        _ = configuration.pathology  # what cannot go together is refused here, before any work
    except ValidationError as error:
        raise ConfigError(f"{where}: {': '.join(filter(None, first_refusal(error)))}") from error
    return configuration


def _change(entries: list[Any], change: str) -> None:
    """Give one key of one entry another value, in place."""
    said = re.fullmatch(r"(?:(\d+)\.)?(\w+)=(.*)", change.strip(), flags=re.DOTALL)
    if said is None:
        raise ConfigError(f"--set: expected a key and its value (level=T9), got {change!r}; write it so")
    rank, key, value = said.groups()
    fields = [kinds()[entry["kind"]].model_fields if _named(entry) else {} for entry in entries]
    knowing = [number for number, known in enumerate(fields, start=1) if key in known]
    if rank is None and len(knowing) > 1:
        raise ConfigError(
            f"--set: expected one pathology that knows {key!r}, got {len(knowing)}; "
            f"say which one is meant: {knowing[0]}.{change}"
        )
    if not knowing or (rank is not None and int(rank) not in knowing):
        raise ConfigError(
            f"--set: expected a parameter of {'its pathologies' if rank is None else f'pathology {rank}'}, got {key!r}"
            f"{nearest(key, {name: None for known in fields for name in known})}"
        )
    try:
        entries[int(rank or knowing[0]) - 1][key] = yaml.safe_load(value)
    except (yaml.YAMLError, ValueError) as error:  # a date that is none
        raise ConfigError(f"--set: expected a value of YAML for {key!r}, got {value!r}; put it in quotes") from error


def _named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("kind"), str) and entry["kind"] in kinds()


def presets() -> dict[str, Any]:
    """Find the shipped configurations, by name."""
    folder = resources.files("spinesim.configs")
    found = {item.name.rpartition(".")[0]: item for item in folder.iterdir() if item.name.endswith(SUFFIXES)}
    return dict(sorted(found.items()))


def configuration_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a configuration; shipped as ``spinesim/assets/config.schema.json``."""
    parts: dict[str, Any] = {}
    for kind, pathology in kinds().items():
        if pathology is Combination:
            continue
        schema = pathology.model_json_schema(ref_template="#/$defs/{model}")
        parts |= schema.pop("$defs", {})
        properties = {"kind": {"const": kind}, **schema["properties"]}
        parts[pathology.__name__] = schema | {
            "properties": properties,
            "required": ["kind", *schema.get("required", [])],
        }
    names = [pathology.__name__ for pathology in kinds().values() if pathology is not Combination]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Configuration",
        "type": "object",
        "additionalProperties": False,
        "required": ["pathologies"],
        "properties": {
            "about": {"type": "string"},
            "seed": {"type": "integer", "minimum": 0},
            "pathologies": {
                "type": "array",
                "minItems": 1,
                "items": {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in names]},
            },
        },
        "$defs": parts,
    }
