"""ViT-Adapter's interaction of ViT and spatial prior (section 3.3): injector, extractor, convolutional FFN.

Shapes: B images, H x W grid of stride 16, N = H * W ViT tokens, 21 N / 4 prior tokens (strides 8, 16, 32), C channels.
"""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from token_pruning.tokens import feature_map
from token_pruning_ops import MSDeformAttn

from .geometry import Geometry

EPS = 1e-6


class DWConv(nn.Module):
    """A depthwise 3 x 3 convolution, shared by the maps of all three strides."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)

    def forward(self, x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Convolve tokens (B, 21 N / 4, C); ``shapes`` are (h, w) of strides 8, 16, 32."""
        maps = x.split([h * w for h, w in shapes], dim=1)
        done = (self.dwconv(feature_map(m, shape)) for m, shape in zip(maps, shapes, strict=True))
        return torch.cat([m.flatten(2).transpose(1, 2) for m in done], dim=1)


class ConvFFN(nn.Module):
    """Linear, depthwise convolution, GELU, Linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = DWConv(hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """Transform tokens (B, 21 N / 4, C); ``shapes`` are (h, w) of strides 8, 16, 32."""
        return self.fc2(self.act(self.dwconv(self.fc1(x), shapes)))


class Injector(nn.Module):
    """Deformable attention from ViT tokens to the prior, scaled by ``gamma``; at gamma = 0 it changes nothing."""

    def __init__(self, dim: int, heads: int, points: int, ratio: float, init_values: float = 0.0) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=EPS)
        self.attn = MSDeformAttn(dim, 3, heads, points, ratio)
        self.gamma = nn.Parameter(torch.full((dim,), float(init_values)))

    def forward(self, x: Tensor, c: Tensor, geometry: Geometry) -> Tensor:
        """Add attention to the prior tokens ``c`` (B, 21 N / 4, C) to the ViT tokens ``x`` (B, N, C)."""
        return x + self.gamma * self.attn(
            self.query_norm(x), geometry.injector_points, self.feat_norm(c), geometry.injector_shapes
        )


class Extractor(nn.Module):
    """Deformable attention from the prior to ViT tokens, then a convolutional FFN (unless ``with_cffn`` is off)."""

    def __init__(
        self,
        dim: int,
        heads: int,
        points: int,
        ratio: float,
        with_cffn: bool = True,
        cffn_ratio: float = 0.25,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=EPS)
        self.attn = MSDeformAttn(dim, 1, heads, points, ratio)
        self.with_cffn = with_cffn
        if with_cffn:
            self.ffn = ConvFFN(dim, int(dim * cffn_ratio))
            self.ffn_norm = nn.LayerNorm(dim, eps=EPS)
            self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def forward(self, c: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        """Update the prior tokens ``c`` (B, 21 N / 4, C) from the ViT tokens ``x`` (B, N, C)."""
        c = c + self.attn(self.query_norm(c), geometry.extractor_points, self.feat_norm(x), geometry.extractor_shapes)
        if self.with_cffn:
            c = c + self.drop_path(self.ffn(self.ffn_norm(c), geometry.injector_shapes))
        return c


class Interaction(nn.Module):
    """The modules of one interaction; the backbone runs its ViT blocks between injector and extractor.

    Without ``init_values`` (None) there is no injector.
    """

    def __init__(
        self, dim: int, heads: int, points: int, ratio: float, init_values: float | None, extra: int, **extractor
    ) -> None:
        super().__init__()
        self.injector = None if init_values is None else Injector(dim, heads, points, ratio, init_values)
        self.extractor = Extractor(dim, heads, points, ratio, **extractor)
        if extra:
            self.extra_extractors = nn.ModuleList(
                Extractor(dim, heads, points, ratio, **extractor) for _ in range(extra)
            )

    def extract(self, c: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        """Apply the extractor, then the extra extractors of the last interaction."""
        for extractor in (self.extractor, *getattr(self, "extra_extractors", ())):
            c = extractor(c, x, geometry)
        return c
