"""APT against the recorded numbers of the released code: entropies, masks and order of the tokens exactly."""

import pytest
import torch
from fixture_files import close, where

from token_pruning import PlainViT
from token_pruning.components.patch_entropy import entropy, patch_scales, to_grey

RECORDS = where(lambda content: content.get("schema") == "apt-fixture-1")
VALUES = dict(atol=2e-5, rtol=0)


def model_of(record):
    settings = record["settings"]
    vit = PlainViT(
        img_size=settings["image_size"],
        patch_size=settings["patch_size"],
        embed_dim=settings["embed_dim"],
        depth=1,
        num_heads=2,
        class_token=True,
        reducer=dict(
            type="APT",
            thresholds=settings["thresholds"],
            scales=settings["num_scales"],
            mean=[255 * n for n in settings["mean"]],
            std=[255 * n for n in settings["std"]],
        ),
    ).eval()
    published = {name: value.float() for name, value in record["state_dict"].items()}
    published.pop("base_mini_pos_embed")  # unused
    state = {name if name.startswith("patch_embed") else f"reducer.{name}": v for name, v in published.items()}
    state |= dict(cls_token=record["cls_token"].float(), pos_embed=record["pos_embed"].float())
    assert not vit.load_state_dict(state, strict=False).unexpected_keys
    return vit


def pixels(record):
    mean, std = (torch.tensor(record["settings"][name]).view(3, 1, 1) for name in ("mean", "std"))
    return (record["images_uint8"].float() / 255 - mean) / std


@pytest.mark.parametrize("record", RECORDS)
def test_entropies_and_patch_sizes(record):
    settings, patch = record["settings"], record["settings"]["patch_size"]
    grey = to_grey(pixels(record), [255 * n for n in settings["mean"]], [255 * n for n in settings["std"]])
    for size, wanted in record["entropy"].items():
        close(entropy(grey, (size, size)), wanted, atol=2e-6, rtol=0)
    side = settings["image_size"] // patch
    scales = patch_scales(grey, (patch, patch), (side, side), settings["thresholds"])
    for size, wanted in record["masks"].items():
        step = size // patch
        assert torch.equal(scales[:, ::step, ::step] == step.bit_length() - 1, wanted)


@pytest.mark.parametrize("record", RECORDS)
@torch.no_grad()
def test_tokens(record):
    vit = model_of(record)
    for name in ("tokens", "tokens_at_start"):
        if name == "tokens_at_start":
            vit.reducer.zero_conv.weight.zero_()
            vit.reducer.zero_conv.bias.zero_()
        tokens = vit.start(pixels(record)).tokens
        assert list(tokens.counts) == record["seqlens"]
        # The released order is by scale; here it is that of the map.
        area = torch.bincount(tokens.assignment, minlength=tokens.batch * tokens.positions)[tokens.index]
        scale = torch.where(tokens.is_prefix(), -1, 1 + area.log2().round().long() // 2)
        order = torch.cat([part.argsort(stable=True) + start for part, start in _parts(scale, tokens.counts)])
        assert torch.equal(scale[order], record["scale_of_token"].long())
        close(tokens.x[order], record[name], **VALUES)


def _parts(values, counts):
    start = 0
    for part in counts.split(values):
        yield part, start
        start += len(part)
