"""A plain vision transformer for dense tasks: timm's blocks and key names, any image size, a reducer or none.

Shapes: B images, H x W grid of patches, N = H * W tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from timm.layers import Attention, PatchEmbed, RotaryEmbeddingCat
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from .attention import WindowAttention, rope_with_prefix
from .cache import WeightCache
from .embedding import PatchEmbedding
from .errors import SettingError
from .forward import StackForward, check_execution
from .recording import NO_SCRIPT, refuse_recording
from .reducer import Reducer, build_reducer

# Arguments of timm's EvaBlock for the sizes B and L of EVA-02, and for T and S.
EVA02 = {"eva02": dict(qkv_fused=False, scale_mlp=True), "eva02-small": dict()}


class PlainViT(nn.Module):
    """Patch embedding, position table and blocks; base of the backbones (ViT-Adapter, ViT pyramid).

    Row 0 of the position table belongs to the class token, even without one in the sequence, as in every published DeiT
    and ViT-Adapter file, so that these load and save unchanged.

    Args:
        img_size: of pretraining, one side or (h, w); only determines the size of the position table.
        mlp_ratio: hidden channels of the MLPs per channel of a token; default 4, for EVA-02 8/3.
        family: "vit", or EVA-02's blocks with SwiGLU and rotary positions: "eva02" (B and L), "eva02-small" (T and S).
        rope_grid: side of the grid of EVA-02's pretraining, in whose units rotary positions are measured.
        window_attn: per block, whether attention is windowed; default all global.
        window_size: per block, or one for all windowed blocks.
        layer_scale: learned factors per channel on both branches (initially 1).
        class_token: add a class token to the sequence, for reducers that use its attention.
        norm_eps: of the blocks' LayerNorms: 1e-6, but published SViT files were trained with 1e-5.
        drop_path_rate: of the last block; rises linearly from 0 at the first.
        with_cp: gradient checkpointing of the blocks.
        execution: "exact" or "capacity", see ``StackForward``; may be changed at any time.
        reducer: ``dict(type=METHOD, ...)``, a Reducer, or None for the dense model.

    Raises:
        SettingError: an ``img_size`` below a patch, window lists that do not fit ``depth``, windows in an EVA-02, an
            unknown family or reducer.
    """

    rope: Any  # timm's RotaryEmbeddingCat, or None
    cls_token: nn.Parameter | None
    reducer: Reducer | None

    def __init__(
        self,
        img_size: Sequence[int] | int = 224,
        patch_size: int = 16,
        in_channels: int = 3,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float | None = None,
        qkv_bias: bool = True,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale: bool = False,
        window_attn: Sequence[bool] | None = None,
        window_size: Sequence[int | None] | int = 14,
        class_token: bool = False,
        norm_eps: float = 1e-6,
        with_cp: bool = False,
        reducer: dict | Reducer | None = None,
        execution: str = "exact",
        family: str = "vit",
        rope_grid: int = 16,
    ) -> None:
        super().__init__()
        check_execution(execution)
        self.execution = execution
        self.embed_dim, self.depth, self.with_cp = embed_dim, depth, with_cp
        sides = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        if len(sides) != 2 or min(sides) < patch_size:
            raise SettingError(
                f"img_size is {img_size}; give a side or (height, width), each at least a patch of {patch_size} pixels"
            )
        self.table_grid = (sides[0] // patch_size, sides[1] // patch_size)
        self.patch_embed = PatchEmbed(None, patch_size, in_channels, embed_dim, strict_img_size=False)
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.table_grid[0] * self.table_grid[1], embed_dim))
        self.register_state_dict_post_hook(_note_grid)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if class_token else None
        self._tables = WeightCache()
        self.pos_drop = nn.Dropout(drop_rate)
        windows = _windows(depth, window_attn, window_size)
        rates = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()  # cpu: the model may be built on meta
        if family not in ("vit", *EVA02) or (family != "vit" and any(windows)):
            raise SettingError(
                f"family is {family!r}: choose 'vit' or, with global attention in all blocks, one of "
                f"{', '.join(map(repr, EVA02))}"
            )
        options = dict(
            qkv_bias=qkv_bias,
            proj_drop=drop_rate,
            init_values=1.0 if layer_scale else None,
            norm_layer=partial(nn.LayerNorm, eps=norm_eps),
        )
        if family == "vit":
            self.rope = None
            self.blocks = nn.ModuleList(
                Block(
                    embed_dim,
                    num_heads,
                    mlp_ratio or 4.0,
                    drop_path=rate,
                    attn_layer=WindowAttention if size else Attention,
                    **options,
                )
                for rate, size in zip(rates, windows, strict=True)
            )
        else:
            self.rope = RotaryEmbeddingCat(embed_dim // num_heads, in_pixels=False, ref_feat_shape=(rope_grid,) * 2)
            self.blocks = nn.ModuleList(
                EvaBlock(
                    embed_dim,
                    num_heads,
                    mlp_ratio=mlp_ratio or 8 / 3,
                    drop_path=rate,
                    swiglu_mlp=True,
                    **options,
                    **EVA02[family],
                )
                for rate in rates
            )
        for block, size in zip(self.blocks, windows, strict=True):
            if size:
                cast(Any, block).attn.window_size = size
        self.reducer = build_reducer(reducer, embed_dim, depth)
        if self.reducer:
            self.reducer.check_host(class_token, windows)
        # Initialized like timm, for training from scratch.
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)
        self.blocks.apply(init_linear)

    def start(self, image: Tensor, score_fn: Callable | None = None) -> StackForward:
        """Embed the patches of ``image`` and return the forward through the blocks, at its start.

        Args:
            image: (B, 3, h, w), h and w multiples of the patch.
            score_fn: see ``Reducer.start``.

        Raises:
            SettingError: the images are empty.
        """
        refuse_recording(image, self.reducer)
        patch = self.patch_embed.patch_size[0]
        grid = (image.shape[-2] // patch, image.shape[-1] // patch)
        if 0 in grid:
            raise SettingError(
                f"an image of {image.shape[-2]} x {image.shape[-1]} pixels has no patch of {patch}: "
                "leave empty images out"
            )
        patches, table = self.patch_embed(image), self.positions(grid)
        x = patches + table
        if self.cls_token is not None:
            x = torch.cat([(self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x], dim=1)
        embedding = None
        if self.reducer and self.reducer.reads_image:
            embedding = PatchEmbedding.of(image, grid, patches, table, self.patch_embed, self.pos_drop)
        return StackForward(
            self.blocks,
            self.reducer,
            self.pos_drop(x),
            grid,
            prefix=int(self.cls_token is not None),
            checkpointing=self.with_cp and self.training,
            execution=self.execution,
            score_fn=score_fn,
            rope=self.rotary_positions(grid),
            rope_of=None if self.rope is None else self.rope.get_embed,
            embedding=embedding,
        )

    def __prepare_scriptable__(self) -> None:
        raise SettingError(NO_SCRIPT)

    def train(self, mode: bool = True) -> PlainViT:
        """Set the mode of all modules and clear the cached position tables."""
        self._tables.clear()
        return super().train(mode)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the position table of a grid, (1, H * W, C); in evaluation it is computed once per size."""
        return self._tables.get(
            grid, [self.pos_embed], lambda: resize_positions(self.pos_embed[:, 1:], self.table_grid, grid)
        )

    def rotary_positions(self, grid: tuple[int, int]) -> Tensor | None:
        """Return the rotary embeddings of all positions of a grid, (N, 2D), class token included; None for "vit"."""
        if self.rope is None:
            return None
        prefix = int(self.cls_token is not None)
        return self._tables.get(
            ("rope", grid), [self.rope.bands], lambda: rope_with_prefix(self.rope.get_embed(grid), prefix)
        )


