"""Probabilistic principal components of rows with holes, by expectation and maximisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from spinesim.errors import ConfigError

ROUNDS, SETTLED = 500, 1e-7
"""Most rounds, and the change of the mean log-likelihood per number at which they end."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A Gaussian whose covariance is a few directions and noise: ``modes @ modes.T + noise_var * I``.

    Parameters
    ----------
    mean : (d,) array
    modes : (d, q) array
        Orthogonal columns, the widest first, each as long as its standard deviation (without the noise).
    noise_var : float
        Variance of what the modes do not tell, in each direction.
    """

    mean: Float[np.ndarray, " d"]
    modes: Float[np.ndarray, "d q"]
    noise_var: float

    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The whole covariance."""
        return self.modes @ self.modes.T + self.noise_var * np.eye(len(self.mean))

    def explained(self) -> Float[np.ndarray, " q"]:
        """Share of the whole variance that each mode tells."""
        total = (self.modes**2).sum() + self.noise_var * len(self.mean)
        return ((self.modes**2).sum(axis=0) + self.noise_var) / total

    def truncated(self, count: int) -> Gaussian:
        """The Gaussian with the first modes alone; the variance of the others goes into the noise.

        Of complete rows this is the fit of maximum likelihood with so many modes (Tipping & Bishop 1999, eq. 7 and 8).
        """
        variances = (self.modes**2).sum(axis=0) + self.noise_var
        left = len(self.mean) - self.modes.shape[1]
        noise = float(variances[count:].sum() + left * self.noise_var) / (len(self.mean) - count)
        shrunk = np.sqrt(np.maximum(variances[:count] - noise, 0.0) / (variances[:count] - self.noise_var))
        return Gaussian(self.mean, self.modes[:, :count] * shrunk, noise)

    def transform(self, row: Float[np.ndarray, " d"]) -> Float[np.ndarray, " q"]:
        """Expected mode weights (standard deviations) of a row; its NaNs are holes.

        Tipping & Bishop 1999, J R Stat Soc B 61:611, eq. 6, restricted to what is seen.
        """
        seen = np.isfinite(row)
        modes = self.modes[seen]
        inner = modes.T @ modes + self.noise_var * np.eye(modes.shape[1])
        return np.linalg.solve(inner, modes.T @ (row - self.mean)[seen])

    def inverse(self, weights: Float[np.ndarray, " q"]) -> Float[np.ndarray, " d"]:
        """The row of some mode weights."""
        return self.mean + self.modes @ weights

    def sample(self, count: int, *, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
        """Draw rows, noise included."""
        weights = rng.standard_normal((count, self.modes.shape[1]))
        noise = rng.standard_normal((count, len(self.mean)))
        return self.mean + weights @ self.modes.T + np.sqrt(self.noise_var) * noise

    def log_likelihood(self, row: Float[np.ndarray, " d"]) -> float:
        """Log density of what is seen of a row; its NaNs are holes."""
        seen = np.isfinite(row)
        modes, off = self.modes[seen], (row - self.mean)[seen]
        covariance = modes @ modes.T + self.noise_var * np.eye(len(off))
        root = np.linalg.cholesky(covariance)
        scaled = np.linalg.solve(root, off)
        return float(-0.5 * (scaled @ scaled + len(off) * np.log(2 * np.pi)) - np.log(np.diag(root)).sum())


def fit_gaussian(rows: Float[np.ndarray, "n d"], modes: int) -> Gaussian:
    """Fit mean, modes and noise to rows whose NaNs are holes (maximum likelihood).

    Expectation and maximisation of probabilistic PCA, each column over the rows that show it (Tipping & Bishop 1999;
    for holes Ilin & Raiko 2010, J Mach Learn Res 11:1957).

    Raises
    ------
    ConfigError
        When there are too few rows for the modes, or a column that fewer than two rows show.
    """
    seen = np.isfinite(rows)
    if not 1 <= modes < min(len(rows), rows.shape[1]):
        raise ConfigError(
            f"modes: expected from 1 to {min(len(rows), rows.shape[1]) - 1} with {len(rows)} rows of "
            f"{rows.shape[1]} numbers, got {modes}; give fewer, or more cases"
        )
    if (seen.sum(axis=0) < 2).any():
        raise ConfigError("rows: expected every number in two rows or more, got one in fewer; leave its level out")
    filled = np.where(seen, rows, 0.0)
    gaussian, last = _start(filled, seen, modes), -np.inf
    for _ in range(ROUNDS):
        gaussian = _improved(gaussian, filled, seen)
        now = float(np.mean([gaussian.log_likelihood(row) for row in np.where(seen, rows, np.nan)])) / rows.shape[1]
        if now - last < SETTLED:
            break
        last = now
    return _turned(gaussian)


def _start(filled: Float[np.ndarray, "n d"], seen: np.ndarray, modes: int) -> Gaussian:
    """Principal components of the rows with their holes at the mean."""
    mean = filled.sum(axis=0) / seen.sum(axis=0)
    centred = np.where(seen, filled - mean, 0.0)
    _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
    variances = sizes**2 / len(filled)
    noise = max(float(variances[modes:].sum()) / (filled.shape[1] - modes), 1e-8 * float(variances[0]))
    return Gaussian(mean, directions[:modes].T * np.sqrt(variances[:modes]), noise)


def _improved(old: Gaussian, filled: Float[np.ndarray, "n d"], seen: np.ndarray) -> Gaussian:
    """One round: expected weights of every row, then mean, modes and noise that fit them best."""
    count, modes = len(filled), old.modes.shape[1]
    weights, second = np.empty((count, modes + 1)), np.empty((count, modes + 1, modes + 1))
    for n in range(count):
        part = old.modes[seen[n]]
        spread = np.linalg.inv(part.T @ part / old.noise_var + np.eye(modes))
        expected = spread @ (part.T @ (filled[n] - old.mean)[seen[n]]) / old.noise_var
        weights[n] = np.append(expected, 1.0)
        second[n] = np.outer(weights[n], weights[n])
        second[n, :modes, :modes] += spread
    inner = np.einsum("nd,nij->dij", seen.astype(float), second)
    outer = np.where(seen, filled, 0.0).T @ weights
    solved = np.linalg.solve(inner, outer[..., None])[..., 0]
    square = (np.where(seen, filled, 0.0) ** 2).sum() - (solved * outer).sum()
    noise = max(float(square) / seen.sum(), 1e-12 * float((solved[:, :modes] ** 2).sum()))
    return Gaussian(solved[:, modes], solved[:, :modes], noise)


def _turned(gaussian: Gaussian) -> Gaussian:
    """The same Gaussian with orthogonal modes, the widest first, the largest number of each positive."""
    directions, sizes, _ = np.linalg.svd(gaussian.modes, full_matrices=False)
    return Gaussian(gaussian.mean, facing_up(directions * sizes), gaussian.noise_var)


def facing_up(modes: Float[np.ndarray, "d q"]) -> Float[np.ndarray, "d q"]:
    """The same columns, the largest number of each positive: a mode's sign says nothing."""
    return modes * np.sign(modes[np.abs(modes).argmax(axis=0), np.arange(modes.shape[1])])


@dataclass(frozen=True, eq=False)
class Mixture:
    """Kinds of rows, each a Gaussian with a name, which several may have, and a share; the shares sum up to 1."""

    names: tuple[str, ...]
    shares: Float[np.ndarray, " k"]
    kinds: tuple[Gaussian, ...]

    def only(self, name: str) -> Mixture:
        """The kinds whose name begins so, in their proportion.

        Raises
        ------
        ConfigError
            When there is none.
        """
        chosen = [rank for rank, own in enumerate(self.names) if own.lower().startswith(name.lower())]
        if not chosen or not name:
            known = ", ".join(dict.fromkeys(own.partition(",")[0] for own in self.names))
            raise ConfigError(f"kind: expected one of {known}, got {name!r}; choose one of them")
        shares = self.shares[chosen]
        picked = tuple(self.kinds[rank] for rank in chosen)
        return Mixture(tuple(self.names[rank] for rank in chosen), shares / shares.sum(), picked)

    def covariance(self) -> Float[np.ndarray, "d d"]:
        """The whole covariance: how far the kinds' means lie apart, and what is left in each."""
        means = np.stack([kind.mean for kind in self.kinds])
        off = means - self.shares @ means
        left = np.stack([kind.covariance() for kind in self.kinds])
        return (off.T * self.shares) @ off + np.tensordot(self.shares, left, axes=1)

    def sample(self, count: int, *, rng: np.random.Generator) -> Float[np.ndarray, "n d"]:
        """Draw rows, noise included."""
        drawn = rng.choice(len(self.kinds), size=count, p=self.shares)
        rows = np.empty((count, len(self.kinds[0].mean)))
        for rank, kind in enumerate(self.kinds):
            rows[drawn == rank] = kind.sample(int((drawn == rank).sum()), rng=rng)
        return rows

    def log_likelihood(self, row: Float[np.ndarray, " d"]) -> float:
        """Log density of what is seen of a row; its NaNs are holes."""
        parts = np.array([kind.log_likelihood(row) for kind in self.kinds]) + np.log(self.shares)
        return float(np.logaddexp.reduce(parts))


def weighted_gaussian(rows: Float[np.ndarray, "n d"], weights: Float[np.ndarray, " n"], modes: int) -> Gaussian:
    """The Gaussian of weighted rows, with some modes; what they leave goes into the noise."""
    share = weights / weights.sum()
    mean = share @ rows
    off = rows - mean
    return principal_gaussian(mean, (off.T * share) @ off, modes)


def principal_gaussian(mean: Float[np.ndarray, " d"], covariance: Float[np.ndarray, "d d"], modes: int) -> Gaussian:
    """The Gaussian of a mean and a covariance, with its widest modes; what they leave goes into the noise.

    Tipping & Bishop 1999, eq. 7 and 8. Directions of negative variance count as having none.
    """
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    noise = float(values[modes:].mean())
    kept = vectors[:, :modes] * np.sqrt(np.maximum(values[:modes] - noise, 0.0))
    return Gaussian(mean, facing_up(kept), noise)


def fit_principal(rows: Float[np.ndarray, "n d"], modes: int, spent: int = 1) -> Gaussian:
    """Fit a Gaussian about 0 to complete rows by their principal components: the same model, without rounds.

    Parameters
    ----------
    rows : (n, d) array
        Residuals; their mean, or more, was taken off before.
    spent : int
        Parameters that were taken off, for the variances to be free of bias.

    Raises
    ------
    ConfigError
        When there are too few rows for the modes.
    """
    free = len(rows) - spent
    if not 1 <= modes <= min(free, rows.shape[1] - 1):
        raise ConfigError(
            f"modes: expected from 1 to {min(free, rows.shape[1] - 1)} with {len(rows)} cases of which {spent} are "
            f"spent on means and covariates, got {modes}; give fewer, or more cases"
        )
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
    variances = sizes**2 / free
    noise = max(float(variances[modes:].sum()) / (rows.shape[1] - modes), 1e-12 * float(variances[0]))
    lengths = np.sqrt(np.maximum(variances[:modes] - noise, 0.0))
    return Gaussian(np.zeros(rows.shape[1]), facing_up(directions[:modes].T) * lengths, noise)
