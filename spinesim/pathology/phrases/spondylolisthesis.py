"""The words on slipped vertebrae."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spinesim.errors import ConfigError
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.quantities import GRADES
from spinesim.pathology.slip import Spondylolisthesis
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make a slip of each level that is said."""
    for one in said:
        if "level" not in one.slots:
            raise ConfigError("prompt: expected the level of each slip, got none of one; say it, as 'slip of L5'")
        if not one.slots.keys() & {"slip_percent", "meyerding_grade"}:
            raise ConfigError("prompt: expected the size of each slip, got none of one; say 'grade 1' or '20 %'")
        yield Spondylolisthesis(**one.slots), ()


VOCABULARY = Vocabulary(
    kind="spondylolisthesis",
    called="spondylolisthesis",
    phrases=(
        name("spondylolisthes[ie]s|listhes[ie]s|slip(?:s|ped|page)?"),
        name("anterolisthes[ie]s", direction="forward"),
        name("retrolisthes[ie]s", direction="backward"),
        *(phrase(f"(?:meyerding )?grade {said}|meyerding {said}", meyerding_grade=n) for said, n in GRADES.items()),
        phrase("meyerding"),
        value("(?:by )?<percent>(?: slip)?", "slip_percent"),
        value("<angle>(?: slip angle)?|slip angle(?: of)? <angle>", "slip_angle_deg"),
        value("<level>", "level"),
        Phrase("<level> (?:on|over|upon) <level>", lambda upper, lower: {"level": upper}),
        Phrase("<disc>|<pair>", lambda pair: {"level": pair[0]}),
        phrase("isthmic|lytic|spondylolytic|(?:with )?(?:a )?(?:pars defect|spondylolysis)", pars_defect=True),
        phrase("degenerative|(?:no|without|with no)(?: a| any)? pars defect|intact arch", pars_defect=False),
        phrase("forwards?|anterior(?:ly)?", direction="forward"),
        phrase("backwards?|posterior(?:ly)?", direction="backward"),
    ),
    make=_make,
    complete=lambda said: "level" in said.slots,
    place=("level",),
)
