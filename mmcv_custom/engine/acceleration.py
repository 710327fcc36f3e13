"""Faster inference: kept memory, folded batch norms, channels-last layout, compilation, CUDA graphs.

The first three do not change the outputs. The last two run pruned blocks with a fixed capacity, which may drop the
least important tokens of a batch that keeps very many (docs/execution.md).

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Callable, Sequence

import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from token_pruning.host import is_host
from token_pruning.patching import patch_method

from ..errors import ConfigError
from .utils import unwrap_model

MAX_SIZES = 8  # prepared forwards of a backbone; each costs compile time, and a CUDA graph also memory
Forward = Callable[[Tensor], list[Tensor] | Tensor]  # returns feature maps, or the scores of a classifier


def keep_memory() -> bool:
    """Make the process reuse freed memory for later tensors (Linux with glibc) and return whether that worked.

    By default glibc returns each large block to the system, which clears it again, page by page, for the next
    operator. With this the process never shrinks below its peak and may grow somewhat beyond it. ``KEEP_MEMORY=0`` in
    the environment leaves glibc's defaults.
    """
    if os.environ.get("KEEP_MEMORY") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    no_mmap, never_trim, grow_by = (-4, 0), (-1, 2**31 - 1), (-2, 64 << 20)
    return all([mallopt(*option) for option in (no_mmap, never_trim, grow_by)])


def channels_last(model: nn.Module) -> None:
    """Run the convolutions in channels-last layout, as they run on the CPU anyway.

    Raises:
        ConfigError: the model has no ViT backbone of this project.
    """
    _check_backbone(model, "channels-last")
    model.to(memory_format=torch.channels_last)
    model.backbone.channels_last = True


def compile_backbone(model: nn.Module, **options) -> None:
    """Compile the backbone's evaluation with ``torch.compile`` into one graph for each input size.

    A compiled backbone records no trace.

    Args:
        model: the detector, segmentor or classifier.
        options: arguments of ``torch.compile``.

    Raises:
        ConfigError: the reducer's tensor shapes depend on the image.
    """
    _check_shapes(model, "compile")
    compiled = torch.compile(model.backbone.forward, fullgraph=True, dynamic=False, **options)
    model.backbone.execution = "capacity"
    patch_method(model.backbone, "forward", PerSize(model.backbone, lambda forward, image: compiled))


def graph_backbone(model: nn.Module) -> None:
    """Capture the backbone's evaluation in one CUDA graph for each input size, and replay it.

    A replay records no trace.

    Raises:
        ConfigError: the model is not on a CUDA device, or the reducer's tensor shapes depend on the image.
    """
    _check_shapes(model, "cuda-graph")
    if next(model.parameters()).device.type != "cuda":
        raise ConfigError("--cuda-graph needs a CUDA device; without one leave it out")
    model.backbone.execution = "capacity"
    patch_method(model.backbone, "forward", PerSize(model.backbone, capture))


# In the order in which they are applied.
STEPS = dict(
    fuse_conv_bn=fuse_conv_bn, channels_last=channels_last, compile=compile_backbone, cuda_graph=graph_backbone
)


def accelerate(model: nn.Module, steps: Sequence[str]) -> None:
    """Apply the named ``STEPS`` to a model in place; wrappers around it stay.

    Raises:
        ConfigError: there is no such step, or the model does not support it.
    """
    unknown = [step for step in steps if step not in STEPS]
    if unknown:
        raise ConfigError(f"there is no step {unknown[0]!r}; choose from {', '.join(STEPS)}")
    model = unwrap_model(model)
    for name, step in STEPS.items():
        if name in steps:
            step(model)


@HOOKS.register_module()
class AccelerationHook(Hook):
    """Accelerate the model after the weights are loaded and before the first test image.

    Args:
        steps: names of ``STEPS``; they are applied in the order of ``STEPS``.
    """

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps = steps

    def before_test(self, runner) -> None:
        accelerate(runner.model, self.steps)


class PerSize:
    """A backbone's forward, prepared once for each input size and each signature of its reducer.

    Training, calls with gradients enabled or with more than images, and further sizes beyond ``MAX_SIZES`` run the
    original forward.

    Args:
        backbone: the module whose forward is replaced.
        prepare: (forward, first image of a size) -> the forward for images of that size.
    """

    def __init__(self, backbone: nn.Module, prepare: Callable[[Forward, Tensor], Forward]) -> None:
        self.backbone, self.prepare, self.forward = backbone, prepare, backbone.forward
        self.ready: dict[tuple, Forward] = {}

    def __call__(self, image: Tensor, *others: object) -> list[Tensor] | Tensor:
        if others or self.backbone.training or torch.is_grad_enabled():
            return self.forward(image, *others)
        device, reducer = image.device.type, self.backbone.reducer
        key = (
            tuple(image.shape),
            image.dtype,
            torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device),
            self.backbone.execution,
            reducer.signature() if reducer is not None else None,
        )
        if key not in self.ready:
            if len(self.ready) == MAX_SIZES:
                warnings.warn(
                    f"the backbone is compiled or captured for {MAX_SIZES} sizes of images, further ones "
                    "run as usual; pad images to fewer sizes (pad_size_divisor of the data preprocessor)",
                    stacklevel=2,
                )
                return self.forward(image)
            self.ready[key] = self.prepare(self.forward, image)
        return self.ready[key](image)


def capture(forward: Forward, image: Tensor) -> Forward:
    """Capture ``forward`` in a CUDA graph for images shaped like ``image``, and return the function that replays it."""
    device, autocast = image.device.type, torch.is_autocast_enabled(image.device.type)
    # Tensors created in inference mode could not be written to outside it.
    with torch.inference_mode(False), torch.no_grad():
        static = torch.empty_like(image).copy_(image)
        # Weights cast by autocast and cached outside the graph would be missing in a replay.
        with torch.autocast(device, torch.get_autocast_dtype(device), autocast, cache_enabled=False):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):  # libraries select their kernels in the first calls
                    forward(static)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                outputs = forward(static)

    def replay(image: Tensor) -> list[Tensor]:
        static.copy_(image)
        graph.replay()
        return outputs.clone() if isinstance(outputs, Tensor) else [out.clone() for out in outputs]

    return replay


def _check_shapes(model: nn.Module, option: str) -> None:
    _check_backbone(model, option)
    reducer = model.backbone.reducer
    if reducer is not None and not reducer.fixed_shapes:
        raise ConfigError(
            f"--{option} needs tensors of fixed shapes, and {type(reducer).__name__} keeps as many "
            "tokens as an image needs; leave it out, or choose another method"
        )


def _check_backbone(model: nn.Module, option: str) -> None:
    if not is_host(getattr(model, "backbone", None)):
        raise ConfigError(
            f"--{option} is for models with a ViT backbone of this project; {type(model).__name__} "
            f"has {type(getattr(model, 'backbone', None)).__name__}"
        )
