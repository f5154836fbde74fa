"""Who runs a network: PyTorch in three ways, ONNX Runtime with three providers, TensorRT."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fusionkd.deploy import Network, OnnxNetwork, Pipeline
from fusionkd.deploy.onnx import CPU
from fusionkd.errors import UserError
from fusionkd.export.spec import Trained, open_trained
from fusionkd.realtime.cuda_graph import CudaGraphNetwork
from fusionkd.realtime.networks import CompiledNetwork, EagerNetwork, check_device
from fusionkd.realtime.tensorrt import TensorRtNetwork, require_tensorrt
from fusionkd.teachers import load_trained
from fusionkd.teachers.checkpoints import Record


@dataclass(frozen=True)
class Running:
    """How a network is run.

    Attributes:
        backend: One of ``BACKENDS``.
        device: ``cpu``, ``cuda``, ``cuda:0``, ...; None takes the backend's own.
        precision: ``float32``, ``bfloat16`` or ``float16``. A file for ONNX Runtime has the one it was exported with.
        threads: CPU threads of the network, and of decoding the images.
        mode: Of ``torch.compile``.

    Raises:
        UserError: If there is no such backend.
    """

    backend: str = "onnxruntime"
    device: str | None = None
    precision: str = "float32"
    threads: int = 1
    mode: str = "default"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise UserError(f"There is no backend {self.backend!r}; there are {', '.join(BACKENDS)}.")
        if self.threads < 1:
            raise UserError(f"A network needs 1 thread at least, found {self.threads}.")
        if self.device is None:
            object.__setattr__(self, "device", "cuda" if self.backend in _GPU_ONLY else "cpu")

    @property
    def where(self) -> str:
        """The device, never None."""
        return self.device or "cpu"


def build_pipeline(source: str, running: Running | None = None, *, config: Path | None = None) -> Pipeline:
    """Sensor bytes to boxes with a trained or exported network.

    Args:
        source: zoo:NAME, a .ckpt or a .safetensors file, or an .onnx file of ``tools/export.py``. A checkpoint is
            exported on the fly for a backend that wants an ONNX file.
        running: Backend, device, precision; None for ONNX Runtime on one CPU thread.
        config: config.yaml of the checkpoint's training, where it isn't beside it.

    Raises:
        UserError: If a file can't be read, or the backend, the device or a package isn't there.
    """
    running = running or Running()
    if running.backend == "tensorrt":
        require_tensorrt()
    check_device(running.where)
    if running.where == "cpu":
        torch.set_num_threads(running.threads)
    exported = Path(source).suffix == ".onnx"
    if running.backend in TORCH:
        if exported:
            raise UserError(
                f"{source} is an exported file, which {running.backend} can't run. Give the checkpoint, or use "
                f"--backend onnxruntime."
            )
        trained = open_trained(source, config)
        return Pipeline(trained.spec, TORCH[running.backend](trained, running), running.threads)
    if exported:
        return _exported(Path(source), running)
    with tempfile.TemporaryDirectory() as folder:
        return _exported(_export(open_trained(source, config), Path(folder) / "network.onnx"), running)


def _exported(path: Path, running: Running) -> Pipeline:
    network = EXPORTED[running.backend](path, running)
    # TensorRT's engines don't keep the file's description; ONNX Runtime on the CPU reads it anywhere.
    described = network if isinstance(network, OnnxNetwork) else OnnxNetwork(path)
    return Pipeline(described.spec, network, running.threads)


def _export(trained: Trained, path: Path) -> Path:
    from fusionkd.export.onnx import export_onnx, exportable

    export_onnx(exportable(trained), path)
    return path


def _onnxruntime(path: Path, running: Running) -> Network:
    if running.where == "cpu":
        return OnnxNetwork(path, (CPU,), running.threads)
    return _on_gpu(OnnxNetwork(path, (_CUDA, CPU), running.threads), "cuda")


def _onnxruntime_tensorrt(path: Path, running: Running) -> Network:
    return _on_gpu(OnnxNetwork(path, ("TensorrtExecutionProvider", _CUDA, CPU), running.threads), "tensorrt")


def _on_gpu(network: OnnxNetwork, wanted: str) -> Network:
    # ONNX Runtime goes on with the next provider where one fails to start, with a line in its log.
    if network.device != wanted:
        raise UserError(
            f"ONNX Runtime was asked for its provider {wanted} and chose {network.device}; its log above says why. "
            f"Check that its CUDA and cuDNN (and TensorRT) versions are installed."
        )
    return network


_CUDA = "CUDAExecutionProvider"


TORCH: dict[str, Callable[[Trained, Running], Network]] = {
    "eager": lambda t, r: EagerNetwork(t.model, t.spec, device=r.where, precision=r.precision),
    "compile": lambda t, r: CompiledNetwork(t.model, t.spec, device=r.where, precision=r.precision, mode=r.mode),
    "cuda_graph": lambda t, r: CudaGraphNetwork(t.model, t.spec, device=r.where, precision=r.precision),
}
"""Backends that run a checkpoint."""

EXPORTED: dict[str, Callable[[Path, Running], Network]] = {
    "onnxruntime": _onnxruntime,
    "onnxruntime_tensorrt": _onnxruntime_tensorrt,
    "tensorrt": lambda path, r: TensorRtNetwork(path, device=r.where, precision=r.precision),
}
"""Backends that run an exported file."""

BACKENDS = (*TORCH, *EXPORTED)
_GPU_ONLY = ("cuda_graph", "onnxruntime_tensorrt", "tensorrt")


def recorded_of(source: str) -> Record:
    """What a checkpoint is known to reach; nothing of an exported file, which doesn't say.

    Raises:
        UserError: If the checkpoint can't be read.
    """
    return Record() if Path(source).suffix == ".onnx" else load_trained(source)[1]
