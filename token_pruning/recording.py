"""What cannot record the forward of a host, said before it records something wrong.

A pruned forward decides on tensors and on numbers of tokens that Python counts. ``torch.jit.trace``, which is also the
ONNX exporter with ``dynamo=False``, would store these numbers as constants, and ``torch.fx`` and ``torch.jit.script``
cannot follow the decisions. See docs/execution.md.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.fx import Proxy

from .errors import ExportError, SettingError

INSTEAD = "use torch.compile or torch.export"
NO_SCRIPT = (
    "torch.jit.script (timm's --torchscript) cannot compile a model whose blocks run under a reducer: "
    f"{INSTEAD}, or call token_pruning.remove(model) first"
)


def refuse_recording(x: Any, reducer: Any) -> None:
    """Raise SettingError where a tool records the forward of ``x`` under ``reducer`` that cannot.

    Raises:
        SettingError: ``torch.jit.trace``, the ONNX exporter with ``dynamo=False`` or ``torch.fx`` runs the forward.
        ExportError: ``torch.export`` does, and the number of tokens that the method keeps depends on the images.
    """
    if isinstance(x, Proxy):
        raise SettingError(
            "torch.fx (feature extraction by timm or torchvision) cannot follow blocks that run under a reducer: use "
            "forward hooks on the blocks, or call token_pruning.remove(model) first"
        )
    if torch.jit.is_tracing():
        raise SettingError(
            "torch.jit.trace, and torch.onnx.export with dynamo=False, would fix the number of images and of tokens "
            f"in the graph: {INSTEAD} (to count operations: token_pruning.count_flops), or call "
            "token_pruning.remove(model) first"
        )
    if reducer is not None and torch.compiler.is_exporting() and not reducer.fixed_shapes:
        refuse_export(reducer)


def refuse_compiled(model: Any) -> None:
    """Raise TypeError where ``model`` or a part of it is compiled: its graph would keep the old forward, or break."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if "_orig_mod" in module._modules or module._compiled_call_impl is not None:
            raise TypeError(
                "torch.compile has compiled this model already: call token_pruning.apply on the model that was given "
                "to torch.compile, and compile it afterwards"
            )


def refuse_export(reducer: Any, cure: str = "use a method that keeps equally many (docs/methods.md)") -> None:
    """Raise ExportError: ``torch.export`` needs numbers of tokens that do not depend on the images."""
    raise ExportError(
        f"torch.export needs a number of tokens that does not depend on the images, and {type(reducer).__name__} "
        f"keeps more in some than in others: {cure}"
    )
