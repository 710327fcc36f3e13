"""Self-attention of packed tokens: tokens attend within their image, whatever its number of tokens.

Shapes: T packed tokens (image after image), B images, n tokens of one image, N positions of the map, H heads, D
channels of a head, C = H * D.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
import torch.nn.functional as F
from timm.layers import Attention, apply_rot_embed_cat
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from .calling import by_image, call, is_called, packed, unwrapped
from .errors import SettingError
from .tokens import TokenSet

if TYPE_CHECKING:
    from .adapters import BlockAdapter


class QKV(NamedTuple):
    """Queries, keys and values of one block, each (T, H, D), which a reducer may read between attention and MLP.

    ``bias`` (H, N, N), if any, is what the block adds to the logits of two positions of the map.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor | None = None


class WindowAttention(Attention):
    """Attention within non-overlapping windows of the grid (ViT-Adapter's windowed blocks).

    The map of q, k, v is padded with zeros at the right and bottom *after* the projection, and padding is not masked,
    because the published weights were trained this way. Needs every position of the grid, or a smaller grid to which
    every window was reduced by itself (``TokenSet.subgrid``).
    """

    window_size: int = 14  # set by the host: timm's Block passes no further arguments on


NO_WINDOWS = (
    "a window-attention block needs all tokens of the grid and no prefix tokens; list only global-attention blocks in "
    "the reducer's `blocks`, or use CubistMerge with the window_size of the block"
)


def rotate(qkv: QKV, tokens: TokenSet, rope: Tensor, half: bool) -> QKV:
    """Apply rotary position embeddings: rotate q and k of each token by the angles of its position in the map.

    Args:
        rope: (N, 2D) sines, then cosines; 0 and 1 for prefix tokens, which are not rotated. For a set that forms a
            smaller grid, the rows of its tokens.
        half: channels i and i + D/2 form a pair, instead of adjacent channels.
    """
    if tokens.index is None or tokens.subgrid is not None:
        q, k = (_rotated(tokens.by_image(t), rope[:, None], half).flatten(0, 1) for t in qkv[:2])
    else:
        rope = rope[tokens.index % tokens.positions][:, None]
        q, k = (_rotated(t, rope, half) for t in qkv[:2])
    return qkv._replace(q=q, k=k)


def _rotated(x: Tensor, rope: Tensor, half: bool) -> Tensor:
    """Return ``x`` (..., H, D), rotated by ``rope`` (..., 1, 2D), as timm rotates it."""
    if not half or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return apply_rot_embed_cat(x, rope, half)
    # Three passes over memory instead of seven; gradients and graphs are better off without writing in place.
    sin, cos = rope.chunk(2, dim=-1)
    out, middle = x * cos, x.shape[-1] // 2
    out[..., :middle].addcmul_(x[..., middle:], sin[..., :middle], value=-1)
    out[..., middle:].addcmul_(x[..., :middle], sin[..., middle:])
    return out.to(x.dtype)


