"""The house rules that hold the rooms apart, read from the sources themselves."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "fusionkd"

ORDER = (
    {"errors"},
    {"geometry"},
    {"preprocess"},
    {"deploy"},
    {"data", "models", "metrics", "simulation"},
    {"teachers"},
    {"distillation"},
    {"tasks"},
    {"export", "visualize", "corruptions"},
    {"realtime"},
    {"cli"},
)
"""A module may import what stands in an earlier line, and its own room."""

BESIDE = {("data", "simulation"), ("metrics", "data")}
"""Imports within a line: data fills a missing root, the metric reads its truth from the index."""

NUMBA = ("preprocess/", "simulation/", "metrics/", "geometry/iou.py", "geometry/suppression.py")
CONCRETE_MODELS_ARE_NOT = ("values", "losses", "loss", "targets", "decode", "heatmap")
"""Modules of ``models`` that distillation may know: values and functions, no network."""

MAX_LINES = 400
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|tmp|home|root|mnt|opt|Users|scratch)/")


def _sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def _name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def _imports(path: Path, tree: ast.AST) -> Iterator[str]:
    """Absolute names of all modules that a file imports anywhere, also inside functions."""
    package = list(path.relative_to(REPOSITORY).with_suffix("").parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            if module in ("fusionkd", "fusionkd.models"):
                yield from (f"{module}.{alias.name}" for alias in node.names)


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "fusionkd" and len(parts) > 1 and parts[1] != "__version__" else None


def _line(room: str) -> int:
    for line, rooms in enumerate(ORDER):
        if room in rooms:
            return line
    raise AssertionError(f"Room {room!r} has no place in the import order: add it to ORDER in this test.")


@pytest.mark.parametrize("path", _sources("fusionkd"), ids=_name)
def test_imports_go_one_way(path: Path) -> None:
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room in ("__init__", "__main__"):
        return
    for module in _imports(path, _parsed(path)):
        imported = _room(module)
        assert module.split(".")[0] not in ("tests", "tools", "benchmarks"), f"{_name(path)} imports {module}"
        if imported is None or imported == room or (room, imported) in BESIDE:
            continue
        assert _line(imported) < _line(room), f"{_name(path)} imports {module}, which comes later in the order"


@pytest.mark.parametrize("path", _sources("fusionkd/distillation"), ids=_name)
def test_distillation_knows_no_concrete_model(path: Path) -> None:
    for module in _imports(path, _parsed(path)):
        parts = module.split(".")
        if parts[:2] == ["fusionkd", "models"]:
            known = len(parts) > 2 and parts[2] in CONCRETE_MODELS_ARE_NOT
            assert known, (
                f"{_name(path)} imports {module}; only {CONCRETE_MODELS_ARE_NOT} of models are for distillation"
            )


def test_data_imports_simulation_only_when_it_needs_it() -> None:
    for path in _sources("fusionkd/data"):
        module_level = ast.Module([n for n in _parsed(path).body if isinstance(n, (ast.Import, ast.ImportFrom))], [])
        assert "simulation" not in map(_room, _imports(path, module_level)), f"{_name(path)}: import it in the function"


def test_numba_stays_in_its_rooms() -> None:
    users = {
        path.relative_to(PACKAGE).as_posix()
        for path in _sources("fusionkd")
        if any(module.split(".")[0] == "numba" for module in _imports(path, _parsed(path)))
    }
    assert {user for user in users if not user.startswith(NUMBA)} == set()
    assert any(user.startswith("preprocess/") for user in users)


@pytest.mark.parametrize("path", _sources("fusionkd", "tools", "benchmarks", "tests", "docs"), ids=_name)
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{_name(path)} has {lines} lines; split it"


@pytest.mark.parametrize("path", _sources("fusionkd", "tools", "benchmarks"), ids=_name)
def test_nothing_that_could_run_code_is_loaded(path: Path) -> None:
    for node in ast.walk(_parsed(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        where = f"{_name(path)}:{node.lineno}"
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called == "torch.load":
            assert given.get("weights_only") == "True", f"{where}: torch.load without weights_only=True"
        assert called not in ("pickle.load", "pickle.loads", "dill.load", "joblib.load"), f"{where}: {called}"
        assert given.get("allow_pickle", "False") == "False", f"{where}: allow_pickle"
        assert given.get("weights_only", "True") != "False", f"{where}: weights_only=False"


@pytest.mark.parametrize("folder", ["fusionkd", "tools", "benchmarks", "configs", "docs"])
def test_no_file_mentions_a_machines_path(folder: str) -> None:
    kinds = {".py", ".yaml", ".yml", ".json", ".md", ".toml", ".sh", ""}
    for path in sorted((REPOSITORY / folder).rglob("*")):
        if path.is_file() and path.suffix in kinds and "__pycache__" not in path.parts:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                assert not MACHINE_PATH.search(line), f"{_name(path)}:{number}: {line.strip()[:120]}"


def test_kernels_are_cached_serial_and_free_of_the_interpreter_lock() -> None:
    seen = 0
    for path in _sources("fusionkd"):
        for node in ast.walk(_parsed(path)):
            decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
            for decorator in decorators:
                if not ast.unparse(decorator).startswith(("njit", "numba.njit", "jit", "numba.jit")):
                    continue
                seen += 1
                given = {k.arg: ast.unparse(k.value) for k in getattr(decorator, "keywords", [])}
                where = f"{_name(path)}: {getattr(node, 'name', '')}"
                assert given.get("cache") == "True", f"{where}: compiles anew in every process"
                assert given.get("nogil") == "True", f"{where}: blocks other threads"
                # A parallel kernel in the parent kills forked loader workers that call another one.
                assert given.get("parallel", "False") == "False", f"{where}: parallel"
    assert seen > 10
