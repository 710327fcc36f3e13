"""Make a detector faster: memory that stays, folded norms, channels last, compilation, CUDA graphs.

The first three change no number. The last two run pruned blocks with a fixed capacity, which may drop the least
important tokens of a batch that keeps very many (docs/execution.md).

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

from ..errors import ConfigError
from .utils import unwrap_model

MAX_SIZES = 8  # for which a backbone is compiled or captured; each takes its time, and a graph its memory
Forward = Callable[[Tensor], list[Tensor] | Tensor]  # maps, or the scores of a classifier


def keep_memory() -> bool:
    """Have this process keep freed memory for the next tensor of its size, on Linux with glibc; True if that worked.

    By default glibc hands each large block back to the system, which clears it anew, page by page, at the next
    operator. The process then stays as large as it ever was, or somewhat larger; ``KEEP_MEMORY=0`` in the environment
    leaves glibc alone.
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
    """Run the convolutions of backbone and neck with channels last in memory, and hand contiguous maps to the heads.

    The heads need them so: MMCV's RoIAlign on CPU reads any other layout as if it were contiguous, without a word.

    Raises:
        ConfigError: the model has no neck behind which the maps could be made contiguous.
    """
    _check_backbone(model, "channels-last")
    neck = getattr(model, "neck", None)
    if neck is None:
        raise ConfigError("--channels-last needs a model with a neck; without one leave it out")
    model.backbone.to(memory_format=torch.channels_last)
    model.backbone.channels_last = True
    neck.to(memory_format=torch.channels_last)
    neck.register_forward_hook(lambda module, args, maps: type(maps)(m.contiguous() for m in maps))


def compile_backbone(model: nn.Module, **options) -> None:
    """``torch.compile`` the backbone's evaluation into one graph for each size. A compiled backbone records no trace.

    ``options`` go to ``torch.compile``.
    """
    _check_shapes(model, "compile")
    compiled = torch.compile(model.backbone.forward, fullgraph=True, dynamic=False, **options)
    model.backbone.execution = "capacity"
    model.backbone.forward = PerSize(model.backbone, lambda forward, image: compiled)


def graph_backbone(model: nn.Module) -> None:
    """Replay the backbone's evaluation as one CUDA graph for each size of input. A replay records no trace.

    Raises:
        ConfigError: the model is not on a CUDA device.
    """
    _check_shapes(model, "cuda-graph")
    if next(model.parameters()).device.type != "cuda":
        raise ConfigError("--cuda-graph needs a CUDA device; without one leave it out")
    model.backbone.execution = "capacity"
    model.backbone.forward = PerSize(model.backbone, capture)


# In the order in which they are done.
STEPS = dict(
    fuse_conv_bn=fuse_conv_bn, channels_last=channels_last, compile=compile_backbone, cuda_graph=graph_backbone
)


def accelerate(model: nn.Module, steps: Sequence[str]) -> None:
    """Do the named ``STEPS`` to a model in place; wrappers around it stay.

    Raises:
        ConfigError: there is no such step, or the model does not allow it.
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
    """Make the model faster after the weights are loaded and before the first test image.

    Args:
        steps: names of ``STEPS``, in that order.
    """

    def __init__(self, steps: Sequence[str]) -> None:
        self.steps = steps

    def before_test(self, runner) -> None:
        accelerate(runner.model, self.steps)


class PerSize:
    """A backbone's forward, prepared once for each size of input and each setting of its reducer. In training, where
    gradients are asked for, and for further sizes beyond ``MAX_SIZES`` it runs as it was.

    Args:
        backbone: whose forward is replaced.
        prepare: (forward, first image of a size) -> the forward for images of that size.
    """

    def __init__(self, backbone: nn.Module, prepare: Callable[[Forward, Tensor], Forward]) -> None:
        self.backbone, self.prepare, self.forward = backbone, prepare, backbone.forward
        self.ready: dict[tuple, Forward] = {}

    def __call__(self, image: Tensor) -> list[Tensor]:
        if self.backbone.training or torch.is_grad_enabled():
            return self.forward(image)
        device = image.device.type
        reducer = vars(self.backbone.reducer) if self.backbone.reducer else {}
        settings = tuple((k, v) for k, v in reducer.items() if isinstance(v, (str, int, float)))
        key = (
            tuple(image.shape),
            image.dtype,
            torch.is_autocast_enabled(device),
            torch.get_autocast_dtype(device),
            self.backbone.execution,
            settings,
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
    """A CUDA graph of ``forward`` for images like ``image`` as a function."""
    device, autocast = image.device.type, torch.is_autocast_enabled(image.device.type)
    # Tensors of inference mode could not be written to outside it.
    with torch.inference_mode(False), torch.no_grad():
        static = torch.empty_like(image).copy_(image)
        # Weights that autocast has cast and kept outside would be missing at a replay.
        with torch.autocast(device, torch.get_autocast_dtype(device), autocast, cache_enabled=False):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):  # libraries choose their kernels in the first calls
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
    if not hasattr(getattr(model, "backbone", None), "execution"):
        raise ConfigError(
            f"--{option} is for models with a ViT backbone of this project; {type(model).__name__} "
            f"has {type(getattr(model, 'backbone', None)).__name__}"
        )
