"""Which levels a cohort can have a model of: usual ones whose joints two cases or more show.

T13 and L6 are too rare to tell how others stand on them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from spinesim.anatomy.levels import USUAL, Level, parse_level
from spinesim.errors import ConfigError
from spinesim.shape.chain import Chain

FEWEST = 2
"""Cases that must show a joint."""


def parse_run(text: str) -> tuple[Level, ...]:
    """Read a run of usual levels from its ends: ``T1-L5``.

    Raises
    ------
    ConfigError
        When it is no pair of levels, the upper one first.
    LabelError
        When an end is no level.
    """
    ends = [parse_level(name) for name in text.split("-")]
    run = tuple(level for level in USUAL if ends[0] <= level <= ends[-1])
    if len(ends) != 2 or len(run) < 2:
        raise ConfigError(f"levels: expected two levels, the upper one first, like T1-L5, got {text!r}; mend it")
    return run


def cut_chain(chain: Chain, levels: Sequence[Level] = USUAL) -> Chain | None:
    """The longest stretch of a chain with none but these levels; None where there is no joint in it.

    A level that a scan lacks does not break a stretch: the joint across it is a hole to a model. One that is there and
    not among ``levels`` does, for the levels above and below it are no neighbours.
    """
    best, start = (0, 0), 0
    for rank, level in enumerate(chain.levels):
        start = start if level in levels else rank + 1
        best = max(best, (start, rank), key=lambda ends: ends[1] - ends[0])
    return chain.part(*best) if best[1] > best[0] else None


def count_joints(chains: Iterable[Chain]) -> Counter[tuple[Level, Level]]:
    """Number of chains that show each joint."""
    return Counter(joint for chain in chains for joint in chain.joints)


def covered_levels(chains: Sequence[Chain], levels: Sequence[Level] = USUAL) -> tuple[Level, ...]:
    """The longest run of some levels whose every joint two chains or more show; of equals the one shown most often.

    Raises
    ------
    ConfigError
        When no joint is.
    """
    shown = count_joints(piece for chain in chains if (piece := cut_chain(chain, levels)))
    best, start = (0, 0, 0, 0), 0
    for rank, joint in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        start = start if shown[joint] >= FEWEST else rank + 1
        joints = list(zip(levels[start : rank + 1], levels[start + 1 : rank + 2], strict=True))
        best = max(best, (len(joints), sum(shown[j] for j in joints), start, rank + 2))
    if not best[0]:
        raise ConfigError(
            f"pose model: expected two neighbours of {levels[0].name} to {levels[-1].name} that {FEWEST} cases or more "
            "show, got none; give more cases, or other --levels"
        )
    return tuple(levels[best[2] : best[3]])


def covered_chains(chains: Sequence[Chain], levels: Sequence[Level]) -> list[Chain | None]:
    """What each chain shows of a run of levels; None where that is no joint of neighbours."""
    joints = set(zip(levels[:-1], levels[1:], strict=True))
    pieces = [cut_chain(chain, levels) for chain in chains]
    return [piece if piece and joints & set(piece.joints) else None for piece in pieces]
