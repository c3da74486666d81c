"""Prompts: what to simulate, said in a sentence; every word of it is understood, or it is refused.

A prompt is cut into the longest phrases that the vocabularies know, these into clauses (at commas, ``and``, ``with``),
and clauses are gathered about the pathologies that they name.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError

from spinesim.anatomy.levels import Level
from spinesim.errors import ConfigError, first_refusal
from spinesim.pathology import phrases
from spinesim.pathology.configuration import Configuration
from spinesim.pathology.library import kinds
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.vocabulary import Phrase, Said, Vocabulary, phrase, value

FILLERS = Phrase(
    "a|an|the|of|at|in|on|is|are|has|have|having|be|it|its|this|that|which|there|please|simulate|simulated|simulation"
    "|make|create|generate|produce|give|show|add|want|need|i|me|patient|case|ct|scan|spine|spinal|vertebra|vertebrae"
    "|vertebral|body|bodies|levels?|about|approximately|around|affecting|involving|measuring|measured|presenting|located"
)
"""Words that change nothing."""

SEPARATORS = Phrase("and|with|plus|also|as well as|together with|combined with|in combination with|along with")
DENIALS = Phrase("no|not|without|never|none|except|absent|lacking|free of")
PRONOUN = Phrase("(?:an?other )?ones?|another")
COMMON = (
    value("(?:random )?seed(?: of| is| =|:|=|#)? ?<whole>", "seed"),
    phrase("(?:with )?(?:no|without|with no)(?: any)? fractures?", denied="fracture"),
    phrase("(?:with )?(?:no|without|with no)(?: any)? (?:scoliosis|curves?)", denied="scoliosis"),
    phrase("(?:with )?(?:no|without)(?: any)? (?:others?|further|additional)(?: (?:curves?|fractures?|changes?))?"),
    phrase("nothing else|otherwise (?:normal|healthy)(?: spine)?"),
)
"""What may be said of a prompt as a whole."""

PLAIN = str.maketrans({"º": "°", **dict.fromkeys("‐‑‒–—−", "-"), **dict.fromkeys("’‘`´", "'")})
"""Other ways to write the same signs, each one character long, so that places in the prompt stay."""

_SIGN = re.compile(r"[,;:.!?&+](?!\d)|(?<=\s)[-/]+(?=\s)")
_QUIET = re.compile(r"""[\s()"'\[\]]|(?<=[a-z°%])-(?=[a-z])""")
_WORD = re.compile(r"[^\s,;()]+")


@dataclass(frozen=True)
class Understanding:
    """A prompt as it was understood: the configuration, and a line a pathology that also says what was assumed."""

    configuration: Configuration
    lines: tuple[str, ...]

    @property
    def name(self) -> str:
        """A name for the folder to write: the kinds with their levels."""
        places = [
            (each.kind, getattr(each, "level", getattr(each, "apex", ""))) for each in self.configuration.pathologies
        ]
        return "_".join(f"{kind}-{place.replace('/', '')}".rstrip("-") for kind, place in places)


class _Role(Enum):
    """What a piece of a prompt is to its grammar."""

    PHRASE = "phrase"
    PRONOUN = "pronoun"
    COMMON = "common"
    FILLER = "filler"
    SEPARATOR = "separator"
    DENIAL = "denial"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class _Token:
    """A piece of the prompt: what it says in each vocabulary that knows it, and the kinds that it names."""

    role: _Role
    text: str
    readings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


_Clause = list[_Token]


@dataclass
class _Group:
    """Clauses on one pathology."""

    kind: str
    said: Said = field(default_factory=Said)


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
    groups = _gather(clauses)
    if not groups:
        raise ConfigError(f"prompt: expected a pathology ({_possible()}), got {text!r}; say what to simulate")
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


@cache
def vocabularies() -> Mapping[str, Vocabulary]:
    """Find the vocabulary of each kind in the files of the folder ``phrases``."""
    names = [module.name for module in pkgutil.iter_modules(phrases.__path__)]
    found = [importlib.import_module(f"{phrases.__name__}.{name}").VOCABULARY for name in names]
    return {vocabulary.kind: vocabulary for vocabulary in found}


