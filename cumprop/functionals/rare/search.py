"""Nearest points of an event, min |z| on g(z) = 0, from many starts; modes off the pilot's way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from cumprop.functionals.rare.passes import Excess
from cumprop.functionals.rare.proposal import Proposal
from cumprop.functionals.rare.splitting import Pilot, moved

Array = NDArray[Any]

WIDE = (2.0, 3.0)
"""Standard deviations of the points that look for modes off the pilot's way."""
_WIDE_POINTS = 4000
_STARTS = 24
"""Points driven to nearest ones, from the pilot, and from wide points if none is in the event."""
_MOST_HITS = 50
"""Points of each width in the event that are moved within it."""
_FIRST_MOVES, _MOVES = 30, 60
_ITERATIONS = 40
_LONGEST, _SLOWER = 2.0, 5.0
"""The longest step, and the number of steps after which they lose a share of their length."""
_HALVINGS = 12
_BEYOND = 1.05
"""Steps uphill lead a little beyond the tangent plane, so that points end within the event."""
_MATTERS = 0.01
"""The share of the pilot's probability below which a mode is ignored."""
_MOST_MODES, _MOST_TRIED = 12, 24
_TRIED, _FEWEST_HITS = 2000, 5
"""Samples around a mode, and the least number of them in the event."""
_OF_A_TIP = 1 / 4
_COMPARED = 100


