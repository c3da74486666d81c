"""The words on degenerated discs: grade, height, gas, sclerosis and osteophytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinesim.errors import ConfigError
from spinesim.pathology.disc import OSTEOPHYTE_MM_OF, SCLEROSIS_HU_OF, DiscDegeneration
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.quantities import GRADES
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value

_LOSS = "loss of (?:disc )?height|(?:(?:disc )?height )?(?:loss|reduction)"
_SPURS = "(?:osteophytes?|spurs?)"
_SCLEROSIS = "(?:end ?plate )?sclerosis"

OSTEOPHYTE_MM, SCLEROSIS_HU = OSTEOPHYTE_MM_OF[4], SCLEROSIS_HU_OF[4]
"""Of what is asked for without a size at a grade that usually comes without it (assumed)."""


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make one degeneration of the discs of each clause."""
    for one in said:
        if "discs" not in one.slots:
            raise ConfigError("prompt: expected the disc of each degeneration, got none of one; say it, as 'L4/L5'")
        parameters = {slot: one.slots[slot] for slot in DiscDegeneration.model_fields if slot in one.slots}
        grade = parameters.get("pfirrmann_grade", DiscDegeneration.model_fields["pfirrmann_grade"].default)
        assumed = () if "pfirrmann_grade" in one.slots else (f"Pfirrmann {grade}",)
        if one.get("spurred") and not parameters.get("osteophyte_mm", OSTEOPHYTE_MM_OF.get(grade)):
            parameters["osteophyte_mm"] = OSTEOPHYTE_MM
            assumed = (*assumed, f"osteophytes of {OSTEOPHYTE_MM:g} mm")
        if one.get("sclerotic") and not parameters.get("sclerosis_hu", SCLEROSIS_HU_OF.get(grade)):
            parameters["sclerosis_hu"] = SCLEROSIS_HU
            assumed = (*assumed, f"sclerosis of {SCLEROSIS_HU:g} HU")
        yield DiscDegeneration(**parameters), assumed


VOCABULARY = Vocabulary(
    kind="disc",
    called="degenerated disc",
    phrases=(
        name("dis[ck] degeneration|degenerat(?:ion|ed)(?: dis[ck]s?)?|degenerative dis[ck]s?(?: disease)?"),
        name("spondylosis|osteochondrosis"),
        *(phrase(f"(?:pfirrmann )?grade {said}|pfirrmann {said}", pfirrmann_grade=n) for said, n in GRADES.items()),
        phrase("pfirrmann|dis[ck]s?"),
        phrase("collapsed(?: dis[ck]s?)?", pfirrmann_grade=5),
        Phrase("<disc>|<pair>", lambda pair: {"discs": ("/".join(pair),)}),
        value(f"<percent>(?: (?:of )?(?:{_LOSS}))?", "loss_percent"),
        value(f"(?:a )?(?:{_LOSS})(?: of| by|:)? <percent>", "loss_percent"),
        phrase("(?:full |complete )?(?:vacuum|gas)(?: phenomenon)?", vacuum="full"),
        phrase("partial (?:vacuum|gas)(?: phenomenon)?", vacuum="partial"),
        phrase("(?:no|without|with no)(?: any)? (?:vacuum|gas)(?: phenomenon)?", vacuum="none"),
        value(f"<length>(?: of)? {_SPURS}|{_SPURS}(?: of)? <length>", "osteophyte_mm"),
        phrase(f"(?:no|without|with no)(?: any)? {_SPURS}", osteophyte_mm=0.0, spurred=False),
        Phrase(f"<side>(?: sided)? {_SPURS}|{_SPURS} on the <side>",
               lambda side: {"osteophyte_sides": (side,), "spurred": True}),
        Phrase(f"<length>(?: of)? {_SPURS} on the <side>",
               lambda length, side: {"osteophyte_mm": length, "osteophyte_sides": (side,)}),
        phrase(f"anterior {_SPURS}", osteophyte_sides=("anterior",), spurred=True),
        phrase(_SPURS, spurred=True),
        phrase(f"bridging(?: {_SPURS})?|{_SPURS} that bridge", bridging=True, spurred=True),
        value(f"{_SCLEROSIS}(?: of)? <number> hu|<number> hu(?: of)? {_SCLEROSIS}", "sclerosis_hu"),
        phrase(f"{_SCLEROSIS}|sclerotic end ?plates?", sclerotic=True),
        phrase(f"(?:no|without|with no)(?: any)? {_SCLEROSIS}", sclerosis_hu=0.0, sclerotic=False),
        Phrase("wedged(?: open)?(?: by)? <angle> to the <side>",
               lambda angle, side: {"wedge_deg": angle if side == "right" else -angle}),
    ),
    make=_make,
    complete=lambda said: "discs" in said.slots,
    many=("discs", "osteophyte_sides"),
    place=("discs",),
)  # fmt: skip
