"""Maps in fewer bits: what is promised of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusionkd.distillation.locations import heatmap_peaks
from fusionkd.distillation.response import object_count
from fusionkd.teachers.cache_codec import (
    FLOOR_LOGIT,
    PEAK_LOGIT,
    STEP,
    decode_features,
    decode_heatmap,
    decode_mask,
    encode_features,
    encode_heatmap,
    encode_mask,
    local_maxima,
    shorten,
)
from tests.teachers.made_up_answers import answer


@settings(max_examples=20)
@given(seed=st.integers(0, 200), objects=st.integers(0, 60))
def test_decoded_heatmap_has_the_same_peaks_and_scores(seed: int, objects: int) -> None:
    logits = answer(seed, objects=objects).heatmap
    seen = torch.from_numpy(decode_heatmap(encode_heatmap(logits[0].numpy())))[None]
    before, after = (heatmap_peaks(maps, threshold=0.1, count=300) for maps in (logits, seen))
    for name in ("label", "row", "column", "weight"):
        counted = before.weight > 0
        assert torch.equal(getattr(before, name)[counted], getattr(after, name)[counted]), name
    assert torch.equal(before.weight > 0, after.weight > 0)
    torch.testing.assert_close(object_count(seen.sigmoid()), object_count(logits.sigmoid()), rtol=1e-6, atol=0)


def test_smooth_slopes_get_no_second_peak() -> None:
    # A hill so flat that rounding alone would make plateaus of it.
    v, u = np.indices((40, 40))
    hill = (1.5 - 0.004 * ((u - 20.3) ** 2 + (v - 19.8) ** 2))[None].astype(np.float32)
    plain = np.round((hill - FLOOR_LOGIT) / STEP) * STEP + FLOOR_LOGIT
    assert local_maxima(plain).sum() > 1, "else this shows nothing"
    assert np.flatnonzero(local_maxima(decode_heatmap(encode_heatmap(hill)))).tolist() == [20 * 40 + 20]


def test_objects_are_close_and_background_keeps_its_mean() -> None:
    logits = answer(3).heatmap[0].numpy()
    seen = decode_heatmap(encode_heatmap(logits))
    objects = logits >= FLOOR_LOGIT
    assert np.abs(seen - logits)[objects].max() <= 4 * STEP
    assert np.median(np.abs(seen - logits)[objects]) <= STEP / 2
    assert seen[~objects].max() <= FLOOR_LOGIT < PEAK_LOGIT

    def mean(values: np.ndarray) -> float:
        return float((1 / (1 + np.exp(-values[~objects]))).mean())

    assert mean(seen) == pytest.approx(mean(logits), rel=0.05)


@pytest.mark.parametrize("levels", [63, 511])
def test_features_are_within_half_a_step(levels: int) -> None:
    values = np.random.default_rng(0).normal(3, 2, (5, 40)).astype(np.float32)
    values[2] = 7.0
    arrays = encode_features(values, levels=levels)
    step = (values.max(axis=1) - values.min(axis=1)) / levels
    assert (np.abs(decode_features(arrays) - values) <= 0.5 * step[:, None] + 1e-5).all()
    assert arrays["level"].dtype == (np.uint8 if levels < 256 else np.uint16)


def test_no_cells_are_no_features() -> None:
    assert decode_features(encode_features(np.zeros((4, 0), np.float32), levels=63)).shape == (4, 0)


def test_short_numbers_and_masks() -> None:
    values = np.random.default_rng(0).normal(0, 30, 1000).astype(np.float32)
    np.testing.assert_allclose(shorten(values), values, rtol=1.6e-3)
    mask = np.random.default_rng(1).random((7, 9)) < 0.3
    assert decode_mask(encode_mask(mask), mask.size).tolist() == np.flatnonzero(mask).tolist()
