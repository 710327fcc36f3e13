"""Make a detector faster without changing what it computes: memory that stays, channels last, compilation, CUDA graphs.

Shapes: B images, h x w pixels, C channels.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
from mmcv.cnn.utils import fuse_conv_bn
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from .errors import ConfigError

MAX_GRAPHS = 8  # sizes whose graphs are kept; each holds its own activations


def keep_memory() -> bool:
    """Have this process keep freed memory for the next tensor of its size, on Linux with glibc; True if that worked.

    By default glibc hands each large block back to the system, which clears it anew page by page at the next operator:
    an eighth of a detector's time on CPU.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    no_mmap, never_trim, grow_by, one_arena = (-4, 0), (-1, 2**31 - 1), (-2, 64 << 20), (-8, 1)
    return all([mallopt(*option) for option in (no_mmap, never_trim, grow_by, one_arena)])


def channels_last(model: nn.Module) -> None:
    """Run the convolutions of backbone and neck with channels last in memory, and hand contiguous maps to the heads.

    The heads need them so: MMCV's RoIAlign on CPU reads any other layout as if it were contiguous, without a word.
    """
    _check_backbone(model, "channels-last")
    model.backbone.to(memory_format=torch.channels_last)
    model.backbone.channels_last = True
    neck = getattr(model, "neck", None)
    if neck is not None:
        neck.to(memory_format=torch.channels_last)
        neck.register_forward_hook(lambda module, args, maps: type(maps)(m.contiguous() for m in maps))


def compile_backbone(model: nn.Module, **options) -> None:
    """``torch.compile`` the backbone into one graph for each size, in the execution in which no shape depends on data.

    ``options`` go to ``torch.compile``. A compiled backbone records no trace.
    """
    _check_backbone(model, "compile")
    model.backbone.execution = "capacity"
    model.backbone.forward = torch.compile(model.backbone.forward, fullgraph=True, dynamic=False, **options)


def graph_backbone(model: nn.Module) -> None:
    """Replay the backbone's evaluation as one CUDA graph for each size of input. A replay records no trace.

    Raises:
        ConfigError: the model is not on a CUDA device.
    """
    _check_backbone(model, "cuda-graph")
    if next(model.parameters()).device.type != "cuda":
        raise ConfigError("--cuda-graph needs a CUDA device; without one leave it out")
    model.backbone.execution = "capacity"
    model.backbone.forward = Graphed(model.backbone, model.backbone.forward)


# In the order in which they are done.
STEPS = dict(fuse_conv_bn=fuse_conv_bn, channels_last=channels_last, compile=compile_backbone,
             cuda_graph=graph_backbone)


def accelerate(model: nn.Module, steps: Sequence[str]) -> None:
    """Do the named ``STEPS`` to a model in place; a distributed wrapper around it stays."""
    model = model.module if is_model_wrapper(model) else model
    for name, step in STEPS.items():
        if name in steps:
            step(model)


class Graphed:
    """A forward that captures itself at the first call with a new size and replays from then on; in training, and where
    gradients are asked for, it runs as it is.

    Args:
        module: whose mode counts.
        forward: (B, 3, h, w) -> list of tensors, without a host sync.
    """

    def __init__(self, module: nn.Module, forward: Callable[[Tensor], list[Tensor]]) -> None:
        self.module, self.forward = module, forward
        self.graphs: OrderedDict[tuple, tuple] = OrderedDict()

    def __call__(self, image: Tensor) -> list[Tensor]:
        if self.module.training or torch.is_grad_enabled():
            return self.forward(image)
        key = (tuple(image.shape), image.dtype, torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda"))
        if key not in self.graphs:
            self.graphs[key] = self._capture(image)
            if len(self.graphs) > MAX_GRAPHS:
                self.graphs.popitem(last=False)
        self.graphs.move_to_end(key)
        static, graph, outputs = self.graphs[key]
        static.copy_(image)
        graph.replay()
        return [out.clone() for out in outputs]

    def _capture(self, image: Tensor) -> tuple[Tensor, torch.cuda.CUDAGraph, list[Tensor]]:
        static = image.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their kernels in the first calls
                self.forward(static)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Weights that autocast has cast and kept outside would be missing at a replay.
        with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"),
                            cache_enabled=False), torch.cuda.graph(graph):
            outputs = self.forward(static)
        return static, graph, outputs


def _check_backbone(model: nn.Module, option: str) -> None:
    if not hasattr(getattr(model, "backbone", None), "execution"):
        raise ConfigError(f"--{option} is for detectors with a ViT backbone of this project; {type(model).__name__} "
                          f"has {type(getattr(model, 'backbone', None)).__name__}")
