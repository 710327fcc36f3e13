"""Multi-scale deformable attention: compiled for CPU and CUDA, in plain PyTorch where nothing is compiled."""

from .functional import deformable_attention, ms_deform_attn
from .library import plain
from .module import MSDeformAttn

__all__ = ["MSDeformAttn", "deformable_attention", "ms_deform_attn", "plain"]
