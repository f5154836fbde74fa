"""Small models of every kind, and the files that they become."""

from pathlib import Path

import pytest
import torch

from fusionkd.deploy import prepare
from fusionkd.export.example import example_raw
from fusionkd.export.network import TorchNetwork
from fusionkd.export.onnx import Exportable, export_onnx, exportable
from fusionkd.export.spec import Trained
from fusionkd.models import Decoder, build_model
from fusionkd.models.deploying import deploy_spec
from fusionkd.preprocess.views import PillarView, RasterView
from fusionkd.teachers.checkpoints import Record
from tests.models.conftest import GRID, SIZE_PX, SPECS

VIEWS = {"raster": RasterView(GRID, z_slices=2), "pillars": PillarView(GRID.with_cell(0.8), max_points=5)}


def small_model(kind: str) -> Trained:
    """An untrained model whose scores differ from cell to cell as a trained one's do."""
    torch.manual_seed(0)
    model = build_model(SPECS[kind]).eval()
    decoder = Decoder(0.2, candidates=60)
    spec = deploy_spec(model, views=VIEWS, image_size_px=SIZE_PX, num_sweeps=2, decoder=decoder)
    (head,) = model.head.task_heads
    assert isinstance(head, torch.nn.Conv2d)
    with torch.no_grad():
        head.weight.normal_()
        (heatmap,) = TorchNetwork(model, spec).run(prepare(example_raw(spec), spec), ["heatmap"])
        head.weight /= float(heatmap.std())
    return Trained(f"small {kind}", model, spec, Record({}, True), None)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory):
    """A small model by kind, and its file; each is exported once."""
    folder = tmp_path_factory.mktemp("small")
    done: dict[tuple[str, bool], tuple[Exportable, Path]] = {}

    def make(kind: str, *, fixed: bool = False) -> tuple[Exportable, Path]:
        if (kind, fixed) not in done:
            trained = small_model(kind)
            item = exportable(trained, fixed_rig=example_raw(trained.spec) if fixed else None)
            path = folder / f"{kind}-{fixed}.onnx"
            export_onnx(item, path)
            done[kind, fixed] = item, path
        return done[kind, fixed]

    return make
