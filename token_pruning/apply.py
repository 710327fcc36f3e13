"""Add a reducer to any timm ``VisionTransformer`` or ``Eva`` (or, see ``hf``, of transformers), and remove it again.

    model = timm.create_model("deit_small_patch16_224", pretrained=True)
    token_pruning.apply(model, dict(type="ToMe", r=13))
    logits = model(images)
    token_pruning.remove(model)

No module is replaced or renamed: ``forward_features`` is patched on the instance, and ``model.reducer`` is the reducer,
whose parameters (if it has any) train and save with the model's. In training, methods that learn their selection report
losses: ``with token_pruning.collect_losses() as extra: logits = model(images)``, then add the values of ``extra`` whose
name contains "loss" to yours. Forward hooks on the model, its blocks and the modules inside are called, see
``run_block``; what cannot record or convert the model (``torch.jit``, ``torch.fx``) is refused in a sentence.

Shapes: B images, h x w pixels, H x W grid, P prefix tokens (class, distillation, registers), N = P + H * W, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers import PatchEmbed, RotaryEmbeddingCat, build_rotary_pos_embed, resample_abs_pos_embed
from timm.models._features import feature_take_indices
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import Tensor

from . import hf, timm_sam
from .attention import rope_with_prefix
from .calling import release
from .embedding import PatchEmbedding
from .errors import SettingError
from .forward import StackForward, check_execution
from .host import check_windowed
from .patching import patch_method
from .recording import NO_SCRIPT, refuse_compiled, refuse_recording
from .reducer import Reducer, build_reducer
from .timm_models import check_plain, check_sam
from .tokens import feature_map

OUTPUTS = ("map", "kept")
ROPE_SETTINGS = (
    "bands",
    "in_pixels",
    "ref_feat_shape",
    "grid_offset",
    "grid_indexing",
    "rotate_half",
    "grid_type",
    "normalize_coords",
)


def apply(model: Any, reducer: dict | Reducer | None, execution: str = "exact", output: str = "map") -> Any:
    """Run the blocks of ``model`` under ``reducer`` from now on; a reducer that it already has is replaced.

    Args:
        model: a timm ``VisionTransformer`` (DeiT with and without distillation, DeiT-III, AugReg, MAE, DINOv2, CLIP's
            image tower, ...), ``Eva`` (EVA-02, DINOv3, ...) or ``VisionTransformerSAM`` with timm's own
            ``forward_features`` and blocks, or a model with a vision transformer of Hugging Face's ``transformers``
            inside (``hf.FAMILIES``).
        reducer: ``dict(type=METHOD, ...)``, a Reducer, or None: every block on every token, but run (and traced) by the
            core, so that a dense model is measured like the pruned ones.
        execution: "exact" or "capacity", see ``StackForward``; stored as ``model.execution`` and may be changed at any
            time.
        output: the tokens that the model pools. "map": every position, with the last value of its token. "kept": only
            the tokens that are active after the last block (the same number in each image).

    Returns:
        The same model.

    Raises:
        TypeError: the core cannot run the model or one of its blocks, or the model is compiled.
        SettingError: the reducer does not fit the model, or ``execution`` or ``output`` is unknown.
    """
    refuse_compiled(model)
    if hf.is_hugging_face(model):
        return hf.apply(model, reducer, execution, output)
    sam = isinstance(model, VisionTransformerSAM)
    (check_sam if sam else check_plain)(model)
    check_execution(execution)
    if output not in OUTPUTS:
        raise SettingError(f"output is {output!r}; choose one of {', '.join(OUTPUTS)}")
    if sam and output != "map":
        raise SettingError(f"output is {output!r}; the neck of SAM needs the whole map, so leave output at 'map'")
    built = build_reducer(reducer, model.embed_dim, len(model.blocks))
    if built is not None:
        if sam:
            windows: list[int | None] = [block.window_size or None for block in model.blocks]
            check_windowed(built, type(model).__name__, type(model.blocks[0].attn).__module__, windows)
        else:
            built.check_host(model.cls_token is not None)
        weight = next(model.parameters())
        built.to(weight.device, weight.dtype).train(model.training)
    model.reducer, model.execution, model.output = built, execution, output
    # Partials instead of bound methods: they are saved and copied with the model.
    for name, function in patches_of(model).items():
        patch_method(model, name, partial(function, model))
    return model


def remove(model: Any) -> Any:
    """Undo ``apply``: restore the library's forward and keep the current weights.

    Raises:
        ValueError: ``apply`` was not called on the model.
    """
    if hf.is_applied(model):
        return hf.remove(model)
    if not hasattr(model, "reducer"):
        raise ValueError(f"this {type(model).__name__} has no reducer to remove")
    for name in ("reducer", "execution", "output"):
        delattr(model, name)
    for name in PATCHES:
        patch_method(model, name, None)
    for block in model.blocks:
        for module in (block, block.attn):
            release(module)
    return model


def _start(model: VisionTransformer | Eva, x: Tensor, attn_mask: Tensor | None, is_causal: bool) -> StackForward:
    """Embed images (B, 3, h, w) as timm does and return the forward through the blocks, at its start."""
    refuse_recording(x, model.reducer)
    if attn_mask is not None or is_causal:
        raise ValueError(
            "a model with a reducer takes no attn_mask and no is_causal: they do not fit a subset of the tokens"
        )
    grid = model.patch_embed.dynamic_feat_size(x.shape[-2:])
    image, patches = x, model.patch_embed(x)
    x, rope = model._pos_embed(patches), None
    if isinstance(model, Eva):
        x, rope = x
        rope = None if rope is None else rope_with_prefix(rope, model.num_prefix_tokens)
    else:
        x = model.patch_drop(x)
    return StackForward(
        model.blocks,
        model.reducer,
        model.norm_pre(x),
        grid,
        model.num_prefix_tokens,
        checkpointing=model.grad_checkpointing and model.training,
        execution=model.execution,
        rope=rope,
        rope_of=None if rope is None else partial(_rope_of, model.rope),
        embedding=_embedding(model, image, grid, patches),
    )


def _finish(model: VisionTransformer | Eva, stack: StackForward) -> Tensor:
    """Return the normalized map (B, N, C), or its kept tokens."""
    dense_map = stack.finish(with_prefix=True)
    return model.norm(dense_map if model.output == "map" else stack.tokens.by_image(stack.tokens.x))


def _embedding(model: Any, image: Tensor, grid: tuple[int, int], patches: Tensor) -> PatchEmbedding | None:
    if not (model.reducer and model.reducer.reads_image and isinstance(model.patch_embed, PatchEmbed)):
        return None
    table = model.pos_embed
    if table is not None:
        prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        table = resample_abs_pos_embed(table, list(grid), list(model.patch_embed.grid_size), prefix)[:, prefix:]
    return PatchEmbedding.of(
        image, grid, patches, table, model.patch_embed, lambda x: model.norm_pre(model.pos_drop(x))
    )


def _rope_of(rope: Any, grid: tuple[int, int]) -> Tensor:
    """Return the table (h * w, 2D) of a grid, also of a timm ``rope`` that returns that of its own grid only."""
    if not isinstance(rope, RotaryEmbeddingCat) or rope.feat_shape is None:
        return rope.get_embed(grid)
    settings = {name: getattr(rope, name) for name in ROPE_SETTINGS}
    return torch.cat(build_rotary_pos_embed(list(grid), **settings), dim=-1)


def _forward_features(
    model: VisionTransformer | Eva, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """Replace timm's ``forward_features``: images (B, 3, h, w) -> the normalized map (B, N, C), or its kept tokens."""
    stack = _start(model, x, attn_mask, is_causal)
    stack.run(0, len(model.blocks) - 1)
    return _finish(model, stack)


