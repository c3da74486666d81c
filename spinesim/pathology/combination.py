"""Several pathologies on one spine: planned one after the other, in one field."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, ClassVar, Self

from pydantic import BaseModel, SerializeAsAny, field_validator

from spinesim.anatomy.levels import Level
from spinesim.anatomy.measure import Measures
from spinesim.anatomy.scan import LabelMap
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import CrowdedError, OutOfReachError, PathologyError
from spinesim.pathology.library import read_pathology
from spinesim.pathology.proposal import (
    Excuses,
    Goals,
    Limit,
    Pathology,
    Proposal,
    goals_of,
    limits_of,
    outcome_of,
    outgrow,
    propose,
    read_goals,
    remarks_on,
    seat,
    settle,
    tolerances_of,
)

SEATINGS, SEEDS = 20, 2**32
"""Draws of the places of all until there is room for each; how far their seeds lie apart."""


class Combination(Pathology):
    """Pathologies of one spine.

    They are planned in the order of their stages (growth, curves, sagittal angles, slips, discs, fractures, lesions; of
    one stage in the order given), each for the spine that the ones before it lead to, and carried out in one field.

    Parameters
    ----------
    pathologies : tuple of Pathology
        One or more; the same goal may be asked once only. Lesions of one structure are numbered in their order.
    """

    kind: ClassVar[str] = "combination"
    stage: ClassVar[int] = 0

    pathologies: tuple[SerializeAsAny[Pathology], ...]

    def allowed(self) -> Self:
        """The same, each of them allowed to be implausible."""
        parts = tuple(each.allowed() for each in self.pathologies)
        return self.model_copy(update={"pathologies": parts, "allow_implausible": True})

    @property
    def may_be_implausible(self) -> bool:
        """Whether one of them may be."""
        return self.allow_implausible or any(each.may_be_implausible for each in self.pathologies)

    @property
    def excuses(self) -> Excuses:
        """What any of them is about to break."""
        rules = {rule for each in self.pathologies for rule in each.excuses}
        nowhere = frozenset[Level]()
        return {rule: nowhere.union(*(each.excuses.get(rule, nowhere) for each in self.pathologies)) for rule in rules}

    @property
    def joints_yield(self) -> bool:
        """Where one asks for it and none forbids it."""
        said = {each.joints_yield for each in self.pathologies}
        return True in said and False not in said

    @property
    def keeps_bones(self) -> bool:
        """Whether one of them does."""
        return any(each.keeps_bones for each in self.pathologies)

    @property
    def strain_mm(self) -> float:
        """What the one leaves that strains bones most."""
        return max(each.strain_mm for each in self.pathologies)

    @property
    def needs_structures(self) -> bool:
        """Whether one of them does."""
        return any(each.needs_structures for each in self.pathologies)

    @field_validator("pathologies", mode="before")
    @classmethod
    def _read(cls, entries: Any) -> Any:
        if not isinstance(entries, list | tuple) or not entries:
            raise ValueError(f"expected a list of pathologies, got {entries!r}; name one at least")
        return tuple(
            entry if isinstance(entry, Pathology) else read_pathology(entry, f"pathologies[{rank}]")
            for rank, entry in enumerate(entries)
        )

    @field_validator("pathologies")
    @classmethod
    def _go_together(cls, pathologies: tuple[Pathology, ...]) -> tuple[Pathology, ...]:
        pathologies = _told_apart(pathologies)
        names = Counter(pathology.title for pathology in pathologies)
        (name, count), *_ = names.most_common(1)
        if count > 1:
            raise ValueError(f"expected each pathology once, got {count} times {name}; leave all but one out")
        if any(isinstance(pathology, Combination) for pathology in pathologies):
            raise ValueError("expected single pathologies, got a combination among them; name its parts")
        alone = [each.title for each in pathologies if each.goes_alone]
        if alone and len(pathologies) > 1:
            raise ValueError(
                f"expected the {alone[0]} by itself, for it moves what is no vertebra, got others beside it; "
                "simulate one on the result of the other"
            )
        resizing, held = ([p.title for p in pathologies if getattr(p, flag)] for flag in ("resizes", "scanned"))
        if resizing and held:
            raise ValueError(
                f"expected no {resizing[0]} together with {held[0]}, told by the sizes that bones have in the scan; "
                "simulate one on the result of the other"
            )
        goals = Counter(name for pathology in pathologies for name in goals_of(pathology))
        if goals and max(goals.values()) > 1:
            raise ValueError(f"expected each goal once, got {goals.most_common(1)[0][0]} twice; ask for it once")
        return tuple(sorted(pathologies, key=lambda pathology: pathology.stage))


def _told_apart(pathologies: Iterable[Pathology]) -> tuple[Pathology, ...]:
    """Number those that are several at one place: where a number is taken, the next one is."""
    numbered: list[Pathology] = []
    for each in pathologies:
        numbered.append(each.beside(numbered))
    return tuple(numbered)


@settle.register
def _(combination: Combination, seed: int) -> Combination:
    return combination.model_copy(update={"pathologies": tuple(settle(each, seed) for each in combination.pathologies)})


@seat.register
def _(
    combination: Combination, labels: LabelMap, spine: Spine, seed: int, beside: Sequence[BaseModel] = ()
) -> Combination:
    for attempt in range(SEATINGS):
        try:
            seated = _seat_all(combination.pathologies, labels, spine, seed + attempt * SEEDS)
            break
        except CrowdedError:
            if attempt == SEATINGS - 1:
                raise
    titles = [each.title for each in seated]
    if len(set(titles)) < len(titles):
        raise PathologyError(f"combination: expected each place once, got {', '.join(titles)}; leave one out")
    return combination.model_copy(update={"pathologies": seated})


def _seat_all(pathologies: Sequence[Pathology], labels: LabelMap, spine: Spine, seed: int) -> tuple[Pathology, ...]:
    """Choose the place of each beside those before it, first of those that are pinned; in the order given.

    Raises
    ------
    CrowdedError
        When there is no room for one where the others were drawn.
    """
    seated: dict[int, Any] = {}
    for rank in sorted(range(len(pathologies)), key=lambda rank: not pathologies[rank].pinned):
        seated[rank] = seat(pathologies[rank], labels, spine, seed, tuple(seated.values()))
    return tuple(seated[rank] for rank in range(len(pathologies)))


@goals_of.register
def _(combination: Combination) -> Goals:
    return {name: value for each in combination.pathologies for name, value in goals_of(each).items()}


@tolerances_of.register
def _(combination: Combination) -> Goals:
    return {name: value for each in combination.pathologies for name, value in tolerances_of(each).items()}


@read_goals.register
def _(combination: Combination, measures: Measures, native: Measures) -> Goals:
    return {name: value for held in _held(combination, measures, native) for name, value in read_goals(*held).items()}


@remarks_on.register
def _(combination: Combination, measures: Measures, native: Measures) -> tuple[str, ...]:
    return tuple(remark for held in _held(combination, measures, native) for remark in remarks_on(*held))


@limits_of.register
def _(combination: Combination, measures: Measures, native: Measures) -> tuple[Limit, ...]:
    return tuple(limit for held in _held(combination, measures, native) for limit in limits_of(*held))


@outcome_of.register
def _(combination: Combination, measures: Measures, native: Measures) -> Mapping[str, Any]:
    return {held[0].key: outcome_of(*held) for held in _held(combination, measures, native)}


def _held(
    combination: Combination, measures: Measures, native: Measures
) -> Iterator[tuple[Pathology, Measures, Measures]]:
    """Each pathology with what it is measured on, and what that is held against.

    Sizes are held against what the pathologies before make of them, unless it is the scan itself that is measured; and
    what grows is measured where no other takes height away.
    """
    reference = native
    for each in combination.pathologies:
        others = [other for other in combination.pathologies if other is not each]
        kept = {
            pair: mm
            for pair, mm in measures.steps_mm.items()
            if not (each.resizes and any(other.shortens(*pair) for other in others))
        }
        yield each, replace(measures, steps_mm=kept), reference
        reference = reference if measures is native else outgrow(each, reference)


@propose.register
def _(combination: Combination, spine: Spine, aim: Goals, seed: int = 0) -> Proposal:
    _require_measurable(combination, spine)
    plan, moved = None, spine
    warnings: list[str] = []
    details: dict[str, Any] = {"order": [each.title for each in combination.pathologies]}
    for each in combination.pathologies:
        try:
            proposal = propose(each, moved, {name: aim[name] for name in goals_of(each)}, seed)
        except OutOfReachError as refusal:
            raise PathologyError(f"{refusal} (after what was planned before it)") from refusal
        planned = proposal.plan
        if plan is not None and each.sized:
            planned = planned.told_at_rest(
                {
                    level: spine[level].axes.T @ stretch @ spine[level].axes
                    for level, stretch in plan.stretches().items()
                }
            )
        plan = planned if plan is None else plan.then(planned)
        moved = proposal.moved
        warnings += proposal.warnings
        details[each.key] = dict(proposal.details)
    if plan is None:
        raise PathologyError("combination: expected a pathology, got none; name one")
    return Proposal(plan, moved, details, tuple(warnings))


def _require_measurable(combination: Combination, spine: Spine) -> None:
    """Refuse growth where others take height away between all neighbours.

    Raises
    ------
    PathologyError
        Naming what grows.
    """
    pairs = [(a.level, b.level) for a, b in pairwise(spine) if a.measured and b.measured]
    growing = [each.title for each in combination.pathologies if each.resizes]
    if growing and all(any(each.shortens(*pair) for each in combination.pathologies) for pair in pairs):
        raise PathologyError(
            f"{growing[0]}: expected whole neighbours between which nothing else takes height away, to measure it on, "
            "got none; take a longer scan, or simulate one on the result of the other"
        )
