"""Prompts: what to simulate, said in a sentence; every word of it is understood, or it is refused.

A prompt is cut into the longest phrases that the vocabularies know (``words``), these into clauses at commas, ``and``
and ``with``, and clauses are gathered about the pathologies that they name (``clauses``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from spinesim.errors import ConfigError, first_refusal
from spinesim.pathology.clauses import Clause, gather_clauses
from spinesim.pathology.configuration import Configuration
from spinesim.pathology.library import kinds
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.vocabulary import Said, possible, vocabularies, with_article
from spinesim.pathology.words import Role, read_tokens, say_unknown


@dataclass(frozen=True)
class Understanding:
    """A prompt as it was understood: the configuration, and a line a pathology that also says what was assumed."""

    configuration: Configuration
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        """A name for the folder to write: the kinds with their levels, each once."""
        places = [(each.kind, getattr(each, "apex", each.place)) for each in self.configuration.pathologies]
        named = (f"{kind}-{re.sub('[^A-Za-z0-9_]+', '', place)}".rstrip("-") for kind, place in places)
        return "_".join(dict.fromkeys(named))


def read_prompt(text: str) -> Configuration:
    """Read a prompt, as ``35 degree right thoracic scoliosis, apex T9, with a moderate wedge fracture of L1``.

    Raises
    ------
    ConfigError
        When a word is not understood, when two contradict each other, or when something is missing; naming the words.
    """
    return understand(text).configuration


def understand(text: str) -> Understanding:
    """Read a prompt, and say how it was understood.

    Raises
    ------
    ConfigError
        As ``read_prompt``.
    """
    clauses, whole = _cut(text)
    groups = gather_clauses(clauses)
    if not groups:
        raise ConfigError(f"prompt: expected a pathology ({possible()}), got {text!r}; say what to simulate")
    if whole.get("denied") in {group.kind for group in groups}:
        raise ConfigError(
            f"prompt: expected to be told one thing, got {whole.words['denied']!r} beside it; leave one out"
        )
    made: list[Pathology] = []
    lines: list[str] = []
    try:
        for kind in kinds():
            vocabulary, mine = vocabularies().get(kind), [group.said for group in groups if group.kind == kind]
            if vocabulary is None or vocabulary.make is None or not mine:
                continue
            for pathology, assumed in vocabulary.make(mine, made):
                made.append(pathology)
                lines.append(f"{kind}: {', '.join((_tell(pathology), *(f'assumed: {each}' for each in assumed)))}")
        configuration = Configuration(pathologies=tuple(made), seed=whole.get("seed", 0), about=text)
        _ = configuration.pathology
    except ValidationError as error:
        raise ConfigError(f"prompt: {': '.join(filter(None, first_refusal(error)))}") from error
    if "seed" in whole.slots:
        lines.append(f"seed: {configuration.seed}")
    return Understanding(configuration, tuple(lines))


def _tell(pathology: BaseModel) -> str:
    """What is asked, in a line."""
    told = pathology.model_dump(mode="json", exclude_unset=True)
    return ", ".join(f"{key} {_plain(said)}" for key, said in told.items() if said not in ([], None))


def _plain(said: Any) -> str:
    if isinstance(said, list):
        return " ".join(map(_plain, said))
    if isinstance(said, dict):
        return "@".join(map(_plain, said.values()))
    return f"{said:g}" if isinstance(said, float) else str(said)


def _cut(text: str) -> tuple[list[Clause], Said]:
    """Cut a prompt into clauses of tokens; what is said of the whole is given apart.

    Raises
    ------
    ConfigError
        When there are words that no vocabulary knows, or that ask for what is not simulated, or for nothing.
    """
    tokens = read_tokens(text)
    clauses: list[Clause] = [[]]
    whole = Said()
    for token in tokens:
        if token.role is Role.SEPARATOR:
            clauses.append([])
        elif token.role in (Role.PHRASE, Role.PRONOUN):
            clauses[-1].append(token)
        elif token.role is Role.COMMON:
            slots = token.readings[""]
            whole.take(Said(dict(slots), dict.fromkeys(slots, token.text)), (), "prompt")
    denial = next((token for token in tokens if token.role is Role.DENIAL), None)
    if denial:
        raise ConfigError(
            f"prompt: expected what is to be simulated, got {denial.text!r}; leave out what shall not be there"
        )
    _require_simulated(clauses)
    unknown = [token.text for token in tokens if token.role is Role.UNKNOWN]
    if unknown:
        raise ConfigError(say_unknown(unknown))
    return [clause for clause in clauses if clause], whole


def _require_simulated(clauses: Sequence[Clause]) -> None:
    """Refuse what is understood and cannot be simulated, or not by a prompt.

    Raises
    ------
    ConfigError
        Naming it.
    """
    for token in (token for clause in clauses for token in clause if token.names):
        known = [kind for kind in token.names if kind in kinds()]
        (kind, *_) = known or token.names
        called, made = vocabularies()[kind].called, vocabularies()[kind].make
        if not known:
            raise ConfigError(
                f"prompt: expected what can be simulated ({possible()}), got {token.text!r}; "
                f"{with_article(called)} is not simulated yet"
            )
        if made is None:
            raise ConfigError(
                f"prompt: expected what prompts can ask for ({possible()}), got {token.text!r}; "
                f"ask for {with_article(called)} in a YAML file with --config"
            )
