"""ViT-Adapter (Chen et al., ICLR 2023): a plain ViT with a convolutional prior, for dense prediction.

With a reducer it is SViT's selective backbone, without one the dense backbone; the forward is the same.

Shapes: B images, h x w pixels, H x W grid of stride 16, N = H * W, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from token_pruning.errors import SettingError
from token_pruning.tokens import feature_map
from token_pruning.vit import init_linear
from token_pruning_ops import MSDeformAttn

from .geometry import Geometry, adapter_geometry
from .host import DetectionViT
from .interaction import Interaction
from .spatial_prior import SpatialPriorModule


@MODELS.register_module()
class ViTAdapter(DetectionViT):
    """The backbone of ViT-Adapter, with maps of strides 4, 8, 16 and 32.

    Args:
        interaction_indexes: [first, last] block of each interaction, in order and covering all blocks.
        conv_inplane: channels of the spatial prior's stem.
        n_points, deform_num_heads, deform_ratio: points, heads and value ratio of the deformable attention.
        init_values: initial value of the injectors' gamma; None for no injectors: the ViT then runs undisturbed, as in
            DINOv3's detectors, and may be ``frozen``.
        with_cffn, cffn_ratio: whether the extractors have a convolutional FFN, and its hidden width relative to C.
        add_vit_feature: add the ViT's final map to the four outputs.
        use_extra_extractor: append two extractors to the last interaction.
        norm_cfg: norm of prior and outputs. BatchNorm by default; the published recipes synchronise it over processes,
            for which the config sets ``sync_bn = 'torch'``.
        trunk: arguments of ``PlainViT`` (sizes, windows, layer scale, reducer, ...) and ``init_cfg``.

    Raises:
        SettingError: the interactions do not cover the blocks.
    """

    def __init__(
        self,
        interaction_indexes: Sequence[Sequence[int]] = ((0, 2), (3, 5), (6, 8), (9, 11)),
        conv_inplane: int = 64,
        n_points: int = 4,
        deform_num_heads: int = 6,
        deform_ratio: float = 1.0,
        init_values: float | None = 0.0,
        with_cffn: bool = True,
        cffn_ratio: float = 0.25,
        add_vit_feature: bool = True,
        use_extra_extractor: bool = True,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **trunk,
    ) -> None:
        super().__init__(drop_path_rate=drop_path_rate, **trunk)
        covered = [i for first, last in interaction_indexes for i in range(first, last + 1)]
        if covered != list(range(self.depth)):
            raise SettingError(
                f"interaction_indexes {list(interaction_indexes)} must cover the blocks 0 to "
                f"{self.depth - 1} in order, each as [first, last]"
            )
        norm_cfg, dim = norm_cfg or dict(type="BN"), self.embed_dim
        self.interaction_indexes, self.add_vit_feature = interaction_indexes, add_vit_feature
        self.level_embed = nn.Parameter(torch.zeros(3, dim))
        self.spm = SpatialPriorModule(conv_inplane, dim, norm_cfg)
        last = len(interaction_indexes) - 1
        self.interactions = nn.ModuleList(
            Interaction(
                dim,
                deform_num_heads,
                n_points,
                deform_ratio,
                init_values,
                extra=2 if use_extra_extractor and k == last else 0,
                with_cffn=with_cffn,
                cffn_ratio=cffn_ratio,
                drop_path=drop_path_rate,
            )
            for k in range(len(interaction_indexes))
        )
        self.up = nn.ConvTranspose2d(dim, dim, 2, 2)
        self.norm1, self.norm2, self.norm3, self.norm4 = (build_norm_layer(norm_cfg, dim)[1] for _ in range(4))
        self._init_adapter()

    def _init_adapter(self) -> None:
        for part in (self.up, self.spm, self.interactions):
            part.apply(init_linear)
            part.apply(_init_conv)
        for module in self.modules():
            if isinstance(module, MSDeformAttn):
                module.reset_parameters()
        nn.init.normal_(self.level_embed)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return maps (B, C, ceil(h / s), ceil(w / s)), s = 4, 8, 16, 32, of images (B, 3, h, w) of any size."""
        size = tuple(image.shape[-2:])
        image = self.pad(image)
        c1, c2, c3, c4 = self.spm(image)
        c = torch.cat([c2 + self.level_embed[0], c3 + self.level_embed[1], c4 + self.level_embed[2]], dim=1)
        stack = self.start(image)
        geometry = adapter_geometry(stack.tokens.grid, image.device)
        for interaction, (first, last) in zip(self.interactions, self.interaction_indexes, strict=True):
            if interaction.injector is not None:
                stack.update(self._call(interaction.injector, stack.map(), c, geometry))
            stack.run(first, last)
            c = self._call(interaction.extract, c, stack.map(), geometry)
        maps = self._outputs(c1, c, stack.finish(), geometry.injector_shapes)
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        return self.crop([norm(m) for norm, m in zip(norms, maps, strict=True)], size)

    def _call(self, part: Callable[..., Tensor], *args: Tensor | Geometry) -> Tensor:
        if self.with_cp and self.training:
            return checkpoint(part, *args, use_reentrant=False)
        return part(*args)

    def _outputs(self, c1: Tensor, c: Tensor, x: Tensor, shapes: list[tuple[int, int]]) -> list[Tensor]:
        c2, c3, c4 = (
            self.lay_out(feature_map(part, shape))
            for part, shape in zip(c.split([h * w for h, w in shapes], dim=1), shapes, strict=True)
        )
        maps = [self.up(c2) + c1, c2, c3, c4]
        if self.add_vit_feature:
            x = self.lay_out(feature_map(x, shapes[1]))
            # Bilinear resizing. By half it is the mean of four: the grid is even. (OpenVINO resizes by half otherwise.)
            maps = [m + r for m, r in zip(maps, (_larger(x, 4), _larger(x, 2), x, F.avg_pool2d(x, 2)), strict=True)]
        return maps


def _larger(x: Tensor, scale: int) -> Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)


def _init_conv(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
