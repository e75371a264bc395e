"""Empirical Bayes: every programmer's own parameters, drawn towards the population's by as much as their data leave open.

Rows of user u follow y = x·θ_u + ε with Var ε = σ², and θ_u ~ N(θ, Σ): a linear mixed model (Laird and Ware,
"Random-Effects Models for Longitudinal Data", Biometrics 1982). σ² and Σ are fitted by expectation-maximisation and θ by
generalised least squares; then

    θ_u | data = θ + V_u Xᵤᵀ(y − Xᵤθ)/σ²,      V_u = (XᵤᵀXᵤ/σ² + Σ⁻¹)⁻¹.

Without rows this is θ itself; with ever more rows it goes to the user's own least squares. Σ cannot be told from a handful
of users, so it starts from a prior spread that counts as much as `PRIOR_USERS` users (an inverse Wishart prior), which also
keeps it off zero.

Only sums per user are needed: one pass over the rows, whatever their number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PRIOR_USERS: Final = 3.0
"""As many users the prior spread counts for: below this many, the spread is mostly the prior's."""
STEPS: Final = 100
"""Most steps of expectation-maximisation; it ends earlier where nothing moves by more than `TOLERANCE` of itself."""
TOLERANCE: Final = 1e-7
_SMALLEST: Final = 1e-12


@dataclass(frozen=True, slots=True)
class Sums:
    """What the rows of each of U users say about K parameters."""

    xx: Floats
    """Σ w·x·xᵀ, (U, K, K)."""
    xy: Floats
    """Σ w·x·y, (U, K)."""
    yy: Floats
    """Σ w·y², (U,)."""
    count: Floats
    """Σ w, (U,); 0 = nothing is known of this user."""


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The fitted population and what it makes of each of U users."""

    population: Floats
    """θ, (K,)."""
    population_cov: Floats
    """Covariance of the estimate of θ, (K, K)."""
    between: Floats
    """Σ: how users differ, (K, K)."""
    noise: float
    """σ²."""
    own: Floats
    """Posterior means θ_u, (U, K); exactly θ where a user has no rows."""
    own_cov: Floats
    """Posterior covariances V_u, (U, K, K)."""


def sums(x: Floats, y: Floats, weight: Floats, member: NDArray[np.intp], users: int) -> Sums:
    """Sums of rows `x` (n, K), `y` (n,) of `member` (n,) in 0 … users − 1.

    The weights are scaled to add up to Kish's effective number of rows: a row that stands for twenty is still one observation.
    """
    squares = float(np.square(weight).sum())
    w = weight * (float(weight.sum()) / squares) if squares > 0 else weight

    def added(values: Floats) -> Floats:
        return np.asarray(np.bincount(member, values, minlength=users), dtype=np.float64)

    width = x.shape[1]
    xx = np.empty((users, width, width))
    for i in range(width):
        for j in range(i + 1):
            xx[:, i, j] = xx[:, j, i] = added(w * x[:, i] * x[:, j])
    xy = np.stack([added(w * x[:, i] * y) for i in range(width)], axis=1)
    return Sums(xx, xy, added(w * np.square(y)), added(w))


def shrink(data: Sums, between_prior: Floats, *, start: Shrunk | None = None, steps: int = STEPS) -> Shrunk:
    """Fit the mixed model. `between_prior` (K, K), positive definite: how users differ as far as one knows beforehand.

    At least one user needs rows. `start` is an earlier fit to almost the same data, from which fewer `steps` do.
    """
    if start is None:
        pooled = np.linalg.lstsq(data.xx.sum(axis=0), data.xy.sum(axis=0), rcond=None)[0]
        noise = max(_SMALLEST, _misfit(data, np.broadcast_to(pooled, data.xy.shape)) / float(data.count.sum()))
        state = _expect(data, between_prior, noise)
    else:
        state = _expect(data, start.between, start.noise)
    known = data.count > 0
    users = float(known.sum())
    for _ in range(steps):
        apart = state.own[known] - state.population
        spread = state.own_cov[known].sum(axis=0) + apart.T @ apart
        between = (PRIOR_USERS * between_prior + spread) / (PRIOR_USERS + users)
        open_ = float(np.einsum("uij,uji->", data.xx, state.own_cov))
        noise = max(_SMALLEST, (_misfit(data, state.own) + open_) / float(data.count.sum()))
        after = _expect(data, between, noise)
        moved = np.abs(after.population - state.population) <= TOLERANCE * np.abs(after.population)
        settled = np.abs(after.between - state.between) <= 100 * TOLERANCE * np.abs(after.between).max()
        state = after
        if moved.all() and settled.all():
            break
    return state


def _expect(data: Sums, between: Floats, noise: float) -> Shrunk:
    """θ by generalised least squares and every user's posterior, where Σ and σ² are given."""
    precision, pull = data.xx / noise, data.xy / noise
    inverse = _inverse(between)
    own_cov = _inverse(precision + inverse)
    identity = np.eye(len(inverse))
    left = identity - precision @ own_cov  # (Σ + P⁻¹)⁻¹ = P − P·V·P, also where P has no inverse
    population_cov = _inverse((left @ precision).sum(axis=0))
    population = population_cov @ np.einsum("uij,uj->i", left, pull)
    own = np.einsum("uij,uj->ui", own_cov, pull + inverse @ population)
    own[data.count == 0] = population
    return Shrunk(population, population_cov, between, noise, own, own_cov)


def _inverse(matrices: Floats) -> Floats:
    """Inverses of symmetric positive definite (…, K, K), for K ≤ 2 in closed form: four times as fast for many users."""
    width = matrices.shape[-1]
    if width > 2:
        return np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    if width == 1:
        return 1 / matrices
    a, b, d = matrices[..., 0, 0], matrices[..., 0, 1], matrices[..., 1, 1]
    inverse = np.empty_like(matrices)
    inverse[..., 0, 0], inverse[..., 1, 1], inverse[..., 0, 1] = d, a, -b
    inverse[..., 1, 0] = inverse[..., 0, 1]
    return inverse / (a * d - b * b)[..., None, None]


def _misfit(data: Sums, own: Floats) -> float:
    """Σ (y − x·θ_u)², never below 0."""
    explained = 2 * np.einsum("ui,ui->u", own, data.xy) - np.einsum("ui,uij,uj->u", own, data.xx, own)
    return max(0.0, float((data.yy - explained).sum()))


def not_negative(own: Floats, own_cov: Floats) -> Floats:
    """The most probable pairs (U, 2) of two numbers ≥ 0 under normals of means `own` (U, 2) and covariances `own_cov`."""
    precision = _inverse(own_cov)
    a, b = own[:, 0], own[:, 1]
    without_a = np.maximum(0.0, b + precision[:, 0, 1] / precision[:, 1, 1] * a)
    without_b = np.maximum(0.0, a + precision[:, 0, 1] / precision[:, 0, 0] * b)
    edges = np.stack([np.stack([np.zeros_like(a), without_a], 1), np.stack([without_b, np.zeros_like(b)], 1)])
    apart = edges - own
    distance = np.einsum("eui,uij,euj->eu", apart, precision, apart)
    nearest = np.where((distance[0] <= distance[1])[:, None], edges[0], edges[1])
    return np.where(((a >= 0) & (b >= 0))[:, None], own, nearest)
