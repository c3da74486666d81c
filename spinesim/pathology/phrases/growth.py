"""The words on growing up: skeletal growth between two ages."""

from spinesim.pathology.vocabulary import Phrase, Vocabulary, name, phrase

VOCABULARY = Vocabulary(
    kind="growth",
    called="skeletal growth",
    phrases=(
        name(
            "skeletal growth|grow(?:s|ing)?(?: up)?|growth spurt|growth of (?:a|the) (?:child|girl|boy|spine|skeleton)"
        ),
        Phrase("from (?:age )?<number> to <number>(?: years)?(?: old)?", lambda a, b: {"from_years": a, "to_years": b}),
        Phrase("(?:aged |age )?<duration>(?: old)?", lambda months: {"months": months}),
        phrase("girl|female|woman", sex="female"),
        phrase("boy|male|man", sex="male"),
    ),
)
