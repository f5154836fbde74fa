"""Frame times with known truth and the noise of real machines, for tests of the gate."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

BASE_NS = 2e7


@dataclass(frozen=True)
class Noise:
    """What disturbs frames of 20 ms, as shares of their time.

    ``frame`` is independent from frame to frame, ``wander`` depends on the last frames (AR(1), 0.98), ``heating`` is a
    trend over the run up or down. The first neighbour comes by chance for some fifteen frames and slows them by 60 %,
    the second comes at regular times and slows by 15 %. ``spikes`` of the frames take longer by a Pareto law without
    a variance. ``layout`` is what each process of a program keeps for as long as it lives.
    """

    frame: float = 0.03
    wander: float = 0.0
    heating: float = 0.0
    neighbour: float = 0.0
    regular: float = 0.0
    spikes: float = 0.0
    layout: float = 0.0


QUIET = Noise()
DRIFT = Noise(wander=0.04, heating=0.10)
NEIGHBOURS = Noise(neighbour=0.08, regular=0.15)
TAILS = Noise(spikes=0.01)
LAYOUT = Noise(layout=0.015)
ALL = Noise(wander=0.04, heating=0.10, neighbour=0.08, regular=0.15, spikes=0.01, layout=0.015)


def machine(rng: np.random.Generator, noise: Noise, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(runs, frames) nanoseconds of one program, frame after frame."""
    runs, frames = shape
    log = rng.normal(0, noise.frame, shape)
    log += noise.wander * np.sqrt(1 - 0.98**2) * lfilter([1], [1, -0.98], rng.normal(size=shape), axis=1)
    times = BASE_NS * np.exp(log)
    times *= 1 + noise.heating * np.linspace(0, 1, frames) * rng.choice([-1, 1], (runs, 1))
    times *= 1 + 0.6 * _visits(rng, noise.neighbour / 15, shape)
    phase = rng.integers(0, 37, (runs, 1))
    times *= 1 + noise.regular * ((np.arange(frames) + phase) % 37 < 15)
    spiked = rng.random(shape) < noise.spikes
    return np.asarray(times * np.where(spiked, 1 + 0.5 * rng.pareto(1.5, shape).clip(0, 30), 1))


def in_turns(
    rng: np.random.Generator, noise: Noise, runs: int, *, starts: int, rounds: int = 20, slow_down: float = 1.0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(runs, starts * rounds, 1) of a candidate and of a baseline; the order of every round is a coin toss."""
    pairs = machine(rng, noise, (runs, 2 * starts * rounds)).reshape(runs, starts * rounds, 2)
    first = rng.integers(0, 2, (runs, starts * rounds, 1))
    sides = []
    for order, factor in ((first, slow_down), (1 - first, 1.0)):
        layout = np.exp(rng.normal(0, noise.layout, (runs, starts, 1))).repeat(rounds, axis=1)
        sides.append((np.take_along_axis(pairs, order, axis=2) * layout * factor).astype(np.int64))
    return sides[0], sides[1]


def _visits(rng: np.random.Generator, rate: float, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(runs, frames) 1 while the neighbour is there: stays of geometric length from arrivals at a rate."""
    arrives = rng.random(shape) < rate
    stays = rng.geometric(1 / 15, shape)
    until = np.maximum.accumulate(np.where(arrives, np.arange(shape[1]) + stays, 0), axis=1)
    return (np.arange(shape[1]) < until).astype(np.float64)