def _tell(pathology: BaseModel) -> str:
    """What is asked, in a line."""
    told = pathology.model_dump(mode="json", exclude_unset=True)
    return ", ".join(f"{key} {_plain(said)}" for key, said in told.items() if said not in ([], None))


def _plain(said: Any) -> str:
    if isinstance(said, list):
        return " ".join(f"{curve['cobb_deg']:g}@{curve['apex']}" for curve in said)
    return f"{said:g}" if isinstance(said, float) else str(said)


def _possible() -> str:
    """The kinds that prompts can ask for."""
    return ", ".join(kind for kind in kinds() if kind in vocabularies() and vocabularies()[kind].make)


# --- words ------------------------------------------------------------------------------------------------------------


def _cut(text: str) -> tuple[list[_Clause], Said]:
    """Cut a prompt into clauses of tokens; what is said of the whole is given apart.

    Raises
    ------
    ConfigError
        When there are words that no vocabulary knows, or that ask for what is not simulated, or for nothing.
    """
    tokens = list(_tokens(text))
    clauses: list[_Clause] = [[]]
    whole = Said()
    for token in tokens:
        if token.role is _Role.SEPARATOR:
            clauses.append([])
        elif token.role in (_Role.PHRASE, _Role.PRONOUN):
            clauses[-1].append(token)
        elif token.role is _Role.COMMON:
            slots = token.readings[""]
            whole.take(Said(dict(slots), dict.fromkeys(slots, token.text)), (), "prompt")
    denial = next((token for token in tokens if token.role is _Role.DENIAL), None)
    if denial:
        raise ConfigError(
            f"prompt: expected what is to be simulated, got {denial.text!r}; leave out what shall not be there"
        )
    _require_simulated(clauses)
    unknown = [token.text for token in tokens if token.role is _Role.UNKNOWN]
    if unknown:
        raise ConfigError(_not_understood(unknown))
    return [clause for clause in clauses if clause], whole


def _tokens(text: str) -> Iterator[_Token]:
    """Read a prompt from left to right, the longest piece that is known at each place."""
    text = " ".join(text.split())
    plain = "".join(sign.lower() if len(sign.lower()) == 1 else sign for sign in text.translate(PLAIN))
    place = 0
    while place < len(plain):
        if quiet := _QUIET.match(plain, place):
            place = quiet.end()
            continue
        if sign := _SIGN.match(plain, place):
            yield _Token(_Role.SEPARATOR, sign[0])
            place = sign.end()
            continue
        found = _longest(plain, place)
        end = max((match.end() for _, _, match in found), default=place)
        if end == place:
            word = _WORD.match(plain, place)
            end = word.end() if word else place + 1
            yield _Token(_Role.UNKNOWN, text[place:end].rstrip(".:!?") or text[place:end])
        elif any(role is _Role.PHRASE for role, _, _ in found):
            known = [(kind, each, match) for _, (kind, each), match in found if kind]
            readings = {kind: each.read(match) for kind, each, match in reversed(known)}
            names = frozenset(kind for kind, each, _ in known if each.names)
            yield _Token(_Role.PHRASE, text[place:end], readings, names)
        else:
            role, (kind, each), match = found[0]
            yield _Token(
                role, text[place : _clause_end(plain, end) if role is _Role.DENIAL else end], {kind: each.read(match)}
            )
        place = end


_Found = tuple[_Role, tuple[str, Phrase], re.Match[str]]


def _longest(plain: str, place: int) -> list[_Found]:
    """Find the longest of all that is known at a place; several where they are of one length."""
    tries = ((role, told, told[1].match(plain, place)) for role, told in _known())
    found = [(role, told, match) for role, told, match in tries if match and match.end() > place]
    end = max((match.end() for _, _, match in found), default=place)
    return [each for each in found if each[2].end() == end]


@cache
def _known() -> Sequence[tuple[_Role, tuple[str, Phrase]]]:
    """All that is known, by its role; phrases with their kind."""
    return [
        *((_Role.PHRASE, told) for told in _phrases()),
        *((_Role.COMMON, ("", each)) for each in COMMON),
        (_Role.PRONOUN, ("", PRONOUN)),
        (_Role.SEPARATOR, ("", SEPARATORS)),
        (_Role.DENIAL, ("", DENIALS)),
        (_Role.FILLER, ("", FILLERS)),
    ]


