"""The words on scoliosis: curves, their size, side, apex, ends and balance, and Lenke's types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spinesim.anatomy.levels import Level, parse_level
from spinesim.errors import ConfigError
from spinesim.pathology.proposal import Pathology
from spinesim.pathology.quantities import are_neighbours
from spinesim.pathology.scoliosis import OTHER_SIDE, Scoliosis
from spinesim.pathology.vocabulary import Made, Phrase, Said, Vocabulary, name, phrase, value

USUAL_APEX = {"upper thoracic": "T3", "thoracic": "T8/T9", "thoracolumbar": "T12", "lumbar": "L2"}
"""Apex of a curve of which only the region is said: peaks of 607 films at T8-T9 and L1, and Lenke's typical levels."""

REGIONS = {
    "upper thoracic": (Level.T1, Level.T6),
    "thoracic": (Level.T2, Level.T12),
    "thoracolumbar": (Level.T11, Level.L2),
    "lumbar": (Level.T12, Level.L5),
}
"""Where the apex of a curve of a region may lie."""

LENKE = {1: ("T8",), 2: ("T8", "T3"), 3: ("T8", "L2"), 4: ("T8", "L2", "T3"), 5: ("L1",), 6: ("L2", "T8")}
"""Apices of the structural curves of Lenke's types, the largest first (Lenke 2001, J Bone Joint Surg Am 83:1169)."""

MINOR_SHARE = {"upper thoracic": 0.5, "thoracic": 0.6, "lumbar": 0.6}
"""Size of a structural curve against the largest one, where only Lenke's type is said (assumed)."""

OPTIONS = ("vertebral_share", "offset_mm", "variability", "rotation_per_cobb", "kyphosis_per_cobb")


def _place(upper: str, lower: str) -> Mapping[str, Any]:
    """Two levels: the disc between neighbours is an apex, others are ends."""
    return {"apex": f"{upper}/{lower}"} if are_neighbours(upper, lower) else _ends(upper, lower)


def _ends(upper: str, lower: str) -> Mapping[str, Any]:
    return {"upper_end": upper, "lower_end": lower}


def _apex(*levels: Any) -> Mapping[str, Any]:
    return {"apex": "/".join(levels[0] if isinstance(levels[0], tuple) else levels)}


def _offset(length: float, side: str) -> Mapping[str, Any]:
    return {"offset_mm": length if side == "right" else -length}


def _share(percent: float) -> Mapping[str, Any]:
    return {"vertebral_share": round(percent / 100, 4)}


_SIDED = "(?:convex sided|convexity|convex|sided?|wards?)"
_AT = "(?: vertebra| level| disc)?(?: is| lies)?(?: at| of| in| on)?:?(?: the)?"
_SHIFTED = "(?:(?:balance|trunk|coronal) )?(?:offset|shift|shifted|imbalance)"
_BEFORE = "(?:(?:at|with|around|about) )?(?:(?:an|the|its) )?"