def _note_grid(vit: PlainViT, state: dict, prefix: str, metadata: dict) -> None:
    """Store the grid of the position table in the metadata of a state dict: its number of rows is ambiguous."""
    metadata["table_grid"] = vit.table_grid


def resize_positions(table: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Resample a position table (1, h * w, C) of grid ``old`` to grid ``new`` (bicubic, ``align_corners=False``)."""
    if tuple(old) == tuple(new):
        return table
    return resample(table.unflatten(1, old), *new, False).flatten(1, 2)


# A custom operator, so that torch.compile does not trace how the matrices are made, the products do not count as GMACs
# of the model, and autocast does not round them.
@torch.library.custom_op("token_pruning::resample", mutates_args=())
def resample(maps: Tensor, rows: int, columns: int, adjoint: bool) -> Tensor:
    """Resample maps (B, h, w, C) to (B, rows, columns, C) as bicubic ``F.interpolate`` does; or apply its adjoint.

    Two matrix products, because on CUDA ``F.interpolate`` takes a millisecond for the position table of an image of
    800 x 1344 pixels, and its backward is not deterministic.
    """
    matrices = []
    for old, new in ((maps.shape[1], rows), (maps.shape[2], columns)):
        matrices.append(_bicubic(new, old, maps.device).T if adjoint else _bicubic(old, new, maps.device))
    with torch.autocast(maps.device.type, enabled=False):
        out = torch.einsum("Hh,bhwc->bHwc", matrices[0], maps.float())
        return torch.einsum("Ww,bhwc->bhWc", matrices[1], out).to(maps.dtype).contiguous()


@resample.register_fake
def _(maps: Tensor, rows: int, columns: int, adjoint: bool) -> Tensor:
    return maps.new_empty(len(maps), rows, columns, maps.shape[3])


def _keep_size(ctx: Any, inputs: tuple[Tensor, int, int, bool], output: Tensor) -> None:
    ctx.size, ctx.adjoint = inputs[0].shape[1:3], inputs[3]


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    return resample(gradient, *ctx.size, not ctx.adjoint), None, None, None


resample.register_autograd(_backward, setup_context=_keep_size)


@cache  # without eviction: captured CUDA graphs keep reading the matrices
def _bicubic(old: int, new: int, device: torch.device) -> Tensor:
    """Return the matrix (new, old) of bicubic interpolation along one axis: the identity, interpolated."""
    with torch.inference_mode(False), torch.no_grad():
        identity = torch.eye(old, dtype=torch.float64).view(1, old, old, 1)
        matrix = F.interpolate(identity, (new, 1), mode="bicubic", align_corners=False).view(old, new).T
        return matrix.to(device, torch.float32).contiguous()


def init_linear(module: nn.Module) -> None:
    """Initialize linear layers (truncated normal of 0.02, zero bias) and LayerNorms (identity), in ``module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)


def _windows(depth: int, flags: Sequence[bool] | None, sizes: Sequence[int | None] | int) -> list[int | None]:
    """Return the window size of each block, None for global attention."""
    flags = [False] * depth if flags is None else list(flags)
    sizes = [sizes] * depth if isinstance(sizes, int) else list(sizes)
    for name, values in (("window_attn", flags), ("window_size", sizes)):
        if len(values) != depth:
            raise SettingError(f"{name} has {len(values)} entries for {depth} blocks; give one per block")
    for block, (flag, size) in enumerate(zip(flags, sizes, strict=True)):
        if flag and not size:
            raise SettingError(f"block {block} is windowed but its window_size is {size}; give the side in tokens")
    return [size if flag else None for flag, size in zip(flags, sizes, strict=True)]
