"""Segmentors that train their backbone's reducer: any of mmseg's by one mix-in (``mmcv_custom.reducer_losses``)."""

from __future__ import annotations

from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS

from mmcv_custom.reducer_losses import ReducerLosses


@MODELS.register_module()
class PrunedEncoderDecoder(ReducerLosses, EncoderDecoder):
    """Encoder-decoder, whole or sliding, whose backbone may have a reducer."""