_NAMES = (
    name("(?:roto)?scolios[ie]s|ais"),
    name("curves?|curvatures?"),
    name("dextro ?scoliosis", direction="right"),
    name("levo ?scoliosis", direction="left"),
)
_SIZE = (
    value("<angle>(?: of)?(?: cobb(?: angle)?)?", "cobb_deg"),
    value("cobb(?: angle)?(?: of| is| =|:|=)? ?<angle>", "cobb_deg"),
    value("cobb(?: angle)?(?: of| is| =|:|=)? ?<number>", "cobb_deg"),
    value("<number> cobb", "cobb_deg"),
    phrase("cobb(?: angle)?"),
)
_SIDE = (
    Phrase(f"<side>(?: {_SIDED})?", lambda side: {"direction": side}),
    Phrase("(?:with )?(?:(?:a|the|its) )?conve(?:x|xity)(?: (?:is )?(?:to|towards?|on))?(?: the)? <side>(?: side)?",
           lambda side: {"direction": side}),
    Phrase("to (?:the|its) <side>(?: side)?", lambda side: {"direction": side}),
    Phrase("concave (?:to|towards?|on) the <side>(?: side)?", lambda side: {"direction": OTHER_SIDE[side]}),
    phrase("dextroconvex", direction="right"),
    phrase("levoconvex|sinistroconvex", direction="left"),
)  # fmt: skip
_WHERE = (
    phrase("(?:upper|proximal|high) thoracic", region="upper thoracic"),
    phrase("(?:(?:main|mid|middle|lower) )?(?:thoracic|dorsal)", region="thoracic"),
    phrase("thoraco ?lumbar|dorso ?lumbar", region="thoracolumbar"),
    phrase("lumbar", region="lumbar"),
    Phrase("<level>(?: apex)?", _apex),
    Phrase(f"{_BEFORE}(?:apex|apical){_AT} <level>", _apex),
    Phrase("(?:centred|centered|apical) (?:at|on|around) (?:the )?<level>", _apex),
    Phrase("<disc>(?: apex)?", _apex),
    Phrase("<pair>", lambda pair: _place(*pair)),
    Phrase(f"{_BEFORE}(?:apex|apical){_AT} (?:<disc>|<pair>)", _apex),
    Phrase("(?:from |between )?<range>", lambda pair: _ends(*pair)),
    Phrase("(?:from|between|spanning) <pair>", lambda pair: _ends(*pair)),
    Phrase("between <level> and <level>", _ends),
    Phrase("(?:with )?(?:end vertebrae|ends) (?:at )?<level> and <level>", _ends),
    value("(?:with )?(?:the )?(?:upper end(?: vertebra)?|uev)(?: is| at|:)? <level>", "upper_end"),
    value("(?:with )?(?:the )?(?:lower end(?: vertebra)?|lev)(?: is| at|:)? <level>", "lower_end"),
    phrase("apex|at the apex|apical"),
)
_MORE = (
    value("lenke(?: type| class)?:? <whole>", "lenke"),
    value("type <whole> (?:of|after) lenke", "lenke"),
    Phrase("<percent>(?: of)?(?: the)?(?: vertebral| vertebra)? wedging", _share),
    Phrase("(?:vertebral )?wedging(?: share)?(?: of| by|:)? <percent>", _share),
    Phrase("vertebral share(?: of|:)? <percent>", _share),
    value("vertebral share(?: of|:)? <number>", "vertebral_share"),
    Phrase("<percent>(?: of (?:it|the curve))?(?: taken)? (?:by|in) (?:the )?(?:wedged )?vertebrae", _share),
    Phrase(f"(?:{_SHIFTED})(?: of| by)? <length>(?: to(?: the)?)? <side>", _offset),
    Phrase(f"<length>(?: of)? (?:{_SHIFTED}|out of balance)(?: to the)? <side>", _offset),
    Phrase("<side>(?:ward)? (?:offset|shift|shifted)(?: of| by)? <length>", lambda side, length: _offset(length, side)),
    phrase("(?:well )?balanced|in balance", offset_mm=0.0),
    value("variability(?: of|:)? <number>", "variability"),
    Phrase("variability(?: of|:)? <percent>", lambda percent: {"variability": percent / 100}),
    value("(?:apical |axial )?rotation(?: of)? <number> per degree", "rotation_per_cobb"),
    phrase("(?:without|with no|no) (?:any )?(?:apical |axial |vertebral )?rotation", rotation_per_cobb=0.0),
    phrase("double(?: major| thoracic)?", curves=2),
    phrase("triple(?: major)?", curves=3),
    phrase("adolescent|juvenile|idiopathic|structural|scoliotic|deformity|direction"),
    phrase("compensatory|secondary|minor|major|primary|largest|smaller"),
)  # fmt: skip


@dataclass(frozen=True)
class _Curve:
    """One curve that is asked for."""

    cobb_deg: float
    apex: str
    said: Said
    assumed: str = ""


def _make(said: Sequence[Said], before: Sequence[Pathology]) -> Iterator[Made]:
    """Make one scoliosis of all curves that are said."""
    whole = Said()
    for one in said:
        whole.take(
            Said({k: v for k, v in one.slots.items() if k in (*OPTIONS, "lenke", "curves")}, one.words), (), "scoliosis"
        )
    lenke = whole.get("lenke")
    if lenke is not None and lenke not in LENKE:
        raise ConfigError(
            f"prompt: expected a Lenke type from 1 to 6, got {whole.words['lenke']!r}; choose one of them"
        )
    curves = _of_type(lenke, said) if lenke else [_curve(one) for one in said]
    if whole.get("curves", len(curves)) != len(curves):
        raise ConfigError(
            f"prompt: expected as many curves as {whole.words['curves']!r} has, got {len(curves)}; say each"
        )
    largest, *others = sorted(curves, key=lambda curve: -curve.cobb_deg)
    for curve in others:
        if curve.said is not largest.said and {"upper_end", "lower_end"} & curve.said.slots.keys():
            raise ConfigError(
                f"prompt: expected end vertebrae of the largest curve only, got them for {curve.apex}; leave them out"
            )
    scoliosis = Scoliosis(
        cobb_deg=largest.cobb_deg,
        apex=largest.apex,
        also=tuple({"cobb_deg": curve.cobb_deg, "apex": curve.apex} for curve in others),
        **{slot: largest.said.get(slot) for slot in ("upper_end", "lower_end") if largest.said.get(slot)},
        **{slot: whole.slots[slot] for slot in OPTIONS if slot in whole.slots},
    )
    yield _with_sides(scoliosis, [largest, *others]), tuple(curve.assumed for curve in curves if curve.assumed)


