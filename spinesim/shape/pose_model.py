"""The articulated pose model: a Gaussian over the joints of a spine about their Fréchet mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from spinesim.anatomy.levels import Level
from spinesim.anatomy.vertebra import Spine
from spinesim.errors import ConfigError
from spinesim.shape.chain import Chain, Joint
from spinesim.shape.latent import Gaussian, Mixture, fit_gaussian

MM_PER_RADIAN = 30.0
"""The metric: a turn of one radian counts as much as 30 mm, what it moves at the rim of a vertebra."""

ROUNDS = 50
"""Most rounds of the mean rotation; three are usual."""


@dataclass(frozen=True, eq=False)
class PoseModel:
    """How neighbouring vertebrae stand on each other in a population.

    A chain becomes a row of six numbers a joint, from the head down: the rotation vector that leads from the mean pose
    to the chain's, in the axes of the lower vertebra (right, anterior, superior) and times ``MM_PER_RADIAN``, then the
    translation less its mean. All are mm; a joint that a chain lacks is six NaNs.

    Parameters
    ----------
    levels : tuple of Level
        From the head down.
    mean : (m, 4, 4) array
        Fréchet mean of each joint, ``lower_from_upper``.
    gaussian : Gaussian
        Of the rows.
    cases : int
        Spines that it was fitted to.
    mixture : Mixture, optional
        Kinds of spines that the population is made of; without them it is one kind, ``gaussian``.
    anatomy : Spine, optional
        Mean vertebra of each level, in its own frame (origin at the centre, unit axes): its plates turn poses into
        angles. None where only poses were given.

    References
    ----------
    Boisvert J et al. (2008). IEEE Trans Med Imaging 27:557-568.
    """

    levels: tuple[Level, ...]
    mean: Float[np.ndarray, "m 4 4"]
    gaussian: Gaussian
    cases: int
    anatomy: Spine | None = None
    mixture: Mixture | None = None

    @property
    def joints(self) -> tuple[Joint, ...]:
        """The neighbours, from the head down."""
        return tuple(zip(self.levels[:-1], self.levels[1:], strict=True))

    def restricted(self, levels: Sequence[Level]) -> PoseModel:
        """The same model for some neighbouring levels of it: what it says of them alone."""
        first = self.levels.index(levels[0])
        part = slice(first, first + len(levels) - 1)
        inside = slice(6 * part.start, 6 * part.stop)
        gaussian = Gaussian(self.gaussian.mean[inside], self.gaussian.modes[inside], self.gaussian.noise_var)
        anatomy = self.anatomy and Spine(tuple(self.anatomy[level] for level in levels))
        return PoseModel(tuple(levels), self.mean[part], gaussian, self.cases, anatomy)

    def encode(self, chain: Chain) -> Float[np.ndarray, " d"]:
        """Write a chain as a row; its joints that the model does not know are left out."""
        return _rows([chain], self.joints, self.mean)[0]

    def decode(self, rows: Float[np.ndarray, "*b d"]) -> Float[np.ndarray, "*b m 4 4"]:
        """Read the joints, ``lower_from_upper``, back from rows."""
        parts = rows.reshape(*rows.shape[:-1], len(self.mean), 6)
        turn = Rotation.from_rotvec(parts[..., :3].reshape(-1, 3) / MM_PER_RADIAN).as_matrix()
        joints = np.zeros((*parts.shape[:-1], 4, 4))
        joints[..., :3, :3] = turn.reshape(*parts.shape[:-1], 3, 3) @ self.mean[:, :3, :3]
        joints[..., :3, 3] = self.mean[:, :3, 3] + parts[..., 3:]
        joints[..., 3, 3] = 1.0
        return joints

    def transform(self, chain: Chain) -> Float[np.ndarray, " q"]:
        """Mode weights of a chain, in standard deviations."""
        return self.gaussian.transform(self.encode(chain))

    def inverse(self, weights: Float[np.ndarray, " q"], base: Float[np.ndarray, "4 4"]) -> Chain:
        """The chain of some mode weights, its lowest level at ``base``."""
        return Chain(self.levels, self.decode(self.gaussian.inverse(weights)), base)

    def sample(self, count: int, base: Float[np.ndarray, "4 4"], *, rng: np.random.Generator) -> list[Chain]:
        """Draw chains, their lowest level at ``base``."""
        return [Chain(self.levels, joints, base) for joints in self.decode(self.population.sample(count, rng=rng))]

    @property
    def population(self) -> Gaussian | Mixture:
        """What rows are drawn from."""
        return self.mixture or self.gaussian

    def only(self, kind: str) -> PoseModel:
        """The same model of one kind of spines alone, by the beginning of its name.

        Raises
        ------
        ConfigError
            When the model has no such kind.
        """
        if self.mixture is None:
            raise ConfigError(f"kind: expected a model with kinds, got one without them for {kind!r}; leave it out")
        return replace(self, mixture=self.mixture.only(kind))

    def log_likelihood(self, chain: Chain) -> float:
        """Log density of the joints that a chain and the model share (rows in mm)."""
        return self.population.log_likelihood(self.encode(chain))


def fit_pose_model(chains: Sequence[Chain], modes: int) -> PoseModel:
    """Fit a model to chains that need not show the same levels.

    Every joint between neighbours of the chains' levels must be shown by two chains or more; where a chain leaves a
    level out, the joints on both sides of it are holes.

    Raises
    ------
    ConfigError
        When a joint is shown by fewer than two chains, or there are too few chains for the modes.
    """
    levels = tuple(sorted({level for chain in chains for level in chain.levels}))
    joints = tuple(zip(levels[:-1], levels[1:], strict=True))
    for joint in joints:
        shown = sum(joint in chain.joints for chain in chains)
        if shown < 2:
            raise ConfigError(
                f"pose model: expected two cases or more with {joint[0].name} on {joint[1].name}, got {shown}; "
                "leave one of the levels out"
            )
    mean = np.stack(
        [_mean_pose([c.lower_from_upper[c.joints.index(j)] for c in chains if j in c.joints]) for j in joints]
    )
    return PoseModel(levels, mean, fit_gaussian(_rows(chains, joints, mean), modes), len(chains))


def _rows(
    chains: Sequence[Chain], joints: tuple[Joint, ...], mean: Float[np.ndarray, "m 4 4"]
) -> Float[np.ndarray, "n d"]:
    """Write chains as rows about a mean."""
    rows = np.full((len(chains), len(joints), 6), np.nan)
    for row, chain in zip(rows, chains, strict=True):
        for joint, pose in zip(chain.joints, chain.lower_from_upper, strict=True):
            if joint in joints:
                rank = joints.index(joint)
                turn = Rotation.from_matrix(pose[:3, :3] @ mean[rank, :3, :3].T).as_rotvec()
                row[rank] = *MM_PER_RADIAN * turn, *(pose - mean[rank])[:3, 3]
    return rows.reshape(len(chains), -1)


def _mean_pose(poses: Sequence[Float[np.ndarray, "4 4"]]) -> Float[np.ndarray, "4 4"]:
    """Fréchet mean of rigid poses: of the rotations on their manifold (Pennec 2006), of the translations as usual."""
    turns, mean = Rotation.from_matrix([pose[:3, :3] for pose in poses]), np.eye(4)
    middle = turns.mean()
    for _ in range(ROUNDS):
        step = (turns * middle.inv()).as_rotvec().mean(axis=0)
        middle = Rotation.from_rotvec(step) * middle
        if np.linalg.norm(step) < 1e-12:
            break
    mean[:3, :3], mean[:3, 3] = middle.as_matrix(), np.mean([pose[:3, 3] for pose in poses], axis=0)
    return mean
