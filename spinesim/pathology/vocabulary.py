"""Vocabularies: which words of a prompt say what of one kind of pathology."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from spinesim.errors import ConfigError
from spinesim.pathology import phrases
from spinesim.pathology.library import kinds
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.quantities import QUANTITIES

_PLACEHOLDER = re.compile(r"<(\w+)>")
_GAP = r"(?:\s+|-)"
_FIRST, _LAST = r"(?<![a-z0-9.])", r"(?:(?<![a-z0-9])|(?![a-z0-9]))"


@dataclass(frozen=True)
class Phrase:
    """Words, and what they say.

    Parameters
    ----------
    pattern : str
        Regular expression of lower-case text; a blank is any gap, ``<angle>`` a quantity. Of alternatives that
        begin alike the longer one is written first.
    says : mapping or callable
        Values by slot; a callable is given the quantities. The phrase is harmless when there are none.
    names : bool
        Whether it is a name of the pathology: with it another one begins.
    """

    pattern: str
    says: Mapping[str, Any] | Callable[..., Mapping[str, Any]] = field(default_factory=dict)
    names: bool = False

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        pieces = _PLACEHOLDER.split(self.pattern)
        for place in range(0, len(pieces), 2):
            pieces[place] = pieces[place].replace(" ", _GAP)
        for place in range(1, len(pieces), 2):
            pieces[place] = f"(?P<q{place}>{QUANTITIES[pieces[place]].pattern})"
        return re.compile(f"{_FIRST}(?:{''.join(pieces)}){_LAST}")

    def match(self, text: str, start: int) -> re.Match[str] | None:
        """Find the phrase at a place of a text."""
        return self._compiled.match(text, start)

    def read(self, found: re.Match[str]) -> Mapping[str, Any]:
        """Say what was found, by slot."""
        kinds = _PLACEHOLDER.findall(self.pattern)
        said = [found[f"q{2 * rank + 1}"] for rank in range(len(kinds))]
        values = [QUANTITIES[kind].read(text) for kind, text in zip(kinds, said, strict=True) if text is not None]
        return self.says(*values) if callable(self.says) else self.says

    @property
    def words(self) -> set[str]:
        """The words in it, to offer the nearest one."""
        return set(re.findall(r"[a-z]{4,}(?!\(\?:[a-z]|[a-z\[])", _PLACEHOLDER.sub(" ", self.pattern)))


def phrase(pattern: str, **says: Any) -> Phrase:
    """Make a phrase that says the same always, as ``phrase("mild", genant_grade=1)``."""
    return Phrase(pattern, says)


def value(pattern: str, slot: str) -> Phrase:
    """Make a phrase that says its one quantity, as ``value("<percent> loss", "loss_percent")``."""
    return Phrase(pattern, lambda quantity: {slot: quantity})


def name(pattern: str, **says: Any) -> Phrase:
    """Make a name of a pathology; it may say something besides, as ``name("dextroscoliosis", direction="right")``."""
    return Phrase(pattern, says, names=True)


@dataclass
class Said:
    """What is said of one pathology: values by slot, and the words that said them."""

    slots: dict[str, Any] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)

    def get(self, slot: str, otherwise: Any = None) -> Any:
        """Give what is said in a slot."""
        return self.slots.get(slot, otherwise)

    def clash(self, other: Said, many: Sequence[str]) -> str | None:
        """Find a slot in which another says something else; those of ``many`` take all that is said."""
        both = (slot for slot in other.slots if slot in self.slots and slot not in many)
        return next((slot for slot in both if self.slots[slot] != other.slots[slot]), None)

    def take(self, other: Said, many: Sequence[str], what: str) -> None:
        """Take in what another says.

        Raises
        ------
        ConfigError
            When the two contradict each other.
        """
        slot = self.clash(other, many)
        if slot is not None:
            raise ConfigError(
                f"prompt: expected one word on the same thing, got {self.words[slot]!r} and {other.words[slot]!r} "
                f"of one {what}; leave one out"
            )
        for slot, more in other.slots.items():
            self.slots[slot] = (*self.slots.get(slot, ()), *more) if slot in many else more
            self.words.setdefault(slot, other.words[slot])


Made = tuple[Pathology, tuple[str, ...]]
"""A pathology, and what was assumed for it."""


@dataclass(frozen=True)
class Vocabulary:
    """The words on one kind of pathology.

    Parameters
    ----------
    kind : str
        As in configurations.
    called : str
        What it is called in a sentence.
    phrases : tuple of Phrase
        All there is to say of it; of two that fit, the longer one counts.
    make : callable, optional
        From all that is said of this kind, and the pathologies before it, to pathologies with what was assumed.
        Without it the words are known, and refused as long as prompts cannot ask for them.
    complete : callable
        Whether enough is said for one pathology; more names then begin another.
    many : tuple of str
        Slots that hold tuples and take all that is said (levels).
    place : tuple of str
        Slots that tell two of one kind apart: with them, a contradiction means another one.
    inherited : tuple of str
        Slots that "another one" takes over.
    """

    kind: str
    called: str
    phrases: tuple[Phrase, ...]
    make: Callable[[Sequence[Said], Sequence[Pathology]], Iterator[Made]] | None = None
    complete: Callable[[Said], bool] = lambda said: True
    many: tuple[str, ...] = ()
    place: tuple[str, ...] = ()
    inherited: tuple[str, ...] = ()

    def are_two(self, one: Said, other: Said) -> bool:
        """Whether two clauses are on two pathologies: each has a place of its own, and says something else of it."""
        clash = one.clash(other, self.many) is not None
        own = [said.slots.keys() & set(self.place) and said.slots.keys() - set(self.place) for said in (one, other)]
        further = set(self.many) & set(self.place) & one.slots.keys() & other.slots.keys()
        return bool(clash and other.slots.keys() & set(self.place)) or bool(further and all(own))


@cache
def vocabularies() -> Mapping[str, Vocabulary]:
    """Find the vocabulary of each kind in the files of the folder ``phrases``."""
    found = [
        importlib.import_module(f"{phrases.__name__}.{module.name}").VOCABULARY
        for module in pkgutil.iter_modules(phrases.__path__)
    ]
    return {vocabulary.kind: vocabulary for vocabulary in found}


def possible() -> str:
    """The kinds that prompts can ask for."""
    return ", ".join(kind for kind in kinds() if kind in vocabularies() and vocabularies()[kind].make)


def with_article(called: str) -> str:
    """Put an article before what a pathology is called, where it takes one."""
    return called if called.startswith(("spondylo", "skeletal", "scoliosis")) else f"a {called}"
