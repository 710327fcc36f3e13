"""A whole timm vision transformer, head included, by its name."""

from __future__ import annotations

import difflib

import timm
from mmpretrain.registry import MODELS
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

import token_pruning
from token_pruning import Reducer


@MODELS.register_module()
def TimmViT(
    model_name: str,
    reducer: dict | Reducer | None = None,
    execution: str = "exact",  # noqa: N802
    output: str = "map",
    norm_eps: float | None = None,
    **kwargs,
) -> VisionTransformer | Eva:
    """``timm.create_model`` under ``token_pruning.apply``; with ``reducer=None`` it is the dense model, run by the same
    core. Its names of weights are timm's, so published files fit.

    Args:
        model_name: "deit_small_patch16_224" and all others of timm that are a ``VisionTransformer`` or an ``Eva``.
        reducer: ``dict(type=METHOD, ...)``, a Reducer, or None.
        execution: "exact" or "capacity", see ``token_pruning.StackForward``.
        output: "map" or "kept", what is pooled, see ``token_pruning.apply``.
        norm_eps: of the blocks' LayerNorms, where it is not timm's (published SViT classifiers have 1e-5).
        kwargs: of the timm model: num_classes, img_size, drop_path_rate, embed_dim, ...

    Raises:
        ValueError: timm has no model of that name, or the reducer does not fit it.
        TypeError: the model is no plain vision transformer, or does not know one of ``kwargs``.
    """
    model = token_pruning.apply(create_timm(model_name, **kwargs), reducer, execution, output)
    if norm_eps is not None:
        for block in model.blocks:
            block.norm1.eps = block.norm2.eps = norm_eps
    return model


def create_timm(model_name: str, **kwargs):
    """``timm.create_model``, with one sentence for an unknown name.

    Raises:
        ValueError: there is no such model; the message has the nearest names.
    """
    if not timm.is_model(model_name):
        near = difflib.get_close_matches(model_name, timm.list_models(), n=3, cutoff=0.6)
        meant = f"did you mean {' or '.join(near)}?" if near else "timm.list_models() has all names"
        raise ValueError(f"timm has no model {model_name!r}: {meant}")
    return timm.create_model(model_name, **kwargs)
