"""A plain vision transformer for dense tasks: timm's blocks and key names, any image size, a reducer or none.

Shapes: B images, H x W grid of patches, N = H * W tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from timm.layers import Attention, Format
from torch import Tensor, nn

from .attention import WindowAttention, rope_with_prefix
from .cache import WeightCache
from .embedding import PatchEmbedding
from .errors import SettingError
from .forward import StackForward, check_execution
from .positions import resize_positions
from .recording import NO_SCRIPT, refuse_recording
from .reducer import Reducer, build_reducer
from .timm_models import create_published, create_trunk

PREFIX = ("cls_token", "dist_token", "reg_token")  # in the order of the sequence


class PlainViT(nn.Module):
    """Patch embedding, position table and blocks; base of the backbones (ViT-Adapter, ViT pyramid).

    With ``model_name`` it is any plain vision transformer of timm, with timm's weights and numbers. Without, it is the
    ViT of the published DeiT and ViT-Adapter files: row 0 of the position table belongs to the class token, even
    without one in the sequence, so that these files load and save unchanged.

    Args:
        img_size: of pretraining, one side or (h, w); only determines the size of the position table. Default 224, with
            ``model_name`` timm's.
        patch_size: default 16, with ``model_name`` timm's.
        embed_dim: channels of a token; default 768, with ``model_name`` timm's.
        depth: number of blocks; default 12, with ``model_name`` timm's.
        num_heads: heads of the attention; default 12, with ``model_name`` timm's.
        mlp_ratio: hidden channels of the MLPs per channel of a token; default 4, with ``model_name`` timm's.
        qkv_bias: default True; not with ``model_name``.
        drop_path_rate: of the last block; rises linearly from 0 at the first.
        layer_scale: learned factors per channel on both branches (initially 1); not with ``model_name``, see
            ``model_args``.
        window_attn: per block, whether attention is windowed; default all global.
        window_size: per block, or one for all windowed blocks.
        class_token: a class token in the sequence, for reducers that use its attention; default False. With
            ``model_name`` the sequence has the prefix tokens of the model (class token, registers), and False leaves
            all of them out, as ViT-Adapter does.
        norm_eps: of the blocks' LayerNorms; default 1e-6 (published SViT files were trained with 1e-5), with
            ``model_name`` timm's.
        with_cp: gradient checkpointing of the blocks.
        reducer: ``dict(type=METHOD, ...)``, a Reducer, or None for the dense model.
        execution: "exact" or "capacity", see ``StackForward``; may be changed at any time.
        model_name: name of a ``VisionTransformer`` or ``Eva`` of timm, such as "vit_small_patch16_dinov3".
        model_args: further arguments of the timm model (``init_values``, ``ref_feat_shape``, ``reg_tokens``, ...).

    Raises:
        SettingError: an ``img_size`` below a patch, window lists that do not fit ``depth``, windows in an ``Eva`` or
            beside prefix tokens, an unknown model or reducer.
    """

    rope: Any  # timm's rotary embedding, or None
    pos_embed: nn.Parameter | None
    cls_token: nn.Parameter | None
    dist_token: nn.Parameter | None
    reg_token: nn.Parameter | None
    reducer: Reducer | None

    def __init__(
        self,
        img_size: Sequence[int] | int | None = None,
        patch_size: int | None = None,
        in_channels: int = 3,
        embed_dim: int | None = None,
        depth: int | None = None,
        num_heads: int | None = None,
        mlp_ratio: float | None = None,
        qkv_bias: bool | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        layer_scale: bool | None = None,
        window_attn: Sequence[bool] | None = None,
        window_size: Sequence[int | None] | int = 14,
        class_token: bool | None = None,
        norm_eps: float | None = None,
        with_cp: bool = False,
        reducer: dict | Reducer | None = None,
        execution: str = "exact",
        model_name: str | None = None,
        model_args: dict | None = None,
    ) -> None:
        super().__init__()
        check_execution(execution)
        self.execution, self.with_cp, self.model_name = execution, with_cp, model_name
        sizes: dict[str, Any] = dict(patch_size=patch_size, embed_dim=embed_dim, depth=depth, num_heads=num_heads)
        sizes.update(mlp_ratio=mlp_ratio, in_chans=in_channels, drop_path_rate=drop_path_rate)
        sizes.update(pos_drop_rate=drop_rate, proj_drop_rate=drop_rate)
        if model_name is None:
            if model_args:
                raise SettingError("model_args are arguments of a timm model: set model_name as well")
            model = create_published(img_size, qkv_bias is not False, 1.0 if layer_scale else None, **sizes)
        else:
            if qkv_bias is not None or layer_scale is not None:
                raise SettingError(
                    f"qkv_bias and layer_scale follow from model_name {model_name!r}: leave them out, or set "
                    "model_args=dict(qkv_bias=..., init_values=...)"
                )
            model = create_trunk(model_name, img_size=img_size, **sizes, **(model_args or {}))
            if class_token and model.cls_token is None:
                raise SettingError(f"model_name {model_name!r} has no class token: leave class_token out")
        self._tables = WeightCache()
        self._take(model, bool(class_token) if model_name is None else class_token is not False)
        for block in self.blocks if norm_eps else ():
            cast(Any, block).norm1.eps = cast(Any, block).norm2.eps = norm_eps
        windows = _windows(self.depth, window_attn, window_size)
        self._set_windows(windows)
        self.reducer = build_reducer(reducer, self.embed_dim, self.depth)
        if self.reducer:
            self.reducer.check_host(self.cls_token is not None, windows)

    def _take(self, model: Any, with_prefix: bool) -> None:
        """Take over the parts of a timm model, under timm's names, with its prefix tokens or without."""
        self.embed_dim, self.depth = model.embed_dim, len(model.blocks)
        self.table_grid, self.antialias = model.patch_embed.grid_size, self.model_name is not None
        self.table_prefix = 0 if model.no_embed_class else model.num_prefix_tokens
        self.patch_embed = model.patch_embed
        self.patch_embed.output_fmt, self.patch_embed.flatten = Format.NCHW, True  # (B, N, C), for any image
        self.pos_embed, self.pos_drop, self.norm_pre = model.pos_embed, model.pos_drop, model.norm_pre
        self.blocks, self.rope = nn.ModuleList(model.blocks), getattr(model, "rope", None)
        for name in PREFIX:
            setattr(self, name, getattr(model, name, None) if with_prefix else None)
        if self.pos_embed is not None:
            self.register_state_dict_post_hook(_note_grid)

    def _set_windows(self, windows: list[int | None]) -> None:
        """Give the windowed blocks their attention."""
        if not any(windows):
            return
        if self.rope is not None or not all(type(cast(Any, block).attn) is Attention for block in self.blocks):
            raise SettingError(
                f"model_name {self.model_name!r} has rotary positions or attention of its own, which do not run in "
                "windows: leave window_attn out, so that all blocks are global"
            )
        if self.num_prefix_tokens:
            raise SettingError("windowed blocks take no prefix tokens: set class_token=False, or leave window_attn out")
        for block, size in zip(self.blocks, windows, strict=True):
            if size:
                attn = cast(Any, block).attn
                attn.__class__, attn.window_size = WindowAttention, size  # the same layers under another forward

    @property
    def num_prefix_tokens(self) -> int:
        """P, the number of prefix tokens in the sequence."""
        return sum(token.shape[1] for token in self._prefix())

    def _prefix(self) -> list[Tensor]:
        return [token for token in (getattr(self, name) for name in PREFIX) if token is not None]

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
        patches = self.patch_embed(image)
        table = None if self.pos_embed is None else self.positions(grid)
        x = patches if table is None else patches + table
        prefix, embedding = self.prefix_tokens(), None
        if prefix is not None:
            x = torch.cat([prefix.expand(x.shape[0], -1, -1), x], dim=1)
        if self.reducer and self.reducer.reads_image:
            embedding = PatchEmbedding.of(image, grid, patches, table, self.patch_embed, self._after_positions)
        return StackForward(
            self.blocks,
            self.reducer,
            self._after_positions(x),
            grid,
            prefix=self.num_prefix_tokens,
            checkpointing=self.with_cp and self.training,
            execution=self.execution,
            score_fn=score_fn,
            rope=self.rotary_positions(grid),
            rope_of=None if self.rope is None else self.rope.get_embed,
            embedding=embedding,
        )

    def _after_positions(self, x: Tensor) -> Tensor:
        return self.norm_pre(self.pos_drop(x))

    def prefix_tokens(self) -> Tensor | None:
        """Return the prefix tokens (1, P, C) as they enter the blocks; None if there are none."""
        if not self._prefix():
            return None
        prefix = torch.cat(self._prefix(), dim=1)
        if self.pos_embed is None or not self.table_prefix:
            return prefix
        return prefix + self.pos_embed[:, : prefix.shape[1]]

    def __prepare_scriptable__(self) -> None:
        raise SettingError(NO_SCRIPT)

    def train(self, mode: bool = True) -> PlainViT:
        """Set the mode of all modules and clear the cached position tables."""
        self._tables.clear()
        return super().train(mode)

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the position table of a grid, (1, H * W, C); in evaluation it is computed once per size."""
        table = cast(Tensor, self.pos_embed)
        return self._tables.get(
            grid,
            [table],
            lambda: resize_positions(table[:, self.table_prefix :], self.table_grid, grid, self.antialias),
        )

    def rotary_positions(self, grid: tuple[int, int]) -> Tensor | None:
        """Return the rotary embeddings of all positions of a grid, (N, 2D), prefix tokens included, or None."""
        if self.rope is None:
            return None

        def make() -> Tensor:
            return rope_with_prefix(self.rope.get_embed(shape=grid), self.num_prefix_tokens)

        bands = next(self.rope.buffers(), None)  # what the table is made of
        return make() if bands is None else self._tables.get(("rope", grid), [bands], make)


def _note_grid(vit: PlainViT, state: dict, prefix: str, metadata: dict) -> None:
    """Store the grid of the position table in the metadata of a state dict: its number of rows is ambiguous."""
    metadata["table_grid"] = vit.table_grid


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
