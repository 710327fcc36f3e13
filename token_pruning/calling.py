"""Call a block or an attention module on packed tokens, so that its hooks fire as in timm.

The core does not use these modules' own ``forward``. Hooks (of users, of tools that count or trace, of FSDP2's
``fully_shard``) belong to the call of a module, so a module with hooks is called, with the core's function as its
forward. Without hooks nothing is called, and nothing is spent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeGuard

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from .patching import patch_method
from .tokens import TokenSet

Forward = Callable[[Tensor], Any]
# Wrappers that stand in a module's place, and what they call the module: FSDP1, activation checkpointing.
WRAPPED = ("_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def is_called(module: nn.Module) -> bool:
    """Return whether ``module`` must be called: it has hooks, all modules have, or it is a wrapper."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or torch_module._global_forward_pre_hooks
        or torch_module._global_forward_hooks
        or torch_module._global_backward_pre_hooks
        or torch_module._global_backward_hooks
        or WRAPPED[0] in module._modules
        or WRAPPED[1] in module._modules
    )


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside all wrappers."""
    for name in WRAPPED * 2:
        module = module._modules.get(name) or module
    return module


def call(module: nn.Module, forward: Forward, x: Tensor, tokens: TokenSet) -> Tensor:
    """Call ``module`` on tokens ``x`` (T, C) with ``forward`` for its own, and return its output (T', C).

    ``module``, and so its hooks, gets (B, n, C) where all images have n tokens, as in timm, and (T, C) elsewhere.
    ``forward`` gets and returns the same form, or a tuple with it in front.
    """
    inner = unwrapped(module)
    patch = vars(inner).get("forward")
    # A replica has the patch of the module that it was made from.
    if not _is_ours(patch) or patch.args[0] is not inner:
        patch_method(inner, "forward", partial(_forward, inner))
    out = module(by_image(x, tokens), core=forward)
    return packed(out[0] if isinstance(out, tuple) else out)


def release(module: nn.Module) -> None:
    """Undo what ``call`` did to ``module``."""
    if _is_ours(vars(module).get("forward")):
        patch_method(module, "forward", None)


def by_image(x: Tensor, tokens: TokenSet) -> Tensor:
    """Return per-token ``x`` (T, C) as (B, n, C), or unchanged where images differ in their number of tokens."""
    return x if tokens.counts is None or tokens.counts.each is None else tokens.by_image(x)


def packed(x: Tensor) -> Tensor:
    """Return tokens (B, n, C) or (T, C) as (T, C)."""
    return x.flatten(0, -2)


def _is_ours(patch: object) -> TypeGuard[partial]:
    return isinstance(patch, partial) and patch.func is _forward


def _forward(module: nn.Module, *args: Any, core: Forward | None = None, **kwargs: Any) -> Any:
    """Stand for the ``forward`` of ``module``, which runs as ever where the core does not call it."""
    return type(module).forward(module, *args, **kwargs) if core is None else core(*args, **kwargs)
