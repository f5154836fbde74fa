"""Draw the shipped models' training curves, ``fusionkd/models/zoo/NAME_curve.json``, to docs/curves.svg."""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

REPOSITORY = Path(__file__).resolve().parent.parent
ZOO = REPOSITORY / "fusionkd" / "models" / "zoo"


def main() -> None:
    """One panel per model: the sum of its losses, and the largest of them."""
    curves = {
        path.stem.removesuffix("_curve"): json.loads(path.read_text()) for path in sorted(ZOO.glob("*_curve.json"))
    }
    figure, panels = plt.subplots(1, len(curves), figsize=(4.2 * len(curves), 3.2), layout="constrained", squeeze=False)
    for axes, (name, entries) in zip(panels[0], curves.items()):
        steps = [entry["step"] for entry in entries]
        last = entries[-1]
        parts = sorted((key for key in last if key not in ("step", "loss")), key=lambda key: -last[key])[:4]
        for key in ("loss", *parts):
            axes.plot(steps, [entry.get(key) for entry in entries], label=key, linewidth=1.2)
        axes.set_yscale("log")
        axes.set_title(f"zoo:{name}, simulated", fontsize=10)
        axes.set_xlabel("steps")
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(REPOSITORY / "docs" / "curves.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
