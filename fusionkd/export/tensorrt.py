"""TensorRT engines out of exported files, where TensorRT is there."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

from fusionkd.deploy import DeploySpec
from fusionkd.errors import UserError
from fusionkd.preprocess.views import PillarView

LEAST_PILLARS = 1
USUAL_PILLARS = 8000


def build_engine(source: Path, path: Path, *, spec: DeploySpec, fp16: bool = False, int8: bool = False) -> None:
    """Build an engine for this machine's GPU, by ``trtexec`` or by TensorRT's Python package.

    Args:
        source: File of ``export_onnx``; for eight bits, of ``to_int8`` or ``to_int8_modelopt``.
        path: The engine; the description isn't in it, so keep the ONNX file beside it.
        spec: Of the file.
        fp16: Whether layers may run in half precision.
        int8: Whether layers may run in eight bits.

    Raises:
        UserError: If TensorRT isn't there or can't build the engine.
    """
    shapes = pillar_shapes(spec)
    flags = [name for name, wanted in (("fp16", fp16), ("int8", int8)) if wanted]
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.which("trtexec"):
        command = trtexec_command(source, path, shapes=shapes, flags=flags)
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0 or not path.is_file():
            raise UserError(f"trtexec can't build an engine from {source}: {_last_error(result.stdout)}")
        return
    try:
        import tensorrt
    except ImportError:
        raise UserError(
            "TensorRT isn't there: neither trtexec is on the PATH nor the Python package tensorrt installed. On a "
            "Jetson it comes with JetPack (put /usr/src/tensorrt/bin on the PATH); elsewhere: pip install tensorrt"
        ) from None
    path.write_bytes(serialized_engine(tensorrt, source, shapes=shapes, flags=flags))


def pillar_shapes(spec: DeploySpec) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Least, usual and largest shape of the inputs whose shape is free."""
    view = spec.lidar
    if not isinstance(view, PillarView):
        return {}
    counts = (LEAST_PILLARS, min(USUAL_PILLARS, view.max_pillars), view.max_pillars)
    after = {"points": (view.max_points, 5), "count": (), "coords": (3,)}
    return {name: tuple((count, *rest) for count in counts) for name, rest in after.items()}


def trtexec_command(
    source: Path, path: Path, *, shapes: dict[str, tuple[tuple[int, ...], ...]], flags: list[str]
) -> list[str]:
    """The command line that builds an engine."""
    command = ["trtexec", f"--onnx={source}", f"--saveEngine={path}", *(f"--{flag}" for flag in flags)]
    for which, option in enumerate(("minShapes", "optShapes", "maxShapes")):
        if shapes:
            given = ",".join(f"{name}:{'x'.join(map(str, sizes[which]))}" for name, sizes in shapes.items())
            command.append(f"--{option}={given}")
    return command


def serialized_engine(
    tensorrt: Any, source: Path, *, shapes: dict[str, tuple[tuple[int, ...], ...]], flags: list[str]
) -> bytes:
    """An engine's bytes, by TensorRT's Python package.

    Args:
        tensorrt: The package.
        source: File of ``export_onnx``.
        shapes: Of ``pillar_shapes``.
        flags: Names of ``BuilderFlag`` in lower case.

    Raises:
        UserError: If TensorRT can't read the file or build the engine.
    """
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse(source.read_bytes()):
        problems = "; ".join(str(parser.get_error(k)) for k in range(parser.num_errors))
        raise UserError(f"TensorRT can't read {source}: {problems}")
    config = builder.create_builder_config()
    for flag in flags:
        config.set_flag(getattr(tensorrt.BuilderFlag, flag.upper()))
    if shapes:
        profile = builder.create_optimization_profile()
        for name, (least, usual, most) in shapes.items():
            profile.set_shape(name, least, usual, most)
        config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UserError(f"TensorRT can't build an engine from {source}; its log says why.")
    return bytes(engine)


def _last_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if "[E]" in line]
    return lines[-1] if lines else "it says no more."
