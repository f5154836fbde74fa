"""From sensor bytes to boxes without torch: what runs in the vehicle, and what the profiler times."""

from fusionkd.deploy.clock import NO_CLOCK, Clock, NoClock
from fusionkd.deploy.onnx import OnnxNetwork, load
from fusionkd.deploy.pipeline import Candidates, Network, Pipeline, finish
from fusionkd.deploy.prepare import prepare
from fusionkd.deploy.raw import RawFrame
from fusionkd.deploy.spec import CameraSpec, DeploySpec

__all__ = [
    "NO_CLOCK",
    "CameraSpec",
    "Candidates",
    "Clock",
    "DeploySpec",
    "Network",
    "NoClock",
    "OnnxNetwork",
    "Pipeline",
    "RawFrame",
    "finish",
    "load",
    "prepare",
]
