"""The words on broken processes (AO A0)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinesim.errors import ConfigError
from spinesim.pathology.process import ProcessFracture
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.vocabulary import Made, Said, Vocabulary, name, value

_FRACTURE = "(?:fractures?|fx)"


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make a fracture of the process of each level that is said."""
    for one in said:
        if "level" not in one.slots:
            raise ConfigError("prompt: expected the level of each broken process, got none of one; say it, as 'of L2'")
        fracture = ProcessFracture(**one.slots)
        yield fracture, () if "process" in one.slots else (f"{fracture.process} process",)


VOCABULARY = Vocabulary(
    kind="process_fracture",
    called="fractured process",
    phrases=(
        *(
            name(f"(?:broken )?{said} process(?: {_FRACTURE})?|{_FRACTURE} of the {said} process", process=said)
            for said in ("spinous", "left transverse", "right transverse")
        ),
        name(f"(?:ao )?(?:type )?a0 {_FRACTURE}|{_FRACTURE} of (?:ao )?type a0"),
        value("<level>", "level"),
        value("(?:displaced|displacement)(?: of| by|:)? <length>|<length>(?: of)? displacement", "displacement_mm"),
    ),
    make=_make,
    complete=lambda said: "level" in said.slots,
    place=("level",),
    inherited=("process",),
)  # fmt: skip