@cache
def _phrases() -> Sequence[tuple[str, Phrase]]:
    """All phrases with their kinds."""
    return [(kind, each) for kind, vocabulary in vocabularies().items() for each in vocabulary.phrases]


def _clause_end(plain: str, place: int) -> int:
    """Where the words after a place end: at a sign."""
    sign = _SIGN.search(plain, place)
    return sign.start() if sign else len(plain.rstrip())


def _require_simulated(clauses: Sequence[_Clause]) -> None:
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
                f"prompt: expected what can be simulated ({_possible()}), got {token.text!r}; "
                f"{_with_article(called)} is not simulated yet"
            )
        if made is None:
            raise ConfigError(
                f"prompt: expected what prompts can ask for ({_possible()}), got {token.text!r}; "
                f"ask for {_with_article(called)} in a YAML file with --config"
            )


def _with_article(called: str) -> str:
    return called if called.startswith(("spondylo", "skeletal", "scoliosis")) else f"a {called}"


def _not_understood(unknown: Sequence[str]) -> str:
    """A sentence that names the words, and the known word that is nearest to one of them."""
    near = [each for word in unknown for each in _nearest(word)]
    offered = "did you mean {1!r} for {2!r}?".format(*max(near)) if near else ""
    said = " and ".join(map(repr, dict.fromkeys(unknown)))
    remedy = offered or "leave them out or say it otherwise"
    return f"prompt: expected only words that are understood, got {said}; {remedy}"


def _nearest(word: str) -> list[tuple[float, str, str]]:
    """Find the known word that is nearest to one, if any is near: how near it is, it, and the word."""
    words, like = _known_words(), word.lower()
    if re.fullmatch(r"[a-z]{1,2}-?\d+", like):
        words, like = [level.name for level in Level if level.name[0] == word[0].upper()], word.upper()
    found = difflib.get_close_matches(like, words, n=1, cutoff=0.5 if like.isupper() else 0.7)
    return [(difflib.SequenceMatcher(None, like, near).ratio(), near, word) for near in found if near != like]


@cache
def _known_words() -> Sequence[str]:
    """The words of all that is known, and of units."""
    units = {"degrees", "percent", "millimetres", "centimetres", "weeks", "months", "years"}
    return sorted(units.union(*(each.words for _, (_, each) in _known())))


# --- clauses ----------------------------------------------------------------------------------------------------------


def _gather(clauses: Sequence[_Clause]) -> list[_Group]:
    """Gather the clauses about the pathologies that they name.

    A clause that names one begins it; one that names none goes on with the one before, if it can, and else waits for
    the one after it.
    """
    groups: list[_Group] = []
    waiting: list[_Clause] = []
    for clause in clauses:
        kind = _named(clause)
        if kind is None and any(token.role is _Role.PRONOUN for token in clause):
            if not groups:
                raise ConfigError(f"prompt: expected a pathology before {_text(clause)!r}, got none; name it there")
            groups.append(_like(groups[-1], clause))
        elif kind is None and groups and not waiting and all(groups[-1].kind in token.readings for token in clause):
            _go_on(groups, clause)
        elif kind is None:
            waiting.append(clause)
        else:
            mine = _trailing(waiting, kind)
            groups += _implied(waiting[: len(waiting) - mine])
            _begin(groups, kind, [*waiting[len(waiting) - mine :], clause])
            waiting = []
    return groups + _implied(waiting)


def _named(clause: _Clause) -> str | None:
    """The kind that a clause names.

    Raises
    ------
    ConfigError
        When it names two.
    """
    named = {kind: token.text for token in clause for kind in sorted(token.names)}
    whole = [
        kind for kind in named if all(kind in token.readings for token in clause if token.role is not _Role.PRONOUN)
    ]
    if len(named) > 1 and len(whole) != 1:
        raise ConfigError(
            f"prompt: expected one pathology in a clause, got {' and '.join(map(repr, named.values()))} "
            f"in {_text(clause)!r}; part them by a comma or 'and'"
        )
    return next(iter(whole or named), None)


