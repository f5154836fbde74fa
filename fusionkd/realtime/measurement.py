"""One run for a contract: the trace, and what the device told meanwhile."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

from fusionkd.deploy import Pipeline
from fusionkd.realtime.contract import DeadlineContract
from fusionkd.realtime.frames import FrameSource
from fusionkd.realtime.profile import Plan, profile
from fusionkd.realtime.scenarios import Overrun
from fusionkd.realtime.statistics import frames_needed
from fusionkd.realtime.steady import FEWEST_FRAMES
from fusionkd.realtime.telemetry import ProcessMemory, Telemetry
from fusionkd.realtime.trace import LatencyTrace, columns_of

_FIGURES = ("nds", "map")


def plan_for(contract: DeadlineContract, *, frames: int | None, warm_up: int | None) -> Plan:
    """What to measure for a contract.

    Args:
        contract: Names scenario, rate and overrun policy.
        frames: How many; None takes as many as prove the percentile if none is late, and tell a steady state.
        warm_up: Frames before those that count; None for the test of a steady state.
    """
    return Plan(
        frames=max(frames_needed(contract.percentile, contract.confidence), FEWEST_FRAMES)
        if frames is None
        else frames,
        scenario=contract.scenario,
        rate_hz=contract.rate_hz,
        overrun=cast(Overrun, contract.overrun or "skip"),
        warm_up=warm_up,
    )


def measure(
    pipeline: Pipeline,
    source: FrameSource,
    contract: DeadlineContract,
    *,
    plan: Plan,
    telemetry: Telemetry,
    about: Mapping[str, Any],
    progress: Callable[[str], object] = lambda text: None,
) -> LatencyTrace:
    """Measure a pipeline for a contract.

    Telemetry and memory are those of the frames behind the warm-up.

    Args:
        pipeline: What is measured.
        source: Frames to measure with.
        contract: Its stages must be those of the pipeline.
        plan: Of ``plan_for``.
        telemetry: Of the device.
        about: What the trace shall say beside what the profile knows: plain values.
        progress: Told in words what goes on.

    Returns:
        The trace; its ``about`` holds memory, telemetry and energy too, so that ``judge_recorded`` can judge it.

    Raises:
        UserError: If the contract names a stage that the pipeline doesn't have, or the pipeline can't run.
    """
    memory = ProcessMemory(pipeline.network.device)
    listened_to: list[int] = []

    def begins(stages: tuple[str, ...], frames: int) -> None:
        check_stages(contract, stages)
        memory.start()
        telemetry.start()
        listened_to.append(frames)

    try:
        trace = profile(pipeline, source.frames, plan, progress=progress, begins=begins)
    except BaseException:
        if listened_to:
            telemetry.stop()
        raise
    reading, peak = telemetry.stop(), memory.stop()
    known = {
        **trace.about,
        **about,
        "input": source.about,
        "simulated": source.simulated,
        "held_mib": round(source.held_mib, 1),
        "memory": asdict(peak),
        "telemetry": {**asdict(reading), "clocks_mhz": dict(reading.clocks_mhz)},
        "energy_mj_per_frame": reading.energy_mj_per_frame(listened_to[0]),
    }
    return replace(trace, about=known)


def check_stages(contract: DeadlineContract, stages: tuple[str, ...]) -> None:
    """Refuse a contract with a stage that isn't there, before hours are spent on measuring.

    Args:
        contract: Its ``stages_ms`` may name stages, groups or last parts.
        stages: Of the pipeline.

    Raises:
        UserError: It names the stages that there are.
    """
    for name in contract.stages_ms:
        columns_of(stages, name)


def figures_of(recorded: Mapping[str, float]) -> dict[str, float]:
    """Those of a model's recorded figures that a contract may limit."""
    return {name.lower(): float(value) for name, value in recorded.items() if name.lower() in _FIGURES}


def name_of(checkpoint: str) -> str:
    """A checkpoint's name for reports: no folder of this machine."""
    return checkpoint if ":" in checkpoint and not Path(checkpoint).exists() else Path(checkpoint).name