def starts(excess: Excess, found: Pilot, rng: np.random.Generator) -> Array:
    """The pilot's particles nearest to 0, and wide points: those in the event, or nearest to it.

    A wide point in the event is replaced by the mean of its moves within the event, most of which
    stay in its mode: a mode without gradients is found so, too. Points that are not of the mode of
    a particle come first, and means that are not apart count once. Cost: 8,000 to 28,000 passes.
    """
    near = np.argsort((found.particles * found.particles).sum(axis=1))[:_STARTS]
    chosen = [found.particles[near]]
    for spread in WIDE:
        z = excess.draw(_WIDE_POINTS, rng) * excess.dtype.type(spread)
        g = excess(z)
        hits = np.flatnonzero(g > 0)
        if len(hits):
            alike = found.particles[(z[hits] @ found.particles.T).argmax(axis=1)]
            known = _of_one_mode(excess, z[hits], alike)
            hits = hits[np.argsort(known, kind="stable")][:_MOST_HITS]
            settled = _settled(excess, z[hits], g[hits], found.steps[-1].sizes[-1], rng)
            chosen.append(distinct(_by_distance(settled), _STARTS))
        else:
            chosen.append(z[np.argsort(-g)[: _STARTS // 2]])
    return np.concatenate(chosen)


def _settled(excess: Excess, z: Array, g: Array, size: float, rng: np.random.Generator) -> Array:
    """Means of points over moves in the event and over their mode, or the points where means are
    outside.
    """
    total = np.zeros(z.shape)
    for move in range(_FIRST_MOVES + _MOVES):
        moved(excess, z, g, 0.0, size, rng)
        if move >= _FIRST_MOVES:
            total += z / _MOVES
    settled = np.where(excess(total)[:, None] > 0, total, z)
    first, second = np.triu_indices(len(settled), 1)
    pairs = _of_one_mode(excess, settled[first], settled[second])
    of_one = np.eye(len(settled))
    of_one[first[pairs], second[pairs]] = of_one[second[pairs], first[pairs]] = 1
    means = of_one @ settled / of_one.sum(axis=1)[:, None]
    return np.where(excess(means)[:, None] > 0, means, settled)


def share_of_mode(excess: Excess, points: Array, particles: Array) -> Array:
    """The share of particles in the mode of each point in the event, (m,). Cost: 100 m passes."""
    some = particles[:: max(len(particles) // _COMPARED, 1)]
    of_one = _of_one_mode(
        excess, np.repeat(points, len(some), axis=0), np.tile(some, (len(points), 1))
    )
    shares: Array = of_one.reshape(len(points), len(some)).mean(axis=1)
    return shares


def _of_one_mode(excess: Excess, a: Array, b: Array) -> Array:
    """Whether points half way between points in the event, (m, n) each, are in it, too."""
    inside: Array = excess((a + b) / 2) > 0
    return inside


def nearest_points(excess: Excess, z: Array) -> Array:
    """Points in the event as near to 0 as steps from starts z, (m, n), lead; by distance, (≤ m, n).

    Outside the event, a step goes uphill to a little beyond the tangent plane of g = 0; within, it
    goes towards the nearest point of that plane (Hasofer and Lind, Rackwitz and Fiessler), by a
    share that falls. No step is longer than 2. Of the points in the event that a start came
    through, the nearest is drawn towards 0 as far as the event goes. Cost: 132 passes per start.
    """
    z = z.astype(np.float64)
    best, distances = z.copy(), np.full(len(z), np.inf)
    for iteration in range(_ITERATIONS):
        g, slope = excess.slopes(z)
        distance = np.sqrt((z * z).sum(axis=1))
        better = (g > 0) & (distance < distances)
        best[better], distances[better] = z[better], distance[better]
        steep = np.maximum((slope * slope).sum(axis=1), np.finfo(float).tiny)
        uphill = -_BEYOND * g / steep
        inwards = ((slope * z).sum(axis=1) - g) / steep
        share = 1 / (2 + iteration / _SLOWER)
        step = np.where(
            (g > 0)[:, None], share * (inwards[:, None] * slope - z), uphill[:, None] * slope
        )
        size = np.sqrt((step * step).sum(axis=1))
        z = z + step / np.maximum(size / _LONGEST, 1)[:, None]
    return _by_distance(_drawn_in(excess, best[np.isfinite(distances)]))


def modes(excess: Excess, z: Array) -> Array:
    """`nearest_points` from starts z, (m, n), and the starts in the event drawn straight towards 0.

    Steps may lead from a small mode, a needle, to one that is nearer. Cost: 145 passes per start.
    """
    inside = z[excess(z) > 0].astype(np.float64)
    return _by_distance(np.concatenate([nearest_points(excess, z), _drawn_in(excess, inside)]))


def _drawn_in(excess: Excess, inside: Array) -> Array:
    """Points in the event, moved towards 0 as far as it goes."""
    shorter, longer = np.zeros((len(inside), 1)), np.ones((len(inside), 1))
    for _ in range(_HALVINGS):
        middle = (shorter + longer) / 2
        hit = excess(middle * inside)[:, None] > 0
        shorter, longer = np.where(hit, shorter, middle), np.where(hit, middle, longer)
    points: Array = longer * inside
    return points


def _by_distance(points: Array) -> Array:
    return points[np.argsort((points * points).sum(axis=1))]


def with_modes(proposal: Proposal, points: Array, probability: float, trust: float) -> Proposal:
    """The proposal, joined by the points (m, n) that it does not cover.

    A point is covered where the proposal's density times `trust` · `probability` is above that of
    N(0, I).
    """
    for mode in points:
        if proposal.log_ratio(mode[None])[0] + np.log(trust * probability) < 0:
            proposal = proposal.joined(mode)
    return proposal


def likely_modes(
    excess: Excess, points: Array, probability: float, rng: np.random.Generator
) -> Array:
    """The points of (m, n), sorted by distance, that are modes of their own and hold 1% of P.

    A point m that bounds a half-space of less, Φ(−|m|), does not matter. Samples of N(m, I) have to
    hit the event a few times and to show that share: in many dimensions the nearest point may be
    the tip of a sliver that holds next to nothing. A point beside one that was taken is a copy,
    which would dilute the others; one close to a tip is a tip. Cost: 2,000 passes per point tried.
    """
    matter = ndtr(-np.sqrt((points * points).sum(axis=1))) > _MATTERS * probability
    chosen, tips = points[:0], points[:0]
    for point in points[matter]:
        if len(chosen) == _MOST_MODES or len(chosen) + len(tips) == _MOST_TRIED:
            break
        if _is_apart(point, chosen) and _is_apart(point, tips, _OF_A_TIP):
            z = excess.draw(_TRIED, rng).astype(np.float64) + point
            hits = z[excess(z) > 0]
            held = np.exp(point @ point / 2 - hits @ point).sum() / _TRIED
            if len(hits) >= _FEWEST_HITS and held > _MATTERS * probability:
                chosen = np.concatenate([chosen, point[None]])
            else:
                tips = np.concatenate([tips, point[None]])
    return chosen


def distinct(points: Array, number: int) -> Array:
    """The nearest of points (m, n), sorted by distance, that are apart from one another."""
    chosen = points[:0]
    for point in points:
        if len(chosen) < number and _is_apart(point, chosen):
            chosen = np.concatenate([chosen, point[None]])
    return chosen


def _is_apart(point: Array, others: Array, share: float = 1 / 2) -> bool:
    """Whether a point is farther from others, (m, n), than this share of its distance from 0."""
    distances = np.linalg.norm(others - point, axis=1)
    return bool((distances > share * np.linalg.norm(point)).all())
