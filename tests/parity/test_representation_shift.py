"""Representation shift against recorded scores and kept tokens, computed slowly from the paper's equations."""

from functools import partial

import pytest
import torch
from fixture_files import close, of_method
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from token_pruning import EViT, StackForward
from token_pruning.components.token_score import representation_shift


@pytest.mark.parametrize("record", of_method("repshift"))
@torch.no_grad()
def test_scores_and_kept_tokens(record):
    config, settings = record["model"], record["settings"]
    names = ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_classes", "class_token", "global_pool")
    weights = {name: value.float() for name, value in record["state_dict"].items()}
    model = VisionTransformer(
        img_size=tuple(config["img_size"]),
        **{name: config[name] for name in names},
        fc_norm="fc_norm.weight" in weights,
        norm_layer=partial(nn.LayerNorm, eps=config["norm_eps"]),
    ).eval()
    model.load_state_dict(weights)
    images, scores = record["images"].float(), {}
    close(model(images), record["dense"]["logits"], atol=2e-5, rtol=0)

    class Watched(EViT):
        def after_mlp(self, block, tokens, branch, state):
            scores[block] = tokens.by_image(representation_shift(tokens, branch))
            super().after_mlp(block, tokens, branch, state)

    reducer = Watched(
        config["embed_dim"],
        config["depth"],
        blocks=settings["blocks"] or [config["depth"] - 1],
        keep_ratio=[1 - share for share in settings["shares"]] or 1.0,
        fuse=False,
        score="representation_shift",
    )
    tokens = model._pos_embed(model.patch_embed(images))
    stack = StackForward(model.blocks, reducer, tokens, model.patch_embed.grid_size, model.num_prefix_tokens)
    kept = iter(record["kept"])
    for block, layer in enumerate(record["layers"]):
        stack.run(block, block)
        close(scores[block], layer["mlp_l2"], atol=1e-5, rtol=1e-5)
        if block in settings["blocks"]:
            index = stack.tokens.index % stack.tokens.positions
            assert [part.tolist() for part in stack.tokens.counts.split(index)] == next(kept)
    x = stack.tokens.by_image(stack.tokens.x)
    pooled = model.norm(x)[:, 0] if config["class_token"] else x.mean(1)
    if not config["class_token"]:
        pooled = model.fc_norm(model.norm(x).mean(1))
    close(model.head(pooled), record["logits"], atol=2e-5, rtol=0)
