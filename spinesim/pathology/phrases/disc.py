"""The words on degenerated discs: grade, height, gas, sclerosis and osteophytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinesim.errors import ConfigError
from spinesim.pathology.disc import DiscDegeneration
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value

_GRADES = {"3": 3, "4": 4, "5": 5, "iii": 3, "iv": 4, "v": 5, "three": 3, "four": 4, "five": 5}
_LOSS = "loss of (?:disc )?height|(?:(?:disc )?height )?(?:loss|reduction)"


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make one degeneration of the discs of each clause."""
    for one in said:
        if "discs" not in one.slots:
            raise ConfigError("prompt: expected the disc of each degeneration, got none of one; say it, as 'L4/L5'")
        parameters = {slot: one.slots[slot] for slot in DiscDegeneration.model_fields if slot in one.slots}
        degeneration = DiscDegeneration(**parameters)
        assumed = () if "pfirrmann_grade" in one.slots else (f"Pfirrmann {degeneration.pfirrmann_grade}",)
        yield degeneration, assumed


VOCABULARY = Vocabulary(
    kind="disc",
    called="degenerated disc",
    phrases=(
        name("dis[ck] degeneration|degenerat(?:ion|ed)(?: dis[ck]s?)?|degenerative dis[ck]s?(?: disease)?"),
        name("spondylosis|osteochondrosis"),
        *(phrase(f"(?:pfirrmann )?grade {said}|pfirrmann {said}", pfirrmann_grade=n) for said, n in _GRADES.items()),
        phrase("pfirrmann|dis[ck]s?"),
        phrase("collapsed(?: dis[ck]s?)?", pfirrmann_grade=5),
        Phrase("<disc>|<pair>", lambda pair: {"discs": ("/".join(pair),)}),
        value(f"<percent>(?: (?:of )?(?:{_LOSS}))?", "loss_percent"),
        value(f"(?:a )?(?:{_LOSS})(?: of| by|:)? <percent>", "loss_percent"),
        phrase("(?:full |complete )?(?:vacuum|gas)(?: phenomenon)?", vacuum="full"),
        phrase("partial (?:vacuum|gas)(?: phenomenon)?", vacuum="partial"),
        phrase("(?:no|without|with no)(?: any)? (?:vacuum|gas)(?: phenomenon)?", vacuum="none"),
        value("<length>(?: of)? (?:osteophytes?|spurs?)|(?:osteophytes?|spurs?)(?: of)? <length>", "osteophyte_mm"),
        phrase("(?:no|without|with no)(?: any)? (?:osteophytes?|spurs?)", osteophyte_mm=0.0),
        Phrase("<side>(?: sided)? (?:osteophytes?|spurs?)", lambda side: {"osteophyte_sides": (side,)}),
        phrase("anterior (?:osteophytes?|spurs?)", osteophyte_sides=("anterior",)),
        phrase("osteophytes?|spurs?"),
        phrase("bridging(?: (?:osteophytes?|spurs?))?|(?:osteophytes?|spurs?) that bridge", bridging=True),
        Phrase("wedged(?: open)?(?: by)? <angle> to the <side>",
               lambda angle, side: {"wedge_deg": angle if side == "right" else -angle}),
    ),
    make=_make,
    complete=lambda said: "discs" in said.slots,
    many=("discs", "osteophyte_sides"),
    place=("discs",),
)  # fmt: skip
