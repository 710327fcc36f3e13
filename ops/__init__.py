"""Multi-scale deformable attention: the maths, its module, and the backends that compute it."""

from .functional import deformable_attention, ms_deform_attn
from .module import MSDeformAttn

__all__ = ["MSDeformAttn", "deformable_attention", "ms_deform_attn"]
