"""The words on the sagittal profile: kyphosis, lordosis, Scheuermann's disease, flat back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from spinesim.errors import ConfigError
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.quantities import levels_from
from spinesim.pathology.sagittal import Sagittal
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value

KYPHOSIS, LORDOSIS = 1.0, -1.0
"""Sign of an angle."""

USUAL_ENDS = {KYPHOSIS: ("T4", "T12"), LORDOSIS: ("L1", "S")}
"""Levels between which an angle is measured where none are said."""

SCHEUERMANN_LEVELS, SCHEUERMANN_DEG = ("T7", "T8", "T9"), 9.0
"""Bodies that are wedged in Scheuermann's disease and their wedge, where only its name is said (assumed)."""


def _ends(*levels: Any) -> Mapping[str, Any]:
    return {"ends": levels[0] if isinstance(levels[0], tuple) else levels}


def _wedged(pair: tuple[str, str]) -> Mapping[str, Any]:
    return {"wedged": levels_from(*pair)}


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make a sagittal change of each angle that is said."""
    for one in said:
        if "angle_deg" not in one.slots or "sign" not in one.slots:
            raise ConfigError(
                "prompt: expected the angle of each kyphosis or lordosis, got none; say it, as 'kyphosis of 60 degrees'"
            )
        sign, ends = one.slots["sign"], one.get("ends", USUAL_ENDS[one.slots["sign"]])
        wedged, wedge = one.get("wedged", ()), one.get("wedge_deg", 0.0)
        assumed = [] if "ends" in one.slots else [f"measured from {ends[0]} to {ends[1]}"]
        if one.get("scheuermann") and not (wedged and wedge):
            wedged, wedge = wedged or SCHEUERMANN_LEVELS, wedge or SCHEUERMANN_DEG
            assumed.append(f"{' '.join(wedged)} wedged by {wedge:g} degrees")
        angle = sign * one.slots["angle_deg"]
        parameters = {"upper": ends[0], "lower": ends[1], "angle_deg": angle}
        yield Sagittal(**parameters, **({"wedged": wedged, "wedge_deg": wedge} if wedged else {})), tuple(assumed)


VOCABULARY = Vocabulary(
    kind="sagittal",
    called="change of kyphosis or lordosis",
    phrases=(
        name("(?:hyper|hypo) ?kyphos[ie]s|kyphos[ie]s|kyphotic", sign=KYPHOSIS),
        name("(?:hyper|hypo) ?lordos[ie]s|lordos[ie]s|lordotic", sign=LORDOSIS),
        name("scheuermann(?:'s)?(?: disease)?(?: kyphosis)?", sign=KYPHOSIS, scheuermann=True),
        name("flat ?back(?: syndrome| deformity)?", sign=LORDOSIS),
        value("<angle>", "angle_deg"),
        Phrase("(?:from |between )?(?:<range>|<pair>)", _ends),
        Phrase("(?:from|between) <level> and <level>", _ends),
        Phrase("(?:<range>|<pair>) wedged", _wedged),
        Phrase("wedged (?:from )?(?:<range>|<pair>)", _wedged),
        value("wedged by <angle>(?: each)?", "wedge_deg"),
        phrase("thoracic", ends=USUAL_ENDS[KYPHOSIS]),
        phrase("lumbar", ends=USUAL_ENDS[LORDOSIS]),
        phrase("angle"),
    ),
    make=_make,
    complete=lambda said: "angle_deg" in said.slots,
    place=("ends",),
)
