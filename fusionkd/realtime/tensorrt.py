"""TensorRT engines, built from an exported file on the device that they will run on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from fusionkd.deploy import NO_CLOCK, Candidates, Clock, OnnxNetwork
from fusionkd.deploy.onnx import OUTPUTS
from fusionkd.errors import UserError
from fusionkd.export.tensorrt import pillar_shapes, serialized_engine
from fusionkd.realtime.networks import check_device, on_host

_INSTALL = (
    "Install TensorRT 10 or newer: pip install tensorrt (x86), or the JetPack package python3-libnvinfer (Jetson); or "
    "use --backend onnxruntime."
)


class TensorRtNetwork:
    """A network in a TensorRT engine.

    The engine is written beside the ONNX file, with TensorRT's version and the GPU in its name, and read from there the
    next time; an engine older than its ONNX file is built anew. Stages: ``network/copy``, ``network/engine``.

    Args:
        path: The ``.onnx`` file.
        device: ``cuda``, ``cuda:0``, ...
        precision: ``float32``, or ``float16`` to let TensorRT choose half precision where it is faster.

    Raises:
        UserError: If TensorRT or the GPU isn't there, or TensorRT can't build the network.
    """

    def __init__(self, path: str | Path, *, device: str = "cuda", precision: str = "float32") -> None:
        trt = require_tensorrt()
        self.device = check_device(device)
        if torch.device(device).type != "cuda":
            raise UserError(f"TensorRT runs on a GPU, found --device {device}. Use --device cuda.")
        self.name = f"tensorrt {trt.__version__}, {precision}"
        self._logger = trt.Logger(trt.Logger.WARNING)
        engine = trt.Runtime(self._logger).deserialize_cuda_engine(self._plan(trt, Path(path), precision))
        if engine is None:
            raise UserError(f"TensorRT can't read the engine that was built from {path}. Delete it and try again.")
        self._engine = engine
        self._context = engine.create_execution_context()
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        self._reads = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self._dtypes = {name: _torch_dtype(trt, engine.get_tensor_dtype(name)) for name in names}
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __call__(self, inputs: Mapping[str, NDArray[Any]], clock: Clock = NO_CLOCK) -> Candidates:
        """The candidates of a frame."""
        with torch.cuda.stream(self._stream):
            with clock.span("network/copy"):
                tensors = {
                    name: torch.from_numpy(inputs[name]).to(self.device, self._dtypes[name]).contiguous()
                    for name in self._reads
                }
            with clock.span("network/engine"):
                return on_host(self._execute(tensors))

    def _execute(self, tensors: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        for name, tensor in tensors.items():
            self._context.set_input_shape(name, tuple(tensor.shape))
            self._context.set_tensor_address(name, tensor.data_ptr())
        answers = []
        for name in OUTPUTS:
            shape = tuple(self._context.get_tensor_shape(name))
            answers.append(torch.empty(shape, dtype=self._dtypes[name], device=self.device))
            self._context.set_tensor_address(name, answers[-1].data_ptr())
        if not self._context.execute_async_v3(self._stream.cuda_stream):
            raise UserError("TensorRT failed to run the engine on this frame; its log above says why.")
        score, label, boxes = answers
        return score.float(), label.long(), boxes.float()

    def _plan(self, trt: Any, path: Path, precision: str) -> bytes:
        if precision not in ("float32", "float16"):
            raise UserError(f"TensorRT's precision must be float32 or float16, found {precision!r}.")
        if not path.is_file():
            raise UserError(f"There is no file {path}. Write it by tools/export.py --format onnx.")
        gpu = torch.cuda.get_device_name(self.device).replace(" ", "-")
        stored = path.with_suffix(f".{gpu}.trt{trt.__version__}.{precision}.engine")
        if stored.is_file() and stored.stat().st_mtime >= path.stat().st_mtime:
            return stored.read_bytes()
        flags = ["fp16"] if precision == "float16" else []
        plan = serialized_engine(trt, path, shapes=pillar_shapes(OnnxNetwork(path).spec), flags=flags)
        unfinished = stored.with_suffix(".unfinished")
        unfinished.write_bytes(plan)
        unfinished.replace(stored)
        return plan


def require_tensorrt() -> Any:
    """The package ``tensorrt``.

    Raises:
        UserError: If it isn't there or too old; it says what to install.
    """
    try:
        import tensorrt
    except ImportError:
        raise UserError(f"TensorRT isn't installed. {_INSTALL}") from None
    if int(tensorrt.__version__.partition(".")[0]) < 10:
        raise UserError(f"TensorRT {tensorrt.__version__} is too old. {_INSTALL}")
    return tensorrt


def _torch_dtype(trt: Any, kind: Any) -> torch.dtype:
    known = {
        trt.float32: torch.float32,
        trt.float16: torch.float16,
        trt.int32: torch.int32,
        trt.int64: torch.int64,
        trt.bool: torch.bool,
    }
    return known[kind]
