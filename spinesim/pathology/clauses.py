"""The clauses of a prompt, gathered about the pathologies that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from spinesim.errors import ConfigError
from spinesim.pathology.library import kinds
from spinesim.pathology.vocabulary import Said, possible, vocabularies, with_article
from spinesim.pathology.words import Role, Token

Clause = list[Token]


@dataclass
class Group:
    """Clauses on one pathology."""

    kind: str
    said: Said = field(default_factory=Said)


def gather_clauses(clauses: Sequence[Clause]) -> list[Group]:
    """Gather the clauses about the pathologies that they name.

    A clause that names one begins it; one that names none goes on with the one before, if it can, and else waits for
    the one after it.
    """
    groups: list[Group] = []
    waiting: list[Clause] = []
    for clause in clauses:
        kind = _named(clause)
        if kind is None and any(token.role is Role.PRONOUN for token in clause):
            if not groups:
                raise ConfigError(f"prompt: expected a pathology before {text_of(clause)!r}, got none; name it there")
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


def _named(clause: Clause) -> str | None:
    """The kind that a clause names.

    Raises
    ------
    ConfigError
        When it names two.
    """
    named = {kind: token.text for token in clause for kind in sorted(token.names)}
    whole = [
        kind for kind in named if all(kind in token.readings for token in clause if token.role is not Role.PRONOUN)
    ]
    if len(named) > 1 and len(whole) != 1:
        raise ConfigError(
            f"prompt: expected one pathology in a clause, got {' and '.join(map(repr, named.values()))} "
            f"in {text_of(clause)!r}; part them by a comma or 'and'"
        )
    return next(iter(whole or named), None)


def _begin(groups: list[Group], kind: str, clauses: Sequence[Clause]) -> None:
    """Begin a pathology with the clause that names it, and those that waited for it.

    What waited and contradicts it is another one of its kind; one that was named before and left bare takes it in.
    """
    vocabulary = vocabularies()[kind]
    *waited, named = (_said(clause, kind) for clause in clauses)
    for earlier in waited[::-1]:
        if earlier.clash(named, vocabulary.many) or vocabulary.are_two(earlier, named):
            groups.append(Group(kind, earlier))
        else:
            earlier.take(named, vocabulary.many, vocabulary.called)
            named = earlier
    last = groups[-1] if groups else None
    bare = last is not None and last.kind == kind and not vocabulary.complete(last.said)
    if last and bare and last.said.clash(named, vocabulary.many) is None:
        last.said.take(named, vocabulary.many, vocabulary.called)
    else:
        groups.append(Group(kind, named))


def _go_on(groups: list[Group], clause: Clause) -> None:
    """Go on with the last pathology, or with another one like it where a place comes with a contradiction."""
    last, said = groups[-1], _said(clause, groups[-1].kind)
    vocabulary = vocabularies()[last.kind]
    if vocabulary.are_two(last.said, said):
        groups.append(_like(last, clause))
    else:
        last.said.take(said, vocabulary.many, vocabulary.called)


def _like(last: Group, clause: Clause) -> Group:
    """Make another pathology of the same kind; what it does not say itself and can inherit, it inherits."""
    said, inherited = _said(clause, last.kind), vocabularies()[last.kind].inherited
    if not said.slots.keys() & set(inherited):
        slots = {slot: last.said.slots[slot] for slot in inherited if slot in last.said.slots}
        said = Said(slots | said.slots, {slot: last.said.words[slot] for slot in slots} | said.words)
    return Group(last.kind, said)


def _trailing(waiting: Sequence[Clause], kind: str) -> int:
    """Count the clauses at the end that can be said of a kind."""
    fits = [all(kind in token.readings for token in clause) for clause in waiting]
    return fits[::-1].index(False) if False in fits else len(fits)


def _implied(clauses: Sequence[Clause]) -> list[Group]:
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
        said = " and ".join(repr(text_of(clause)) for clause in clauses)
        raise ConfigError(f"prompt: expected the name of what {said} belongs to ({possible()}), got none; add it")
    groups = [Group(certain[0], _said(clauses[0], certain[0]))]
    for clause in clauses[1:]:
        _go_on(groups, clause)
    return groups


def _said(clause: Clause, kind: str) -> Said:
    """What a clause says of a kind.

    Raises
    ------
    ConfigError
        When a word of it cannot be said of this kind, or two contradict each other.
    """
    vocabulary, said = vocabularies()[kind], Said()
    strange = [token.text for token in clause if kind not in token.readings and token.role is not Role.PRONOUN]
    if strange:
        raise ConfigError(
            f"prompt: expected words on {with_article(vocabulary.called)}, got {' and '.join(map(repr, strange))} "
            f"in {text_of(clause)!r}; leave them out or part the clause by a comma"
        )
    for token in clause:
        slots = token.readings.get(kind, {})
        said.take(Said(dict(slots), dict.fromkeys(slots, token.text)), vocabulary.many, vocabulary.called)
    return said


def text_of(clause: Clause) -> str:
    """Give the words of a clause, without those that change nothing."""
    return " ".join(token.text for token in clause)
