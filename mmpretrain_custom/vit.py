"""Build timm's vision transformers, classification head included, by name."""

from __future__ import annotations

from mmpretrain.registry import MODELS
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

import token_pruning
from token_pruning import Reducer
from token_pruning.timm_models import create_timm


@MODELS.register_module()
def TimmViT(
    model_name: str,
    reducer: dict | Reducer | None = None,
    execution: str = "exact",  # noqa: N802
    output: str = "map",
    norm_eps: float | None = None,
    **kwargs,
) -> VisionTransformer | Eva:
    """Build a timm model and apply a reducer to it by ``token_pruning.apply``.

    With ``reducer=None`` it is the dense model, run by the same core. Parameter names are timm's, so that published
    checkpoints load.

    Args:
        model_name: name of a ``VisionTransformer`` or ``Eva`` of timm, such as "deit_small_patch16_224".
        reducer: ``dict(type=METHOD, ...)``, a Reducer, or None.
        execution: "exact" or "capacity", see ``token_pruning.StackForward``.
        output: "map" or "kept", what is pooled, see ``token_pruning.apply``.
        norm_eps: of the blocks' LayerNorms, if not timm's (published SViT classifiers have 1e-5).
        kwargs: arguments of the timm model: num_classes, img_size, drop_path_rate, embed_dim, ...

    Raises:
        SettingError: timm has no model of that name, or the reducer does not fit it.
        TypeError: the model is no plain vision transformer, or does not accept one of ``kwargs``.
    """
    model = token_pruning.apply(create_timm(model_name, **kwargs), reducer, execution, output)
    if norm_eps is not None:
        for block in model.blocks:
            block.norm1.eps = block.norm2.eps = norm_eps
    return model