def _begin(groups: list[_Group], kind: str, clauses: Sequence[_Clause]) -> None:
    """Begin a pathology with the clause that names it, and those that waited for it.

    What waited and contradicts it is another one of its kind; one that was named before and left bare takes it in.
    """
    vocabulary = vocabularies()[kind]
    *waited, named = (_said(clause, kind) for clause in clauses)
    for earlier in waited[::-1]:
        if earlier.clash(named, vocabulary.many) is None:
            earlier.take(named, vocabulary.many, vocabulary.called)
            named = earlier
        else:
            groups.append(_Group(kind, earlier))
    last = groups[-1] if groups else None
    bare = last is not None and last.kind == kind and not vocabulary.complete(last.said)
    if last and bare and last.said.clash(named, vocabulary.many) is None:
        last.said.take(named, vocabulary.many, vocabulary.called)
    else:
        groups.append(_Group(kind, named))


def _go_on(groups: list[_Group], clause: _Clause) -> None:
    """Go on with the last pathology, or with another one like it where a place comes with a contradiction."""
    last, said = groups[-1], _said(clause, groups[-1].kind)
    vocabulary = vocabularies()[last.kind]
    if last.said.clash(said, vocabulary.many) is not None and said.slots.keys() & set(vocabulary.place):
        groups.append(_like(last, clause))
    else:
        last.said.take(said, vocabulary.many, vocabulary.called)


def _like(last: _Group, clause: _Clause) -> _Group:
    """Make another pathology of the same kind; what it does not say itself and can inherit, it inherits."""
    said, inherited = _said(clause, last.kind), vocabularies()[last.kind].inherited
    if not said.slots.keys() & set(inherited):
        slots = {slot: last.said.slots[slot] for slot in inherited if slot in last.said.slots}
        said = Said(slots | said.slots, {slot: last.said.words[slot] for slot in slots} | said.words)
    return _Group(last.kind, said)


def _trailing(waiting: Sequence[_Clause], kind: str) -> int:
    """Count the clauses at the end that can be said of a kind."""
    fits = [all(kind in token.readings for token in clause) for clause in waiting]
    return fits[::-1].index(False) if False in fits else len(fits)


def _implied(clauses: Sequence[_Clause]) -> list[_Group]:
    """Find the kind of clauses that name none, by the words that only one kind knows.

    Raises
    ------
    ConfigError
        When there is none, or more than one.
    """
    if not clauses:
        return []
    tokens = [token for clause in clauses for token in clause]
    whole = [kind for kind in vocabularies() if all(kind in token.readings for token in tokens)]
    own = {kind for token in tokens for kind in token.readings if len(token.readings) == 1}
    certain = [kind for kind in whole if kind in own and kind in kinds() and vocabularies()[kind].make]
    if len(certain) != 1:
        said = " and ".join(repr(_text(clause)) for clause in clauses)
        raise ConfigError(f"prompt: expected the name of what {said} belongs to ({_possible()}), got none; add it")
    groups = [_Group(certain[0], _said(clauses[0], certain[0]))]
    for clause in clauses[1:]:
        _go_on(groups, clause)
    return groups


def _said(clause: _Clause, kind: str) -> Said:
    """What a clause says of a kind.

    Raises
    ------
    ConfigError
        When a word of it cannot be said of this kind, or two contradict each other.
    """
    vocabulary, said = vocabularies()[kind], Said()
    strange = [token.text for token in clause if kind not in token.readings and token.role is not _Role.PRONOUN]
    if strange:
        raise ConfigError(
            f"prompt: expected words on {_with_article(vocabulary.called)}, got {' and '.join(map(repr, strange))} "
            f"in {_text(clause)!r}; leave them out or part the clause by a comma"
        )
    for token in clause:
        slots = token.readings.get(kind, {})
        said.take(Said(dict(slots), dict.fromkeys(slots, token.text)), vocabulary.many, vocabulary.called)
    return said


def _text(clause: _Clause) -> str:
    return " ".join(token.text for token in clause)
