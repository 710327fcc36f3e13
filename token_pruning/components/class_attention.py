"""Token scores from class attention, keys and values, without computing the whole attention matrix.

Shapes: T packed tokens, B images, N positions, H heads, D channels of a head. The class token is the first prefix
token after the late ones (``TokenSet.late``).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..attention import QKV, log_size
from ..tokens import TokenSet
from .ranking import counts_of


def class_attention(tokens: TokenSet, qkv: QKV, prop_attn: bool = False) -> Tensor:
    """Return the class token's attention to each token of its image, (T, H).

    This is the class token's row of the attention matrix, in at least single precision.

    Args:
        tokens: the set that enters the block's attention.
        qkv: queries, keys and values of the block.
        prop_attn: proportional attention, as the block itself computes it: merged tokens are weighted by their size.
    """
    counts = counts_of(tokens)
    wide = torch.promote_types(qkv.k.dtype, torch.float32)
    bias = log_size(tokens) if prop_attn else None
    places = None if qkv.bias is None else class_bias(tokens, qkv.bias).to(wide)
    if counts.each is not None:
        q = tokens.by_image(qkv.q)[:, tokens.late, None].to(wide)
        k = tokens.by_image(qkv.k).to(wide)
        logits = (q * k).sum(-1) * k.shape[-1] ** -0.5
        logits = logits if bias is None else logits + tokens.by_image(bias)[..., None]
        logits = logits if places is None else logits + tokens.by_image(places)
        return logits.softmax(1).flatten(0, 1)
    lengths = counts.tensor(qkv.q.device)
    query = counts.per_token(qkv.q[lengths.cumsum(0) - lengths + tokens.late])
    logits = (query.to(wide) * qkv.k.to(wide)).sum(-1) * qkv.k.shape[-1] ** -0.5
    logits = logits if bias is None else logits + bias[:, None]
    logits = logits if places is None else logits + places
    return tokens.from_map(tokens.to_map(logits, fill=-torch.inf).softmax(1))


def class_bias(tokens: TokenSet, bias: Tensor) -> Tensor:
    """Return what ``bias`` (H, N, N) adds to the class token's logit of each token, (T, H)."""
    row = bias[:, tokens.late].T
    return row.repeat(tokens.batch, 1) if tokens.index is None else row[tokens.index % tokens.positions]


def significance(tokens: TokenSet, qkv: QKV, unscored: int, prop_attn: bool = False) -> Tensor:
    """Return significance scores (T,) that sum to one over each image.

    The class token's attention, summed over heads, times the norm of the token's value vector (ATS, eq. 4; PPT, eq. 5).
    The first ``unscored`` positions of each image get 0.
    """
    score = class_attention(tokens, qkv, prop_attn).sum(1) * qkv.v.flatten(1).float().norm(dim=1)
    return normalized(tokens, score, unscored)


def normalized(tokens: TokenSet, score: Tensor, unscored: int) -> Tensor:
    """Return scores (T,) that sum to one over each image; the first ``unscored`` positions of each get 0."""
    score = tokens.to_map(score)
    score = torch.cat([torch.zeros_like(score[:, :unscored]), score[:, unscored:]], dim=1)
    return tokens.from_map(score / score.sum(1, keepdim=True))


def key_mean(qkv: QKV) -> Tensor:
    """Return the mean of the keys over heads, (T, D): the similarity metric of merging methods."""
    return qkv.k.mean(1)
