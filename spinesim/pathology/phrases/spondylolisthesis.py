"""The words on slipped vertebrae."""

from spinesim.pathology.vocabulary import Phrase, Vocabulary, name, phrase, value

VOCABULARY = Vocabulary(
    kind="spondylolisthesis",
    called="spondylolisthesis",
    phrases=(
        name("(?:spondylo|antero|retro|latero)?listhes[ie]s|slip(?:s|ped|page)?|spondyloptosis"),
        name("spondylolysis|pars defect"),
        value("(?:meyerding )?(?:grade )?<whole>", "meyerding_grade"),
        value("<percent>(?: slip)?", "slip_percent"),
        value("slip angle(?: of)? <angle>", "slip_deg"),
        value("<level>", "level"),
        Phrase("<disc>|<pair>", lambda pair: {"level": pair[0]}),
        phrase("isthmic|lytic", pars_defect=True),
        phrase("degenerative", pars_defect=False),
    ),
)
