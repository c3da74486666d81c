"""The words on lesions: a growth inside a labelled structure, its size, place, kind and growth law."""

from spinesim.pathology.vocabulary import Phrase, Vocabulary, name, phrase, value

_LOBES = "(?:left (?:upper|lower)|right (?:upper|middle|lower)) lobe(?: of the lung)?"
_ORGANS = "(?:left |right )?(?:lung|kidney)|liver|spleen|pancreas|rib|pelvis|sacrum"

VOCABULARY = Vocabulary(
    kind="lesion",
    called="lesion",
    phrases=(
        name("lesions?|growths?|mass(?:es)?|nodules?|tumou?rs?|metastas[ie]s|met|mets|neoplasms?|myeloma|cysts?"),
        value("<length>(?: (?:in )?(?:diameter|wide|large))?", "diameter_mm"),
        value("<volume>(?: (?:in )?volume)?", "volume_ml"),
        value("<duration> (?:growth(?: pattern| law)?|history|follow up)", "over_months"),
        value("(?:volume )?doubling(?: time)?(?: of| in)?(?: in)? <duration>", "doubling_months"),
        value("(?:over|after|within) <duration>", "over_months"),
        phrase(_LOBES),
        phrase(_ORGANS),
        value("<level>", "level"),
        phrase("left", side="left"),
        phrase("right", side="right"),
        Phrase("anterior|posterior|central|lateral"),
        Phrase(
            "(?:osteo)?lytic|sclerotic|(?:osteo)?blastic|mixed|solid|part solid|spiculated|irregular|smooth|expansile"
        ),
        Phrase("exponential(?:ly)?|gompertz|power law|growth (?:pattern|law)"),
    ),
)
