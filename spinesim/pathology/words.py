"""The words of a prompt, cut from left to right into the longest pieces that are known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

from spinesim.anatomy.levels import Level
from spinesim.pathology.vocabulary import Phrase, phrase, value, vocabularies

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


class Role(Enum):
    """What a piece of a prompt is to its grammar."""

    PHRASE = "phrase"
    PRONOUN = "pronoun"
    COMMON = "common"
    FILLER = "filler"
    SEPARATOR = "separator"
    DENIAL = "denial"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Token:
    """A piece of the prompt: what it says in each vocabulary that knows it, and the kinds that it names."""

    role: Role
    text: str
    readings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()


def read_tokens(text: str) -> list[Token]:
    """Cut a prompt into pieces, by the words of the kinds that it names; where those are not enough, by all words."""
    tokens = list(_read(text, frozenset(vocabularies())))
    named = frozenset[str]().union(*(token.names for token in tokens))
    narrow = list(_read(text, named))
    return tokens if not named or any(token.role is Role.UNKNOWN for token in narrow) else narrow


def _read(text: str, kinds: frozenset[str]) -> Iterator[Token]:
    """Read a prompt from left to right, the longest piece at each place that is known of some kinds."""
    text = " ".join(text.split())
    plain = "".join(sign.lower() if len(sign.lower()) == 1 else sign for sign in text.translate(PLAIN))
    place = 0
    while place < len(plain):
        if quiet := _QUIET.match(plain, place):
            place = quiet.end()
            continue
        if sign := _SIGN.match(plain, place):
            yield Token(Role.SEPARATOR, sign[0])
            place = sign.end()
            continue
        found = _longest(plain, place, kinds)
        end = max((match.end() for _, _, match in found), default=place)
        if end == place:
            word = _WORD.match(plain, place)
            end = word.end() if word else place + 1
            yield Token(Role.UNKNOWN, text[place:end].rstrip(".:!?") or text[place:end])
        elif any(role is Role.PHRASE for role, _, _ in found):
            known = [(kind, each, match) for _, (kind, each), match in found if kind]
            readings = {kind: each.read(match) for kind, each, match in reversed(known)}
            names = frozenset(kind for kind, each, _ in known if each.names)
            yield Token(Role.PHRASE, text[place:end], readings, names)
        else:
            role, (kind, each), match = found[0]
            yield Token(
                role, text[place : _clause_end(plain, end) if role is Role.DENIAL else end], {kind: each.read(match)}
            )
        place = end


_Found = tuple[Role, tuple[str, Phrase], re.Match[str]]


def _longest(plain: str, place: int, kinds: frozenset[str]) -> list[_Found]:
    """Find the longest of all that is known at a place; several where they are of one length."""
    tries = ((role, told, told[1].match(plain, place)) for role, told in _known(kinds))
    found = [(role, told, match) for role, told, match in tries if match and match.end() > place]
    end = max((match.end() for _, _, match in found), default=place)
    return [each for each in found if each[2].end() == end]


@cache
def _known(kinds: frozenset[str]) -> Sequence[tuple[Role, tuple[str, Phrase]]]:
    """All that is known, by its role; phrases of some kinds, with their kind."""
    return [
        *((Role.PHRASE, told) for told in _phrases() if told[0] in kinds),
        *((Role.COMMON, ("", each)) for each in COMMON),
        (Role.PRONOUN, ("", PRONOUN)),
        (Role.SEPARATOR, ("", SEPARATORS)),
        (Role.DENIAL, ("", DENIALS)),
        (Role.FILLER, ("", FILLERS)),
    ]


@cache
def _phrases() -> Sequence[tuple[str, Phrase]]:
    """All phrases with their kinds."""
    return [(kind, each) for kind, vocabulary in vocabularies().items() for each in vocabulary.phrases]


def _clause_end(plain: str, place: int) -> int:
    """Where the words after a place end: at a sign."""
    sign = _SIGN.search(plain, place)
    return sign.start() if sign else len(plain.rstrip())


def say_unknown(unknown: Sequence[str]) -> str:
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
    return sorted(units.union(*(each.words for _, (_, each) in _known(frozenset(vocabularies())))))
