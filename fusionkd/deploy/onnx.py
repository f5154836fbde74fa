"""Exported networks in ONNX Runtime: numpy, numba and onnxruntime alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fusionkd.deploy.clock import NO_CLOCK, Clock
from fusionkd.deploy.pipeline import Candidates, Pipeline
from fusionkd.deploy.spec import DeploySpec
from fusionkd.errors import UserError

SPEC_KEY = "fusionkd.spec"
"""Key of a file's metadata under which its ``DeploySpec`` is kept."""

OUTPUTS = ("score", "label", "boxes")
"""The network's answers, each with a batch axis of 1 in front."""

CPU = "CPUExecutionProvider"


class OnnxNetwork:
    """A network of an ``.onnx`` file of ``tools/export.py``.

    Args:
        path: The file.
        providers: ONNX Runtime's execution providers, in the order of preference.
        threads: Threads within an operator.

    Raises:
        UserError: If the file is missing, corrupt or not of fusionkd, or a provider isn't there.
    """

    def __init__(self, path: str | Path, providers: Sequence[str] = (CPU,), threads: int = 1) -> None:
        self.session = open_session(path, providers, threads=threads)
        self.metadata: dict[str, str] = dict(self.session.get_modelmeta().custom_metadata_map)
        if SPEC_KEY not in self.metadata:
            raise UserError(
                f"{path} doesn't say what it reads: its metadata has no {SPEC_KEY!r}. Only files of tools/export.py "
                f"can be run this way."
            )
        self.spec = DeploySpec.from_json(self.metadata[SPEC_KEY], source=f"The metadata of {path}")
        self.name = "onnxruntime"
        self.device = str(self.session.get_providers()[0]).removesuffix("ExecutionProvider").lower()
        self._inputs = [value.name for value in self.session.get_inputs()]
        missing = sorted(set(OUTPUTS) - {value.name for value in self.session.get_outputs()})
        if missing:
            raise UserError(f"{path} has no output {', '.join(missing)}. Export the model again.")

    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        """The candidates of a frame. Stage: ``network``."""
        with clock.span("network"):
            score, label, boxes = self.run(inputs, OUTPUTS)
        return Candidates(score[0], label[0], boxes[0])

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Some outputs of the network.

        Raises:
            UserError: If an input is missing or of another shape than the file was exported for.
        """
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise UserError(f"The network reads {', '.join(self._inputs)}; {', '.join(missing)} wasn't prepared.")
        try:
            answers: list[NDArray[Any]] = self.session.run(list(outputs), {name: inputs[name] for name in self._inputs})
        except _runtime_errors() as error:
            raise UserError(
                f"ONNX Runtime can't run the network on this input: {_first_line(error)} Its inputs are "
                f"{'; '.join(f'{value.name} {value.shape}' for value in self.session.get_inputs())}. A frame must be "
                f"prepared with the file's own description (network.spec)."
            ) from None
        return answers


def load(path: str | Path, providers: Sequence[str] = (CPU,), threads: int = 1) -> Pipeline:
    """The pipeline of an exported file: ``fusionkd.deploy.load("student.onnx")(raw)`` gives boxes.

    Args and errors are those of ``OnnxNetwork``.
    """
    network = OnnxNetwork(path, providers, threads)
    return Pipeline(network.spec, network, threads)


def open_session(path: str | Path, providers: Sequence[str] = (CPU,), *, threads: int = 1) -> Any:
    """An ONNX Runtime session of a file.

    Args:
        path: The file.
        providers: Execution providers, in the order of preference.
        threads: Threads within an operator.

    Raises:
        UserError: If the file is missing or corrupt, or a provider isn't there.
    """
    runtime = _onnxruntime()
    known = runtime.get_available_providers()
    absent = [provider for provider in providers if provider not in known]
    if absent:
        raise UserError(
            f"This ONNX Runtime has no {', '.join(absent)}; it has {', '.join(known)}. Install onnxruntime-gpu (or "
            f"the build for your device), or choose one of these."
        )
    if not Path(path).is_file():
        raise UserError(f"There is no file {path}. Write it by tools/export.py --format onnx.")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Warnings about weights that were folded away say nothing to a user.
    options.log_severity_level = 3
    try:
        return runtime.InferenceSession(str(path), options, providers=list(providers))
    except _runtime_errors() as error:
        raise UserError(f"{path} can't be loaded as an ONNX model: {_first_line(error)} Was it cut off?") from None


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise UserError(
            "ONNX files run in ONNX Runtime, which isn't there. Install it: pip install onnxruntime"
        ) from None
    return onnxruntime


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = ("Fail", "InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NotImplemented", "RuntimeException")
    return (*(getattr(state, kind) for kind in kinds if hasattr(state, kind)), RuntimeError, ValueError)


def _first_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    return f"{text}."
