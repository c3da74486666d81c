"""The words on the sagittal profile: kyphosis, lordosis, Scheuermann's disease, flat back."""

from spinesim.pathology.vocabulary import Phrase, Vocabulary, name, value

VOCABULARY = Vocabulary(
    kind="sagittal",
    called="change of kyphosis or lordosis",
    phrases=(
        name("(?:hyper|hypo)?(?:kypho|lordo)s[ie]s|kyphotic|lordotic|kyphoscoliosis|gibbus"),
        name("scheuermann(?:'s)?(?: disease)?|flat ?back"),
        value("<angle>", "angle_deg"),
        Phrase("(?:from |between )?(?:<range>|<pair>)", lambda pair: {"levels": pair}),
        Phrase("cervical|thoracic|thoracolumbar|lumbar"),
    ),
)
