"""Small models and frames of a tiny world, for pipelines that take milliseconds."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from fusionkd.data import NuScenesDataset, NuScenesIndex
from fusionkd.data.collate import Collator
from fusionkd.deploy import DeploySpec, RawFrame
from fusionkd.export import raw_frame
from fusionkd.geometry import Boxes3D
from fusionkd.models import Decoder, FusionModel, build_model
from fusionkd.models.deploying import deploy_spec
from fusionkd.preprocess.views import PillarView, RasterView
from tests.models.conftest import CELLS, GRID, SPECS

SIZE_PX = (32, 64)
SWEEPS = 3
VIEWS = {"raster": RasterView(GRID, z_slices=2), "pillars": PillarView(GRID.with_cell(CELLS["cell_m"] / 2))}


@lru_cache
def small_model(kind: str = "camera+raster") -> tuple[FusionModel, DeploySpec]:
    """A small model with random weights; kinds are those of ``SPECS``."""
    torch.manual_seed(0)
    model = build_model(SPECS[kind]).eval()
    return model, deploy_spec(model, views=VIEWS, image_size_px=SIZE_PX, num_sweeps=SWEEPS)


def dataset_of(root: Path, version: str = "v1.0-mini") -> NuScenesDataset:
    """Frames of a tiny or simulated world for the small models."""
    index = NuScenesIndex.load(root, version)
    return NuScenesDataset(index, index.records(index.scene_names), image_size_px=SIZE_PX, num_sweeps=SWEEPS)


def raw_frames(dataset: NuScenesDataset) -> list[RawFrame]:
    """All of them as sensor bytes."""
    return [raw_frame(dataset, record) for record in dataset.records]


@torch.no_grad()
def boxes_of_training_path(model: FusionModel, dataset: NuScenesDataset, item: int) -> Boxes3D:
    """What the model says about a frame that came through data set, collator, ``forward`` and decoder."""
    return Decoder()(model(Collator(VIEWS, depth_stride=4).batch([dataset[item]])))[0]


def assert_same_boxes(found: Boxes3D, wanted: Boxes3D, *, tolerance: float = 1e-4) -> None:
    """The same boxes in the same order."""
    assert len(found) == len(wanted)
    assert len(wanted) > 20, "a comparison of nothing"
    np.testing.assert_array_equal(found.label, wanted.label)
    np.testing.assert_allclose(found.to_array(), wanted.to_array(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.score, wanted.score, rtol=tolerance, atol=tolerance)
