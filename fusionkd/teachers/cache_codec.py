"""A teacher's maps in fewer bits: pure functions on numpy arrays.

What the terms read decides what is kept well. A heatmap's objects get steps of 0.1 in the logit, its peaks all bits,
and what lies below 4 % one value per block of cells. Features get as many levels per channel as is asked for.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter, minimum_filter

Arrays = dict[str, NDArray[Any]]

STEP = 0.1
"""Between neighbouring codes of a logit."""

FLOOR_LOGIT = -3.3
"""Probability 0.036: lower logits are background."""

PEAK_LOGIT = -2.37
"""Probability 0.085: lower maxima are no objects to any term."""

BLOCK = 8
"""Cells along each side of a block of background."""

_BACKGROUND_STEP = 0.05
_BACKGROUND_LOGIT = -12.0
_NEIGHBOURS = (1, 3, 3)


def encode_heatmap(logits: NDArray[np.float32]) -> Arrays:
    """A heatmap in about a byte per object cell.

    Args:
        logits: (classes, rows, columns).

    Returns:
        ``code`` (classes, rows, columns) uint8, 0 for background; ``block`` uint8, the background's mean probability
        per block; ``peak``, flat indices of the local maxima above ``PEAK_LOGIT`` (each counted from the one before),
        and their ``peak_logit``. Decoded, it has exactly these maxima above ``PEAK_LOGIT``.
    """
    logits = np.ascontiguousarray(logits, np.float32)
    peaks = local_maxima(logits)
    flat = np.flatnonzero(peaks)
    code = np.clip(np.round((logits - FLOOR_LOGIT) / STEP) + 1, 0, 255).astype(np.uint8)
    code[logits < FLOOR_LOGIT] = 0
    arrays: Arrays = {
        "code": code,
        "block": _encode_blocks(logits, code == 0),
        "peak": np.diff(flat, prepend=0).astype(np.int32),
        "peak_logit": logits.reshape(-1)[flat].astype(np.float32),
    }
    # Rounding makes equals of neighbours, and of equals a second object: such cells go down until it is gone.
    while True:
        seen = decode_heatmap(arrays)
        highest = maximum_filter(seen, size=_NEIGHBOURS, mode="constant", cval=-np.inf)
        too_many = (seen == highest) & (seen >= PEAK_LOGIT)
        outshone = np.where(peaks & (seen < highest), seen, np.inf)
        lowest = minimum_filter(outshone, size=_NEIGHBOURS, mode="constant", cval=np.inf)
        wrong = (too_many | (seen > lowest)) & ~peaks
        if not wrong.any():
            return arrays
        code[wrong] -= 1


def decode_heatmap(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The logits that ``encode_heatmap`` kept, (classes, rows, columns) float32."""
    code = arrays["code"]
    logits = _LOGIT_OF_CODE[code]
    blocks = arrays["block"].astype(np.float32) * _BACKGROUND_STEP + _BACKGROUND_LOGIT
    background = blocks.repeat(BLOCK, axis=1).repeat(BLOCK, axis=2)[:, : code.shape[1], : code.shape[2]]
    np.copyto(logits, background, where=code == 0)
    logits.reshape(-1)[np.cumsum(arrays["peak"])] = arrays["peak_logit"]
    return np.asarray(logits)


def local_maxima(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Cells (classes, rows, columns) above ``PEAK_LOGIT`` than which no neighbour of their class is higher."""
    highest = maximum_filter(logits, size=_NEIGHBOURS, mode="constant", cval=-np.inf)
    return np.asarray((logits == highest) & (logits >= PEAK_LOGIT))


def encode_features(values: NDArray[np.float32], *, levels: int) -> Arrays:
    """Features of some cells in steps between each channel's lowest and highest value.

    Args:
        values: (channels, cells).
        levels: Steps.

    Returns:
        ``level`` (channels, cells) uint8 or uint16, ``low`` and ``scale`` (channels,) float32.
    """
    filled = values if values.shape[1] else np.zeros((len(values), 1), np.float32)
    low = filled.min(axis=1)
    scale = (filled.max(axis=1) - low) / levels
    level = np.round((values - low[:, None]) / np.where(scale > 0, scale, 1)[:, None])
    return {
        "level": level.astype(np.uint8 if levels < 256 else np.uint16),
        "low": low.astype(np.float32),
        "scale": scale.astype(np.float32),
    }


def decode_features(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The features that ``encode_features`` kept, (channels, cells) float32."""
    return np.asarray(arrays["level"] * arrays["scale"][:, None] + arrays["low"][:, None], np.float32)


def shorten(values: NDArray[np.float32]) -> NDArray[np.float16]:
    """Half precision with nine of its ten fraction bits, rounded: to within 0.15 %."""
    bits = np.clip(values, -3e4, 3e4).astype(np.float16).view(np.uint16)
    return ((bits + np.uint16(1)) & np.uint16(0xFFFE)).view(np.float16)


def encode_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Eight cells a byte."""
    return np.packbits(mask.reshape(-1))


def decode_mask(packed: NDArray[np.uint8], count: int) -> NDArray[np.int64]:
    """Flat indices of the cells of a mask of so many cells."""
    return np.flatnonzero(np.unpackbits(packed, count=count))


def _encode_blocks(logits: NDArray[np.float32], background: NDArray[np.bool_]) -> NDArray[np.uint8]:
    probability = np.where(background, 1 / (1 + np.exp(-logits.astype(np.float64))), 0.0)
    total = _block_sums(probability)
    cells = _block_sums(background.astype(np.float64))
    mean = np.clip(total / np.maximum(cells, 1), 1e-6, 0.5)
    logit = np.log(mean / (1 - mean))
    code = np.round((logit - _BACKGROUND_LOGIT) / _BACKGROUND_STEP)
    # A whole step below what counts as an object.
    highest = np.floor((FLOOR_LOGIT - _BACKGROUND_LOGIT) / _BACKGROUND_STEP)
    return np.asarray(np.clip(code, 0, highest), np.uint8)


def _block_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = np.add.reduceat(values, np.arange(0, values.shape[1], BLOCK), axis=1)
    return np.asarray(np.add.reduceat(rows, np.arange(0, values.shape[2], BLOCK), axis=2))


_LOGIT_OF_CODE = (FLOOR_LOGIT + STEP * (np.arange(256) - 1)).astype(np.float32)
