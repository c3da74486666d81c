"""The words on vertebral fractures: type, size, place in the body, age and what is displaced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spinesim.errors import ConfigError
from spinesim.pathology.fracture import Fracture
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.quantities import GRADES, levels_from
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value

OLD_MONTHS, HEALED_MONTHS, SUBACUTE_MONTHS = 6.0, 12.0, 1.0
"""Ages of which only a word is said (assumed; impacted bone remodels in 3 to 6 months)."""

RETROPULSION_MM, STEP_MM = 3.0, 2.0
"""Of a fragment of which no size is said: as in AO A3, and the middle of 1 to 4 mm (both assumed)."""

APEX = "apex"
"""Stands for the level at which the scoliosis of the same prompt has its apex."""


def _levels(*levels: Any) -> Mapping[str, Any]:
    upper_lower = levels[0] if isinstance(levels[0], tuple) else levels
    return {"level": levels_from(*upper_lower) if len(upper_lower) == 2 else upper_lower}


_GRADES = {said: grade for said, grade in GRADES.items() if grade <= 3}
_LOST = "loss of(?: vertebral| anterior)? height|(?:(?:anterior|vertebral) )?(?:height )?(?:loss|reduction)|collapse"
_NAMES = (name("fractures?|fractured|fx|vcf"), name("broken"))
_TYPE = (
    phrase("wedge(?:d|s)?(?: shaped)?|(?:anterior )wedg(?:e|ing)", type="wedge"),
    phrase("anterior compression", type="wedge", position="anterior"),
    phrase("biconcave|codfish|fish", type="biconcave"),
    phrase("crush(?:ed)?", type="crush"),
    phrase("compression|compressed|osteoporotic|traumatic|fragility|insufficiency|type|ao"),
    phrase("incomplete burst", ao="A3"),
    phrase("complete burst", ao="A4"),
    phrase("burst(?:ing)?", burst=True),
    phrase("split|pincer", ao="A2"),
    *(phrase(f"(?:ao )?(?:type )?a{n}", ao=f"A{n}") for n in (1, 2, 3, 4)),
)
_SIZE = (
    *(phrase(f"(?:genant )?(?:grade|type|genant):? {said}", genant_grade=n) for said, n in _GRADES.items()),
    *(phrase(f"genant(?:'s)? {said}", genant_grade=n) for said, n in _GRADES.items()),
    phrase("mild|slight", genant_grade=1),
    phrase("moderate", genant_grade=2),
    phrase("severe", genant_grade=3),
    phrase("genant"),
    value(f"<percent>(?: (?:of )?(?:{_LOST}|compression|collapsed|compressed))?", "loss_percent"),
    value(f"(?:a )?(?:{_LOST}|compression)(?: of| by|:)? <percent>", "loss_percent"),
    value("height (?:is )?(?:reduced|lowered|lost) by <percent>", "loss_percent"),
    value("(?:that |which )?(?:has )?lost <percent>(?: of (?:its|the))?(?: anterior| vertebral)?(?: height)?",
          "loss_percent"),
)  # fmt: skip
_PLACE = (
    Phrase("<level>", _levels),
    Phrase("<level> (?:vertebra|body|vertebral body)", _levels),
    Phrase("(?:from |between )?(?:<range>|<pair>)", _levels),
    phrase("(?:(?:at|of|in) )?(?:the )?(?:apex|apical vertebra)(?: of (?:the|a) (?:curve|scoliosis))?", level=(APEX,)),
    phrase("anterior(?:ly)?|front|in front", position="anterior"),
    phrase("central(?:ly)?", position="central"),
    Phrase("<side>(?: sided| lateral(?:ly)?| side)?", lambda side: {"position": side}),
    phrase("(?:superior|upper) end ?plates?(?: only)?", plates="superior"),
    phrase("(?:inferior|lower) end ?plates?(?: only)?", plates="inferior"),
    phrase("(?:both|(?:superior|upper) and (?:inferior|lower)) end ?plates?", plates="both"),
)
_DISPLACED = (
    value("<length>(?: of)? (?:retropulsion|retropulsed(?: fragment)?)", "retropulsion_mm"),
    value("(?:retropulsion|retropulsed(?: fragment)?)(?: of| by|:)? <length>", "retropulsion_mm"),
    phrase("retropulsion|retropulsed(?: fragment)?", retropulsed=True),
    phrase("(?:no|without|with no)(?: any)? retropulsion", retropulsion_mm=0.0),
    value("<length>(?: of)?(?: cortical| corner)? step", "cortical_step_mm"),
    value("(?:cortical |corner )?step(?: off)?(?: of| by|:)? <length>", "cortical_step_mm"),
    phrase("cortical step(?: off)?", stepped=True),
    phrase("(?:no|without|with no)(?: a| any)?(?: cortical)? step", cortical_step_mm=0.0),
    value("<length>(?: of)?(?: wide)? split", "split_mm"),
    value("split(?: of| by|:)? <length>", "split_mm"),
    phrase("(?:filled )?(?:with )?fluid(?: filled)? cleft|cleft (?:filled )?(?:with|of) fluid", cleft="fluid"),
    phrase("(?:gas|vacuum|air)(?: filled)? cleft|cleft (?:filled )?(?:with|of) (?:gas|air)", cleft="gas"),
    phrase("(?:no|without|with no)(?: a| any)? cleft", cleft="none"),
)
_AGE = (
    phrase("fresh|acute|new|recent", age_months=0.0),
    phrase("subacute", age_months=SUBACUTE_MONTHS, age_word="subacute"),
    phrase("old|chronic", age_months=OLD_MONTHS, age_word="old"),
    phrase("healed|remodell?ed|consolidated", age_months=HEALED_MONTHS, age_word="healed"),
    value("(?:which is |that is |aged )?<duration>(?: old)?", "age_months"),
    value("(?:age|age of) <duration>", "age_months"),
    value("<duration> (?:after|ago|later)(?: (?:the )?(?:injury|fall|trauma))?", "age_months"),
)
_MORE = (
    Phrase("<percent> compensat(?:ion|ed)", lambda percent: {"compensation": percent / 100}),
    Phrase("compensation(?: of|:)? <percent>", lambda percent: {"compensation": percent / 100}),
    value("compensation(?: of|:)? <number>", "compensation"),
    *(phrase(said, count=n) for said, n in (("single", 1), ("two", 2), ("three", 3), ("four", 4), ("five", 5))),
    value("<whole>", "count"),
    phrase("both", count=2),
    phrase("all|each", all=True),
    phrase("multiple|several"),
)  # fmt: skip

PARAMETERS = tuple(slot for slot in Fracture.model_fields if slot != "level")


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make a fracture of each level that is said."""
    for one in said:
        levels = tuple(_at_apex(before) if level == APEX else level for level in one.get("level", ()))
        if not levels:
            raise ConfigError("prompt: expected a level of each fracture, got none of one; say it, as 'fracture of L1'")
        if one.get("count", len(levels)) != len(levels):
            raise ConfigError(
                f"prompt: expected {one.words['count']} levels, got {', '.join(levels)}; name each of them"
            )
        if one.get("all") and len(said) > 1:
            raise ConfigError(
                f"prompt: expected {one.words['all']!r} of fractures that are said together, got {len(said)} clauses; "
                "say it of each of them"
            )
        parameters, assumed = _parameters(one)
        for level in levels:
            yield Fracture(level=level, **parameters), assumed


