"""The words on growing up: skeletal growth between two ages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinesim.errors import ConfigError
from spinesim.pathology.growth import Growth
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value

MONTHS = 12


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make one growth of all that is said."""
    for one in said:
        slots = dict(one.slots)
        span = slots.pop("span", None)
        if span is not None and "from_age" in slots:
            slots.setdefault("to_age", slots["from_age"] + span)
        for slot, called in (("sex", "the sex ('girl', 'male')"), ("from_age", "both ages"), ("to_age", "both ages")):
            if slot not in slots:
                raise ConfigError(f"prompt: expected {called} of skeletal growth, got none; say 'girl from 10 to 14'")
        yield Growth(**slots), ()


VOCABULARY = Vocabulary(
    kind="growth",
    called="skeletal growth",
    phrases=(
        name("skeletal growth|grow(?:s|ing)?(?: up)?|growth spurt|growth of (?:a|the) (?:child|spine|skeleton)"),
        name("growth of (?:a|the) girl", sex="female"),
        name("growth of (?:a|the) boy", sex="male"),
        *(
            Phrase(
                f"growth of (?:a|the) <duration>(?: old)? {child}",
                lambda months, sex=sex: {"sex": sex, "from_age": months / MONTHS},
                names=True,
            )
            for child, sex in (("girl", "female"), ("boy", "male"))
        ),
        Phrase(
            "growth from (?:age )?<number>(?: years)? to (?:age )?<number>(?: years)?(?: of age| old)?",
            lambda a, b: {"from_age": a, "to_age": b},
            names=True,
        ),
        Phrase(
            "(?:from (?:age )?|aged? )<number>(?: years)? to (?:age )?<number>(?: years)?(?: of age| old)?"
            "|<number>(?: years)? to <number> years(?: of age| old)?",
            lambda a, b: {"from_age": a, "to_age": b},
        ),
        value("(?:up )?to (?:age <number>|<number> years)(?: of age| old)?", "to_age"),
        Phrase("(?:from )?(?:aged |age )?<duration>(?: old| of age)?", lambda months: {"from_age": months / MONTHS}),
        Phrase("(?:over|for|during|by) <duration>", lambda months: {"span": months / MONTHS}),
        phrase("child|children"),
        phrase("girl|female|woman", sex="female"),
        phrase("boy|male|man", sex="male"),
    ),
    make=_make,
)
