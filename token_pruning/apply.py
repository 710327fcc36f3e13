"""Add a reducer to any timm ``VisionTransformer`` or ``Eva``, and remove it again.

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

from timm.layers import Attention, AttentionRope
from timm.models.eva import Eva, EvaAttention, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor

from .attention import rope_with_prefix
from .calling import release
from .errors import SettingError
from .forward import StackForward, check_execution
from .patching import patch_method
from .recording import NO_SCRIPT, refuse_recording
from .reducer import Reducer, build_reducer

OUTPUTS = ("map", "kept")
RUNNABLE = (Attention, EvaAttention, AttentionRope)


def apply(
    model: VisionTransformer | Eva, reducer: dict | Reducer | None, execution: str = "exact", output: str = "map"
) -> VisionTransformer | Eva:
    """Run the blocks of ``model`` under ``reducer`` from now on; a reducer that it already has is replaced.

    Args:
        model: a timm ``VisionTransformer`` (DeiT with and without distillation, DeiT-III, AugReg, MAE, DINOv2, CLIP's
            image tower, ...) or ``Eva`` (EVA-02, DINOv3, ...) with timm's own ``forward_features`` and blocks.
        reducer: ``dict(type=METHOD, ...)``, a Reducer, or None: every block on every token, but run (and traced) by the
            core, so that a dense model is measured like the pruned ones.
        execution: "exact" or "capacity", see ``StackForward``; stored as ``model.execution`` and may be changed at any
            time.
        output: the tokens that the model pools. "map": every position, with the last value of its token. "kept": only
            the tokens that are active after the last block (the same number in each image).

    Returns:
        The same model.

    Raises:
        TypeError: the core cannot run the model or one of its blocks.
        SettingError: the reducer does not fit the model, or ``execution`` or ``output`` is unknown.
    """
    check_timm(model)
    check_execution(execution)
    if output not in OUTPUTS:
        raise SettingError(f"output is {output!r}; choose one of {', '.join(OUTPUTS)}")
    built = build_reducer(reducer, model.embed_dim, len(model.blocks))
    if built is not None:
        built.check_host(model.cls_token is not None)
        weight = next(model.parameters())
        built.to(weight.device, weight.dtype).train(model.training)
    model.reducer, model.execution, model.output = built, execution, output
    # Partials instead of bound methods: they are saved and copied with the model.
    for name, function in PATCHES.items():
        patch_method(model, name, partial(function, model))
    return model


def remove(model: VisionTransformer | Eva) -> VisionTransformer | Eva:
    """Undo ``apply``: restore timm's forward and keep the current weights.

    Raises:
        ValueError: ``apply`` was not called on the model.
    """
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


def _forward_features(
    model: VisionTransformer | Eva, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """Replace timm's ``forward_features``: images (B, 3, h, w) -> the normalized map (B, N, C), or its kept tokens."""
    refuse_recording(x, model.reducer)
    if attn_mask is not None or is_causal:
        raise ValueError(
            "a model with a reducer takes no attn_mask and no is_causal: they do not fit a subset of the tokens"
        )
    grid = model.patch_embed.dynamic_feat_size(x.shape[-2:])
    x, rope = model._pos_embed(model.patch_embed(x)), None
    if isinstance(model, Eva):
        x, rope = x
        rope = None if rope is None else rope_with_prefix(rope, model.num_prefix_tokens)
    else:
        x = model.patch_drop(x)
    stack = StackForward(
        model.blocks,
        model.reducer,
        model.norm_pre(x),
        grid,
        model.num_prefix_tokens,
        checkpointing=model.grad_checkpointing and model.training,
        execution=model.execution,
        rope=rope,
    )
    stack.run(0, len(model.blocks) - 1)
    dense_map = stack.finish(with_prefix=True)
    return model.norm(dense_map if model.output == "map" else stack.tokens.by_image(stack.tokens.x))


def _no_intermediates(model: VisionTransformer, *args: object, **kwargs: object) -> None:
    raise NotImplementedError(
        "forward_intermediates would run the blocks without the reducer; use "
        "token_pruning.StackForward and its map(), or call token_pruning.remove(model) first"
    )


def _replicate(model: Any) -> Any:
    """Replace the hook by which ``DataParallel`` copies a module: the copy runs its own blocks and parameters."""
    replica = type(model)._replicate_for_data_parallel(model)
    for name, function in PATCHES.items():
        patch_method(replica, name, partial(function, replica))
    return replica


def _no_script(model: VisionTransformer | Eva) -> None:
    raise SettingError(NO_SCRIPT)


PATCHES: dict[str, Callable[..., Any]] = dict(
    forward_features=_forward_features,
    forward_intermediates=_no_intermediates,
    _replicate_for_data_parallel=_replicate,
    __prepare_scriptable__=_no_script,
)


def check_timm(model: Any) -> None:
    """Raise TypeError if the core cannot run the blocks of a timm model."""
    kind, name = type(model), type(model).__name__
    host = next((host for host in (VisionTransformer, Eva) if isinstance(model, host)), None)
    if host is None or kind.forward_features is not host.forward_features:
        raise TypeError(
            f"{name} is not run by timm's VisionTransformer.forward_features or Eva's, so its blocks "
            "cannot be given a reducer; hosts of other kinds use token_pruning.StackForward"
        )
    for i, block in enumerate(model.blocks):
        if not isinstance(block, (Block, EvaBlock)) or not isinstance(block.attn, RUNNABLE):
            found = type(block).__name__ + (f" with {type(block.attn).__name__}" if isinstance(block, Block) else "")
            raise TypeError(
                f"block {i} of {name} is a {found}, and only timm's Block and EvaBlock with their own "
                "attention can be run on a subset of the tokens"
            )
        if getattr(block.attn, "num_kv_groups", 1) > 1:
            raise TypeError(f"block {i} of {name} has fewer key heads than query heads, which the core cannot run")
    if getattr(model, "rope_mixed", False):
        raise TypeError(f"{name} has different rotary position embeddings in each block, which the core cannot run")
    if getattr(model.patch_drop, "prob", 0):
        raise TypeError(
            f"{name} drops patches in training (patch_drop_rate), so the map has no position for them; "
            "create it with patch_drop_rate=0"
        )