def _curve(said: Said) -> _Curve:
    """One curve, with its usual apex where only the region is said."""
    cobb, apex, where = said.get("cobb_deg"), said.get("apex"), said.get("region")
    if cobb is None:
        raise ConfigError(
            "prompt: expected the Cobb angle of each curve, got none; say it, as '35 degree right thoracic curve'"
        )
    if apex is None and where is None:
        raise ConfigError(
            f"prompt: expected an apex or a region of the curve of {cobb:g} degrees, got none; say 'apex T9'"
        )
    if apex is None:
        return _Curve(cobb, USUAL_APEX[where], said, f"apex {USUAL_APEX[where]}, usual of a {where} curve")
    lowest, highest = REGIONS.get(where, (Level.C1, Level.L6))
    if not any(lowest <= level <= highest for level in map(parse_level, apex.split("/"))):
        raise ConfigError(f"prompt: expected a {where} apex, got {said.words['apex']!r}; leave one of the two out")
    return _Curve(cobb, apex, said)


def _region(apex: str) -> str:
    level = parse_level(apex.partition("/")[0])
    return "upper thoracic" if level <= Level.T5 else "thoracic" if level <= Level.T11 else "lumbar"


def _of_type(lenke: int, said: Sequence[Said]) -> list[_Curve]:
    """Curves of a Lenke type: what is said of each, and for the others what is usual."""
    apices = {_region(apex): apex for apex in LENKE[lenke]}
    lead = next(iter(apices))
    given: dict[str, Said] = {}
    for one in said:
        apex = one.get("apex") or USUAL_APEX.get(one.get("region", ""))
        where = _region(apex) if apex else lead
        if "cobb_deg" not in one.slots and "apex" not in one.slots and len(said) > 1:
            continue
        if where not in apices:
            raise ConfigError(
                f"prompt: expected curves of Lenke {lenke} ({', '.join(apices)}), got one that is {where}; leave it out"
            )
        given.setdefault(where, Said()).take(one, (), "curve")
    largest = given.get(lead, Said()).get("cobb_deg")
    if largest is None:
        raise ConfigError(
            f"prompt: expected the Cobb angle of the {lead} curve of Lenke type {lenke}, got none; "
            f"say it, as 'Lenke {lenke}, 45 degrees'"
        )
    curves = []
    for where, usual in apices.items():
        one = given.get(where, Said())
        cobb, apex = one.get("cobb_deg", round(MINOR_SHARE[where] * largest)), one.get("apex", usual)
        size = "apex " if "cobb_deg" in one.slots else f"{cobb:g} degrees at "
        curves.append(_Curve(cobb, apex, one, f"{size}{apex}, usual of Lenke {lenke}" if apex == usual else ""))
    return curves


def _with_sides(scoliosis: Scoliosis, curves: Sequence[_Curve]) -> Scoliosis:
    """Turn the largest curve so that each is convex to the side that is said of it.

    Raises
    ------
    ConfigError
        When neighbours are asked to the same side: they alternate.
    """
    asked = [(scoliosis.curves[rank], curve.said.get("direction")) for rank, curve in enumerate(curves)]
    for direction in (scoliosis.side, OTHER_SIDE[scoliosis.side]):
        turned = scoliosis.model_copy(update={"direction": direction})
        sides = [turned.side_of(turned if rank == 0 else curve) for rank, (curve, _) in enumerate(asked)]
        if all(side in (None, found) for found, (_, side) in zip(sides, asked, strict=True)):
            return turned if any(side for _, side in asked) else scoliosis
    raise ConfigError(
        "prompt: expected neighbouring curves convex to opposite sides, "
        f"got {', '.join(f'{side or scoliosis.side} at {curve.apex}' for curve, side in asked)}; turn one of them"
    )


VOCABULARY = Vocabulary(
    kind="scoliosis",
    called="scoliosis",
    phrases=(*_NAMES, *_SIZE, *_SIDE, *_WHERE, *_MORE),
    make=_make,
    complete=lambda said: "cobb_deg" in said.slots and bool({"apex", "region", "lenke"} & said.slots.keys()),
    place=("apex", "region"),
)
