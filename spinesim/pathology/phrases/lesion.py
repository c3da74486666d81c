"""The words on lesions: a growth inside a labelled structure, its size, place, matter and law."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from spinesim.errors import ConfigError
from spinesim.pathology.lesion import DAYS_A_MONTH, Lesion
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value

LOBES = ("left upper", "left lower", "right upper", "right middle", "right lower")
ORGANS = ("liver", "spleen", "pancreas", "stomach", "sternum", "left kidney", "right kidney", "left hip", "right hip")


COUNTS = ("two", "three", "four", "five", "six", "seven", "eight")
"""Words for how many, from two on."""


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make a lesion of each clause, or as many as it says."""
    _require_clear_counts(said)
    for one in said:
        slots = {slot: told for slot, told in one.slots.items() if slot not in ("named", "count")}
        if "structure" not in slots:
            raise ConfigError("prompt: expected what each lesion is in, got none of one; say it, as 'in L3' or 'liver'")
        if not slots.keys() & {"diameter_mm", "volume_ml"}:
            raise ConfigError("prompt: expected the size of each lesion, got none of one; say '15 mm' or '2 ml'")
        if "doubling_months" in slots:
            slots["doubling_days"] = round(slots.pop("doubling_months") * DAYS_A_MONTH, 1)
        lesion = Lesion(**slots)
        assumed = (f"{lesion.matter}",) if lesion.type is None else ()
        if lesion.over_months and lesion.doubling_days is None:
            assumed = (*assumed, f"volume doubles in {lesion.doubling:g} days")
        yield from [(lesion, assumed)] * one.get("count", 1)


def _require_clear_counts(said: Sequence[Said]) -> None:
    """Refuse a number that may be of one structure, or of all that follow.

    Raises
    ------
    ConfigError
        Naming it.
    """
    for one, after in pairwise(said):
        if "count" in one.slots and not after.slots.keys() & {"named", "count"}:
            raise ConfigError(
                f"prompt: expected how many lesions each structure has, got {one.words['count']!r} of more than one; "
                "leave it out, or say it of each, as 'two lesions in L2 of 8 mm and one lesion in L3 of 10 mm'"
            )


def _in_lobe(lobe: str) -> Phrase:
    side, height = lobe.split()
    return phrase(f"{lobe} lobe(?: of the lung)?", structure=f"lung_{height}_lobe_{side}")


def _in_organ(organ: str) -> Phrase:
    *side, named = organ.split()
    return phrase(organ, structure="_".join((named, *side)))


VOCABULARY = Vocabulary(
    kind="lesion",
    called="lesion",
    phrases=(
        name(
            "lesions?|growths?|mass(?:es)?|nodules?|tumou?rs?|metastas[ie]s|met|mets|neoplasms?|myeloma|cysts?",
            named=True,
        ),
        *(phrase(f"{word}|{number}", count=number) for number, word in enumerate(COUNTS, start=2)),
        value("<length>(?: (?:in )?(?:diameter|wide|large|across))?", "diameter_mm"),
        value("<volume>(?: (?:in )?volume)?", "volume_ml"),
        value("<duration> (?:growth(?: pattern| law)?|history|follow up)", "over_months"),
        value("(?:volume )?doubling(?: time)?(?: of| in)?(?: in)? <duration>", "doubling_months"),
        value("(?:over|after|within) <duration>", "over_months"),
        *map(_in_lobe, LOBES),
        *map(_in_organ, ORGANS),
        value("<level>", "structure"),
        Phrase("(?:on the )?<side>(?: (?:side|half))?", lambda side: {"side": side}),
        *(
            phrase(f"{way}(?:ly)?(?: part| third)?", position=way)
            for way in ("anterior", "posterior", "central", "superior", "inferior")
        ),
        phrase("(?:osteo)?lytic", type="lytic"),
        phrase("sclerotic|(?:osteo)?blastic", type="sclerotic"),
        phrase("mixed(?: lytic sclerotic)?", type="mixed"),
        phrase("solid", type="solid"),
        phrase("part solid|subsolid", type="part-solid"),
        phrase("spiculated", spiculation=0.7),
        phrase("irregular", irregularity=0.7),
        phrase("smooth|round", irregularity=0.0),
        phrase("expansile|expanding", expansion=0.4),
        phrase("(?:with )?(?:a )?(?:cortical breach|breach of the cortex)|breaching the cortex", breach=True),
        phrase("exponential(?:ly)?(?: growth)?", law="exponential"),
        phrase("gompertz(?: growth)?", law="gompertz"),
        phrase("power law(?: growth)?", law="power"),
        phrase("growth (?:pattern|law)"),
    ),
    make=_make,
    complete=lambda said: "structure" in said.slots,
    place=("structure",),
    inherited=("type",),
)