def rope_with_prefix(rope: Tensor, prefix: int) -> Tensor:
    """Prepend rows for ``prefix`` tokens, which are not rotated, to a table (H * W, 2D) of grid tokens: (N, 2D)."""
    identity = torch.cat([rope.new_zeros(prefix, rope.shape[1] // 2), rope.new_ones(prefix, rope.shape[1] // 2)], dim=1)
    return torch.cat([identity, rope])


def self_attention(
    block: BlockAdapter,
    x: Tensor,
    tokens: TokenSet,
    keys: Tensor | None = None,
    prop_attn: bool = False,
    rope: Tensor | None = None,
    visible: Tensor | None = None,
) -> tuple[Tensor, QKV]:
    """Run the attention of a block on packed tokens.

    Args:
        block: says where the block keeps its projections.
        x: (T, C) normalized tokens.
        tokens: the set that they belong to, which knows the image of each token.
        keys: (T,) bool, which tokens can be attended to (all tokens are queries), or their soft mask, see
            ``soft_attention``; None for all.
        prop_attn: weight merged tokens by their size as keys (ToMe, eq. 1).
        rope: (N, 2D) rotary position embeddings, see ``rotate``, or None.
        visible: (B, N, Q) masked attention of the first Q positions, see ``visible_tokens``; None: they see all keys.

    Returns:
        The projected output (T, C), and q, k, v as used in the attention.

    Raises:
        ValueError: a windowed block is asked to run on a subset of the grid whose windows are not reduced alike.
    """
    return through_module(block, x, tokens, lambda x: _self_attention(block, x, tokens, keys, prop_attn, rope, visible))


def through_module(
    block: BlockAdapter, x: Tensor, tokens: TokenSet, run: Callable[[Tensor], tuple[Tensor, QKV]]
) -> tuple[Tensor, QKV]:
    """Return ``run(x)``; where the block's attention module is called, it is run inside of it, so that hooks see it.

    Args:
        run: (T, C) normalized tokens -> the projected output (T, C), and q, k, v.
    """
    if not is_called(block.attn):
        return run(x)
    used: list[QKV] = []

    def forward(x: Tensor) -> Tensor | tuple[Tensor, None]:
        out, qkv = run(packed(x))
        used.append(qkv)
        out = by_image(out, tokens)
        return (out, None) if block.attn_returns_tuple else out

    return call(block.attn, forward, x, tokens), used[-1]


def _self_attention(
    block: BlockAdapter,
    x: Tensor,
    tokens: TokenSet,
    keys: Tensor | None,
    prop_attn: bool,
    rope: Tensor | None,
    visible: Tensor | None,
) -> tuple[Tensor, QKV]:
    qkv, attn = block.qkv(x)._replace(bias=block.bias), unwrapped(block.attn)
    if rope is not None:
        qkv = rotate(qkv, tokens, rope, block.rotate_half)
    dropout = block.attn_dropout
    seen = None if visible is None else visible_tokens(tokens, visible)
    if isinstance(attn, WindowAttention):
        if tokens.prefix or keys is not None or seen is not None:
            raise SettingError(NO_WINDOWS)
        out = _window_attention(qkv, tokens.batch, *window_layout(tokens, attn.window_size), dropout)
    elif keys is not None and keys.is_floating_point():
        out = soft_attention(qkv, tokens, keys, dropout, seen=seen)
    else:
        bias = log_size(tokens) if prop_attn else None
        out = packed_attention(qkv, tokens, keys, dropout, bias, seen)
    return block.project(out.flatten(1), x), qkv


def window_layout(tokens: TokenSet, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the grid that the tokens form, and the rows and columns of its windows, for windows of ``size`` tokens.

    Raises:
        SettingError: the tokens form no grid, or one whose windows of this size were not reduced one by one.
    """
    if tokens.is_full:
        return tokens.grid, (size, size)
    if tokens.subgrid is None or tokens.subgrid.window != size:
        raise SettingError(NO_WINDOWS)
    return tokens.subgrid.grid, tokens.subgrid.window_shape


def log_size(tokens: TokenSet) -> Tensor | None:
    """Return what proportional attention adds to the logits of each key, (T,); None before anything is merged."""
    return None if tokens.size is None else tokens.size.log()


def visible_tokens(tokens: TokenSet, visible: Tensor) -> Tensor:
    """Return which tokens each of the first Q positions of their image can attend to, (T, Q) bool.

    A token is visible where the mean of ``visible`` (B, N, Q) over the positions that it represents is positive. Before
    anything is merged this is the rule of masked attention (Mask2Former, EoMT).

    Raises:
        SettingError: only the device knows the number of tokens of each image.
    """
    if tokens.counts is None:
        raise SettingError(
            "masked attention needs the number of tokens of each image, and execution='capacity' leaves it to the "
            "device: use execution='exact'"
        )
    return tokens.mean_of_positions(visible) > 0


def packed_attention(
    qkv: QKV,
    tokens: TokenSet,
    keys: Tensor | None = None,
    dropout: float = 0.0,
    bias: Tensor | None = None,
    seen: Tensor | None = None,
) -> Tensor:
    """Compute attention (T, H, D) within each image, without padding to the longest.

    Images with the same number of tokens (also a single image) are one fused call. Otherwise 16 bit on CUDA is one
    variable-length flash call, and everything else one fused call per image on slices. Where only the device knows the
    counts and there is no flash kernel, attention is masked on all positions: exact, but no cheaper than dense.

    Args:
        keys: (T,) bool, which tokens can be attended to; None for all.
        dropout: probability for attention weights.
        bias: (T,) added to the logits of each key.
        seen: (T, Q) bool, which tokens can be attended to by each of the first Q tokens of their image, which all sets
            contain; the other tokens attend to all. None for no such limit.
    """
    counts, mask = tokens.counts, keys
    if bias is not None:
        mask = bias if keys is None else bias.masked_fill(~keys, -torch.inf)
    if seen is not None:
        return _with_masked_queries(qkv, tokens, seen, mask, dropout)
    place = None if qkv.bias is None or tokens.index is None else tokens.index % tokens.positions
    if counts is not None and counts.each is not None:
        return _attend(qkv, counts.batch, mask, dropout, place)
    if _has_flash(qkv) and mask is None and not dropout and qkv.bias is None:
        return _flash(qkv, tokens)
    if counts is None:
        return _masked(qkv, tokens)
    parts, start = [], 0
    for n in counts:
        if n:
            here = slice(start, start + n)
            one = qkv._replace(q=qkv.q[here], k=qkv.k[here], v=qkv.v[here])
            of_one = [None if t is None else t[here] for t in (mask, place)]
            parts.append(_attend(one, 1, of_one[0], dropout, of_one[1]))
        start += n
    return torch.cat(parts) if parts else qkv.v


def _with_masked_queries(qkv: QKV, tokens: TokenSet, seen: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """Compute attention whose first Q rows of each image see the tokens ``seen`` (T, Q) only.

    Two calls per group of images with equal counts: only the masked rows pay for a mask of their own.
    """
    assert tokens.counts is not None  # `visible_tokens` checks it
    if qkv.bias is not None:
        raise SettingError("masked attention does not add relative positions: take a host without them")
    number, counts = seen.shape[1], tokens.counts
    masks = [None] * (counts.batch if counts.each is None else 1) if mask is None else counts.groups(mask)
    parts = []
    for *heads, rows, columns in zip(*map(counts.groups, (*qkv[:3], seen)), masks, strict=True):
        q, k, v = (t.transpose(1, 2) for t in heads)
        rows = rows.transpose(1, 2)[:, None]  # (b, 1, Q, n)
        columns = None if columns is None else columns[:, None, None]
        if columns is None:
            limited = rows
        elif columns.dtype == torch.bool:
            limited = rows & columns
        else:
            columns = columns.to(q.dtype)
            limited = columns.expand(rows.shape).masked_fill(~rows, -torch.inf)
        first, others = q[:, :, :number], q[:, :, number:]
        first = F.scaled_dot_product_attention(first, k, v, attn_mask=limited, dropout_p=dropout)
        others = F.scaled_dot_product_attention(others, k, v, attn_mask=columns, dropout_p=dropout)
        parts.append(torch.cat([first, others], dim=2).transpose(1, 2).flatten(0, 1))
    return torch.cat(parts)


def soft_attention(
    qkv: QKV, tokens: TokenSet, keys: Tensor, dropout: float = 0.0, eps: float = 1e-6, seen: Tensor | None = None
) -> Tensor:
    """Compute attention (T, H, D) with weights multiplied by a soft mask before normalization (DynamicViT, eq. 12).

    Gradients of the mask ``keys`` (T,) then show what a dropped key would have contributed. A token always attends to
    itself. The weights are materialized: meant for training, on a full set. ``seen``: see ``packed_attention``.
    """
    q, k, v = (tokens.by_image(t).transpose(1, 2) for t in qkv[:3])
    logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
    logits = logits if qkv.bias is None else logits + qkv.bias  # the set is full
    mask = tokens.by_image(keys).to(logits.dtype)[:, None, None]
    itself = torch.eye(mask.shape[-1], dtype=mask.dtype, device=mask.device)
    mask = mask + (1 - mask) * itself
    if seen is not None:
        rows = tokens.by_image(seen).transpose(1, 2)[:, None]  # (B, 1, Q, n)
        mask = torch.cat([mask[:, :, : rows.shape[2]] * rows, mask[:, :, rows.shape[2] :]], dim=2)
    weights = (logits - logits.amax(3, keepdim=True).detach()).exp() * mask
    weights = (weights + eps / weights.shape[-1]) / (weights.sum(3, keepdim=True) + eps)
    return (F.dropout(weights, dropout).to(v.dtype) @ v).transpose(1, 2).flatten(0, 1)


def _has_flash(qkv: QKV) -> bool:
    dim = qkv.v.shape[-1]
    return qkv.v.is_cuda and qkv.v.dtype in (torch.float16, torch.bfloat16) and dim % 8 == 0 and dim <= 256


def _flash(qkv: QKV, tokens: TokenSet) -> Tensor:
    # Each image is a segment, and so are the unused rows of a set of fixed capacity: the kernel does not write rows
    # outside of all segments, and uninitialized memory may hold NaN.
    if tokens.counts is None:
        assert tokens.offsets is not None
        offsets, longest = tokens.offsets, qkv.v.shape[0]
    else:
        ends = [0, *accumulate(tokens.counts)]
        offsets, longest = torch.tensor(ends, dtype=torch.int32, device=qkv.v.device), tokens.counts.most
    q, k, v = (t.to(qkv.v.dtype) for t in qkv[:3])  # norms of q and k may return single precision
    return cast(Tensor, varlen_attn(q, k, v, offsets, offsets, longest, longest))


def _masked(qkv: QKV, tokens: TokenSet) -> Tensor:
    """Compute attention in a set of fixed capacity with unused keys masked."""
    assert tokens.index is not None and tokens.offsets is not None  # a fixed capacity has both
    index = tokens.index
    if tokens.batch == 1:
        used = torch.arange(qkv.v.shape[0], device=qkv.v.device) < tokens.offsets[1]
        return _attend(qkv, 1, used, 0.0, index.clamp(max=tokens.positions - 1))
    rows = tokens.batch * tokens.positions

    def on_map(t: Tensor) -> Tensor:
        return t.new_zeros(rows + 1, *t.shape[1:]).index_copy(0, index, t)[:-1]

    on_maps = qkv._replace(q=on_map(qkv.q), k=on_map(qkv.k), v=on_map(qkv.v))
    out = _attend(on_maps, tokens.batch, tokens.members(), 0.0)
    return out[index.clamp(max=rows - 1)]


def _attend(qkv: QKV, batch: int, mask: Tensor | None, dropout: float, place: Tensor | None = None) -> Tensor:
    """Compute attention of images with equal token counts.

    Args:
        mask: (T,) of keys, bool or added to the logits.
        place: (T,) the position of each token in its image, with a ``qkv.bias``; None where all positions are there.
    """
    tokens, heads, dim = qkv.v.shape
    if not tokens:
        return qkv.v
    q, k, v = (t.view(batch, -1, heads, dim).transpose(1, 2) for t in qkv[:3])
    if mask is not None:
        mask = mask.view(batch, 1, 1, -1)
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
    if qkv.bias is not None:
        pairs = qkv.bias[None] if place is None else _pairs(qkv.bias, place.view(batch, -1))
        pairs = pairs.to(q.dtype)
        if mask is not None:
            pairs = pairs.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else pairs + mask
        mask = pairs
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    return out.transpose(1, 2).reshape(tokens, heads, dim)


def _pairs(bias: Tensor, place: Tensor) -> Tensor:
    """Return the entries (B, H, n, n) of ``bias`` (H, N, N) for the tokens at the positions ``place`` (B, n)."""
    return bias[:, place[:, :, None], place[:, None, :]].transpose(0, 1)


def _window_attention(qkv: QKV, batch: int, grid: tuple[int, int], window: tuple[int, int], dropout: float) -> Tensor:
    (rows, cols), (high, broad) = grid, window
    heads, dim = qkv.v.shape[1:]
    down, right = -rows % high, -cols % broad
    tall, wide = (rows + down) // high, (cols + right) // broad

    def fold(t: Tensor) -> Tensor:
        t = F.pad(t.view(batch, rows, cols, heads, dim), (0, 0, 0, 0, 0, right, 0, down))
        t = t.view(batch, tall, high, wide, broad, heads, dim).permute(0, 1, 3, 5, 2, 4, 6)
        return t.reshape(-1, heads, high * broad, dim)

    q, k, v = map(fold, qkv[:3])
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
    out = out.view(batch, tall, wide, heads, high, broad, dim).permute(0, 1, 4, 2, 5, 3, 6)
    out = out.reshape(batch, tall * high, wide * broad, heads, dim)
    return out[:, :rows, :cols].reshape(-1, heads, dim)
