"""Multi-scale deformable attention, compiled for CPU and CUDA, with a fallback in plain PyTorch."""

# The folder is called ops because published commands say so; other projects have a package of that name.
if __name__ != "token_pruning_ops":
    raise ImportError("this package is imported as token_pruning_ops; ops is only the folder that holds it")

from .functional import deformable_attention, ms_deform_attn
from .library import grid_sample, plain
from .module import MSDeformAttn
from .replace import replace_deformable_attention

__all__ = [
    "MSDeformAttn",
    "deformable_attention",
    "grid_sample",
    "ms_deform_attn",
    "plain",
    "replace_deformable_attention",
]
