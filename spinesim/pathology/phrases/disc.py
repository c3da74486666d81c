"""The words on degenerated discs and osteophytes."""

from spinesim.pathology.vocabulary import Phrase, Vocabulary, name, value

VOCABULARY = Vocabulary(
    kind="disc",
    called="degenerated disc or osteophyte",
    phrases=(
        name("dis[ck] degeneration|degenerat(?:ion|ed|ive)(?: dis[ck]s?)?(?: disease)?|spondylosis"),
        Phrase("dis[ck]s?"),
        name("osteophytes?|bone spurs?|vacuum phenomenon|schmorl(?:'s)?(?: nodes?)?|herniat(?:ion|ed)"),
        value("(?:pfirrmann )(?:grade )?<whole>", "pfirrmann_grade"),
        Phrase("pfirrmann"),
        Phrase("<disc>|<pair>", lambda pair: {"level": pair[0]}),
        value("<length>", "osteophyte_mm"),
        value("<percent>(?: height loss| loss of height)?", "loss_percent"),
    ),
)
