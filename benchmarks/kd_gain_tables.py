"""Tables and a plot of what ``kd_gain.py`` has trained so far."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from common import Row, t_interval, write_result
from kd_gain_arms import STEPS, TEACHER_SETS, TERMS, TWINS
from kd_gain_family import DELIVERIES, FAMILIES, WEIGHTINGS
from numpy.typing import NDArray

matplotlib.use("Agg")
from matplotlib import pyplot as plt

FIGURES = ("mAP", "NDS", "mATE", "mASE", "mAOE", "mAVE", "mAAE")
SUFFIXES = ("-x2", "-x4", "-all-labels")
"""Arms of such a name have a control of their own."""
TARGETS = {"": 5.0, "-all-labels": 2.0}
PLOT = Path(__file__).resolve().parent.parent / "docs" / "kd_gain.svg"
Results = dict[int, dict[str, Any]]
"""Of one arm, by seed."""


def write_tables(kept: Path, *, control: str, distilled: str) -> None:
    """Print and write the tables and the plot.

    Args:
        kept: Folder of the finished trainings.
        control: Name of the tuned control's arm.
        distilled: Name of the tuned distilled arm.
    """
    found = _finished(kept)
    write_result("kd_gain", gain_rows(found, control=control, distilled=distilled), simulated=True)
    differences = arm_rows(found, control=control)
    write_result("kd_gain_arms", differences, simulated=True)
    write_result("kd_gain_classes", class_rows(found[control], found[distilled]), simulated=True)
    plot(differences, PLOT)


def _finished(kept: Path) -> dict[str, Results]:
    found: dict[str, Results] = {}
    for path in sorted(kept.glob("*-seed*.json")):
        result = json.loads(path.read_text())
        found.setdefault(result["arm"], {})[result["seed"]] = result
    return found


def gain_rows(found: dict[str, Results], *, control: str, distilled: str) -> list[Row]:
    """Both arms' means, and their paired differences by seed and by scene."""
    rows = []
    one, other = found[distilled], found[control]
    seeds = sorted(one.keys() & other.keys())
    for figure in FIGURES:
        ours, theirs = (float(np.mean([of[seed]["figures"][figure] for seed in seeds])) for of in (one, other))
        better = "higher" if figure in ("mAP", "NDS") else "lower"
        rows.append(Row(f"{figure}, distilled", ours, "", "tuned control", theirs, better=better))
    for suffix in ("", *SUFFIXES):
        here, there = found.get(distilled + suffix, {}), found.get(control + suffix, {})
        shared = sorted(here.keys() & there.keys())
        if not shared:
            rows += [Row(f"distilled minus control{suffix}: not run yet", None, "points")]
            continue
        for figure in ("mAP", "NDS"):
            gain = paired(here, there, figure)
            what = f"{figure}, distilled minus control{suffix}, {_seeds(shared)}"
            target = TARGETS.get(suffix) if figure == "NDS" else None
            rows.append(Row(what, float(gain.mean()), "points", target=target, interval=t_interval(gain)))
            low, high = scene_interval(here, there, figure)
            rows.append(Row(f"{what}: over scenes", float(gain.mean()), "points", interval=(low, high)))
    return rows


def arm_rows(found: dict[str, Results], *, control: str) -> list[Row]:
    """Every arm minus the control that has as many labels and steps."""
    rows = []
    for name in sorted(found):
        suffix = next((end for end in SUFFIXES if name.endswith(end)), "")
        other = found.get(control + suffix, {})
        shared = found[name].keys() & other.keys()
        if name == control + suffix or not shared:
            continue
        for figure in ("mAP", "NDS"):
            gain = paired(found[name], other, figure)
            what = f"{name} minus control{suffix}, {figure}, {_seeds(shared)}"
            rows.append(Row(what, float(gain.mean()), "points", interval=t_interval(gain)))
    wanted = [*TEACHER_SETS, *(f"only-{term}" for term in TERMS), *(f"twin-{term}" for term in TWINS)]
    wanted += [f"alone-{name}" for kinds in FAMILIES.values() for name in kinds]
    wanted += [f"weighting-{name}" for name in WEIGHTINGS] + [f"delivery-{name}" for name in DELIVERIES]
    rows += [Row(f"{name}: not run yet", None, "points") for name in wanted if not _any_named(found, name)]
    return rows


def class_rows(control: Results, distilled: Results) -> list[Row]:
    """AP per class and range, means over the seeds that both have."""
    rows = []
    seeds = sorted(control.keys() & distilled.keys())
    for part in ("AP", "AP by range"):
        for key in control[seeds[0]][part]:
            ours, theirs = (
                100 * float(np.mean([of[seed][part][key] for seed in seeds])) for of in (distilled, control)
            )
            rows.append(Row(f"{part}, {key}: distilled", ours, "points", "tuned control", theirs))
    return rows


def paired(one: Results, other: Results, figure: str) -> NDArray[np.float64]:
    """One arm minus another per seed that both have, in points of a hundred."""
    seeds = sorted(one.keys() & other.keys())
    return np.array([100 * (one[seed]["figures"][figure] - other[seed]["figures"][figure]) for seed in seeds])


def scene_interval(one: Results, other: Results, figure: str) -> tuple[float, float]:
    """95 % interval of the mean difference over resampled validation scenes, in points."""
    seeds = sorted(one.keys() & other.keys())
    drawn = [np.subtract(one[seed]["resampled"][figure], other[seed]["resampled"][figure]) for seed in seeds]
    low, high = np.percentile(100 * np.mean(drawn, axis=0), [2.5, 97.5])
    return float(low), float(high)


def plot(rows: list[Row], path: Path) -> None:
    """Differences in NDS with their intervals over seeds."""
    shown = [row for row in rows if ", NDS," in row.what]
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(shown) + 1.2), layout="constrained")
    for place, row in enumerate(reversed(shown)):
        assert row.value is not None
        axes.plot(row.value, place, "o", color="#1f5f8b")
        if row.interval is not None:
            axes.plot(row.interval, [place, place], color="#1f5f8b")
    axes.axvline(0, color="0.6", linewidth=1)
    axes.set_yticks(range(len(shown)), [row.what.replace(", NDS", "") for row in reversed(shown)], fontsize=8)
    axes.set_xlabel(f"NDS points over the control, simulated, {STEPS} steps", fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _seeds(shared: Collection[int]) -> str:
    return f"{len(shared)} seed{'s' * (len(shared) > 1)}"


def _any_named(found: dict[str, Results], name: str) -> bool:
    return any(arm == name or arm.startswith((f"{name}-lr", f"{name}-augmented-lr")) for arm in found)