def _parameters(said: Said) -> tuple[dict[str, Any], tuple[str, ...]]:
    """All parameters but the level, and what was assumed for them."""
    given = {slot: said.slots[slot] for slot in PARAMETERS if slot in said.slots}
    assumed = []
    if said.get("burst"):
        if given.setdefault("ao", "A3") not in ("A3", "A4"):
            raise ConfigError(
                f"prompt: expected a burst fracture as A3 or A4, got {given['ao']}; leave one of them out"
            )
        if "ao" not in said.slots:
            assumed.append("burst taken as AO A3")
    if "age_word" in said.slots:
        assumed.append(f"{said.words['age_word']} taken as {given['age_months']:g} months")
    if said.get("retropulsed") and "retropulsion_mm" not in given and given.get("ao") not in ("A3", "A4"):
        given["retropulsion_mm"] = RETROPULSION_MM
        assumed.append(f"retropulsion of {RETROPULSION_MM:g} mm")
    if said.get("stepped") and "cortical_step_mm" not in given:
        given["cortical_step_mm"] = STEP_MM
        assumed.append(f"cortical step of {STEP_MM:g} mm")
    if "loss_percent" not in given and "genant_grade" not in given:
        raise ConfigError(
            "prompt: expected the size of each fracture, got none of one; say mild, moderate, severe, or '30 % loss'"
        )
    return given, tuple(assumed)


def _at_apex(before: Sequence[Pathology]) -> str:
    """Level of the apex of the scoliosis before it.

    Raises
    ------
    ConfigError
        When there is no scoliosis, or its apex is a disc.
    """
    apex = next((str(getattr(pathology, "apex", "")) for pathology in before), "")
    if not apex or "/" in apex:
        raise ConfigError(
            f"prompt: expected a vertebra as the apex to fracture, got {apex or 'no scoliosis'}; name its level"
        )
    return apex


VOCABULARY = Vocabulary(
    kind="fracture",
    called="fracture",
    phrases=(*_NAMES, *_TYPE, *_SIZE, *_PLACE, *_DISPLACED, *_AGE, *_MORE),
    make=_make,
    complete=lambda said: "level" in said.slots,
    many=("level",),
    place=("level",),
    inherited=("type", "ao", "burst"),
)
