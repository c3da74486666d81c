"""The words on lesions: a growth inside a labelled structure, its size, place, matter and law."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from spinesim.anatomy.schemes import STRUCTURES
from spinesim.errors import ConfigError
from spinesim.pathology.lesion import DAYS_A_MONTH, Lesion
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.quantities import ORDINALS
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value

SIDES = ("left", "right")
CALLED = {
    "clavicula": "(?:clavicle|clavicula)",
    "esophagus": "o?esophagus",
    "gallbladder": "gall ?bladder",
    "iliopsoas": "(?:ilio)?psoas",
    "urinary bladder": "(?:urinary )?bladder",
    "vena": "(?:vein|vena)",
}
"""What people say otherwise than the names of TotalSegmentator's files."""

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


def _in_structure(structure: str) -> Phrase:
    """A structure of TotalSegmentator, its side before or after it: ``left kidney``, ``kidney left``."""
    words = structure.split("_")
    side = next((word for word in words if word in SIDES), "")
    said = " ".join(word for word in words if word != side)
    if words[0] == "lung":
        return phrase(f"{side} {words[1]} lobe(?: of the lung)?", structure=structure)
    if words[0] == "rib":
        number = words[-1]
        nth = f"(?:{ORDINALS[int(number) - 1]}|{number}(?:st|nd|rd|th))"
        return phrase(f"{nth} {side} rib|{side} {nth} rib|{side} rib {number}|rib {number} {side}", structure=structure)
    for own, called in CALLED.items():
        said = said.replace(own, called)
    return phrase(f"{side} {said}|{said} {side}" if side else said, structure=structure)


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
        value("(?:volume )?(?:doubling(?: time)?|doubles)(?: of| in| every)?(?: in)? <duration>", "doubling_months"),
        value("(?:over|after|within) <duration>", "over_months"),
        value("(?:seen|shown|imaged|scanned) (?:at|after) <duration>", "months"),
        Phrase("(?:at|after) <duration> of <duration>(?: of growth)?",
               lambda months, whole: {"months": months, "over_months": whole}),
        value("(?:growing|grown|that grew) (?:over|for|in|within) <duration>", "over_months"),
        *(_in_structure(each) for each in STRUCTURES if not each.startswith(("vertebrae_", "sacrum"))),
        value("<level>", "structure"),
        Phrase("label <whole>", lambda number: {"structure": f"label {number}"}),
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
)  # fmt: skip