def _forward_intermediates(
    model: VisionTransformer | Eva,
    x: Tensor,
    indices: int | list[int] | None = None,
    return_prefix_tokens: bool = False,
    norm: bool = False,
    stop_early: bool = False,
    output_fmt: str = "NCHW",
    intermediates_only: bool = False,
    output_dict: bool = False,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Any:
    """Replace timm's ``forward_intermediates``: the same outputs, each a map with a value at every position.

    Raises:
        ValueError: an unknown ``output_fmt``.
    """
    if output_fmt not in ("NCHW", "NLC"):
        raise ValueError(f"output_fmt is {output_fmt!r}; choose 'NCHW' or 'NLC'")
    taps, _ = feature_take_indices(len(model.blocks), indices)
    stack = _start(model, x, attn_mask, is_causal)
    grid, prefix = stack.tokens.grid, stack.tokens.prefix
    maps = []
    for tap in sorted(set(taps)):
        stack.run_to(tap)
        dense = stack.map(with_prefix=True)
        maps.append(model.norm(dense) if norm else dense)
    if not stop_early:
        stack.run_to(len(model.blocks) - 1)
    final = _finish(model, stack)
    prefix_tokens = [m[:, :prefix] for m in maps] if prefix and return_prefix_tokens else None
    maps = [m[:, prefix:] for m in maps]
    if output_fmt == "NCHW":
        maps = [feature_map(m, grid).contiguous() for m in maps]
    if output_dict:
        out: dict[str, Any] = dict(image_intermediates=maps)
        if prefix_tokens is not None:
            out["image_intermediates_prefix"] = prefix_tokens
        if not intermediates_only:
            out["image_features"] = final
        return out
    pairs = maps if prefix_tokens is None else list(zip(maps, prefix_tokens, strict=True))
    return pairs if intermediates_only else (final, pairs)


def _replicate(model: Any) -> Any:
    """Replace the hook by which ``DataParallel`` copies a module: the copy runs its own blocks and parameters."""
    replica = type(model)._replicate_for_data_parallel(model)
    for name, function in patches_of(model).items():
        patch_method(replica, name, partial(function, replica))
    return replica


def patches_of(model: Any) -> dict[str, Callable[..., Any]]:
    """Return the functions that replace methods of a model."""
    if not isinstance(model, VisionTransformerSAM):
        return PATCHES
    own = (timm_sam.forward_features, timm_sam.forward_intermediates)
    return PATCHES | {function.__name__: function for function in own}


def _no_script(model: VisionTransformer | Eva) -> None:
    raise SettingError(NO_SCRIPT)


PATCHES: dict[str, Callable[..., Any]] = dict(
    forward_features=_forward_features,
    forward_intermediates=_forward_intermediates,
    _replicate_for_data_parallel=_replicate,
    __prepare_scriptable__=_no_script,
)
