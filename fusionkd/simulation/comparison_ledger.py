"""Statistics that are gathered frame by frame, and how far two of them lie apart."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

Kind = Literal["histogram", "profile"]
TINY: Final = 1e-12


@dataclass(frozen=True)
class Difference:
    """One statistic of two worlds side by side.

    Attributes:
        name: Of the statistic; the part before the first slash is its group.
        kind: ``histogram``: shares of bins that sum to one; ``profile``: one mean for each label.
        labels: (K,) bins or what each mean stands for.
        real: (K,) values of the first world.
        simulated: (K,) values of the second one.
        distance: From 0, equal, to 1, nothing in common. Jensen-Shannon distance to base 2 of two histograms; of two
            profiles the sum of absolute differences over the sum of absolute values.
        wasserstein: 1-Wasserstein distance of two histograms in the unit of their values, from bin middles; else None.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    real: tuple[float, ...]
    simulated: tuple[float, ...]
    distance: float
    wasserstein: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "kind": self.kind,
            "distance": round(self.distance, 4),
            "wasserstein": None if self.wasserstein is None else round(self.wasserstein, 4),
            "labels": list(self.labels),
            "real": [round(value, 5) for value in self.real],
            "simulated": [round(value, 5) for value in self.simulated],
        }


@dataclass
class _Entry:
    kind: Kind
    labels: tuple[str, ...]
    middles: NDArray[np.float64]
    total: NDArray[np.float64]
    weight: NDArray[np.float64]


class Ledger:
    """Sums of one world's statistics."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def count(self, name: str, values: NDArray[Any], edges: NDArray[np.float64]) -> None:
        """Add values to a histogram; what lies outside the edges counts in the outermost bins."""
        inside = np.clip(np.asarray(values, dtype=np.float64), edges[0], np.nextafter(edges[-1], -np.inf))
        counts = np.histogram(inside, edges)[0].astype(np.float64)
        labels = tuple(f"{low:g}-{high:g}" for low, high in pairwise(edges))
        entry = self._entry(name, "histogram", labels, (edges[:-1] + edges[1:]) / 2)
        entry.total += counts
        entry.weight += 1.0

    def mean(
        self, name: str, labels: tuple[str, ...], values: NDArray[Any], weight: NDArray[Any] | float = 1.0
    ) -> None:
        """Add to a profile: ``values`` are sums over ``weight`` items each (K,)."""
        entry = self._entry(name, "profile", labels, np.arange(len(labels), dtype=np.float64))
        entry.total += np.asarray(values, dtype=np.float64)
        entry.weight += np.broadcast_to(np.asarray(weight, dtype=np.float64), entry.weight.shape)

    def _entry(self, name: str, kind: Kind, labels: tuple[str, ...], middles: NDArray[np.float64]) -> _Entry:
        if name not in self._entries:
            self._entries[name] = _Entry(kind, labels, middles, np.zeros(len(labels)), np.zeros(len(labels)))
        return self._entries[name]

    def against(self, simulated: "Ledger") -> tuple[list[Difference], list[str]]:
        """Differences, the largest first, and the names that only one of both has."""
        both = [name for name in self._entries if name in simulated._entries]
        lonely = sorted(set(self._entries) ^ set(simulated._entries))
        found = [_difference(name, self._entries[name], simulated._entries[name]) for name in both]
        known = [difference for difference in found if difference is not None]
        lonely += sorted(set(both) - {difference.name for difference in known})
        return sorted(known, key=lambda difference: -difference.distance), lonely


def _difference(name: str, real: _Entry, simulated: _Entry) -> Difference | None:
    """None where nothing can be compared."""
    if real.kind == "histogram":
        if real.total.sum() == 0 or simulated.total.sum() == 0:
            return None
        a, b = real.total / real.total.sum(), simulated.total / simulated.total.sum()
        distance = float(jensenshannon(a, b, base=2))
        moved = float(wasserstein_distance(real.middles, real.middles, a, b))
        return Difference(name, "histogram", real.labels, tuple(a), tuple(b), distance, moved)
    there = np.flatnonzero((real.weight > 0) & (simulated.weight > 0))
    if len(there) == 0:
        return None
    a, b = real.total[there] / real.weight[there], simulated.total[there] / simulated.weight[there]
    distance = float(np.abs(a - b).sum() / max(float((np.abs(a) + np.abs(b)).sum()), TINY))
    return Difference(name, "profile", tuple(real.labels[i] for i in there), tuple(a), tuple(b), distance, None)
