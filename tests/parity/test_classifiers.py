"""Classification by SViT and EViT against the recorded numbers of the published code: masks exactly."""

import pytest
import torch
from fixture_files import close, of_kind
from timm.models.vision_transformer import VisionTransformer

import token_pruning
from mmcv_custom.checkpoint.key_maps import from_published
from token_pruning import EViT, Trace, ratio_loss

LOGITS = dict(atol=2e-4, rtol=1e-4)


def pruned(record, reducer, eps):
    """Return timm's model under ``reducer``, with the recorded weights of both."""
    config = record["config"]
    sizes = {
        name: config[name]
        for name in ("img_size", "patch_size", "num_classes", "embed_dim", "depth", "num_heads", "mlp_ratio")
    }
    model = VisionTransformer(**sizes)
    for name, module in model.named_modules():
        if name.endswith(("norm1", "norm2")):
            module.eps = eps  # the published classifier's final norm has 1e-6 in any case
    token_pruning.apply(model, reducer)
    model.load_state_dict(from_published(record["state_dict"]))
    return model.eval()


def test_there_is_something_to_compare_with():
    assert of_kind("classification_svit") or of_kind("evit"), "no fixtures; PARITY_FIXTURES must name their folder"


@pytest.mark.parametrize("record", of_kind("classification_svit"))
@torch.no_grad()
def test_svit(record):
    config = record["config"]
    model = pruned(
        record,
        dict(
            type="SViT",
            blocks=[layer - 1 for layer in config["select_loc"]],
            keep_ratio=config["keep_ratio"],
            inherit=config["inherit_mask"],
            class_tokens="keep",
            last_class_tokens="score",
            mode="threshold",
        ),
        eps=1e-5,
    )
    with Trace() as trace:
        logits = model(record["image"].float())
    close(logits, record["logits"], **LOGITS)
    if "logits_fast_path" in record:
        close(logits, record["logits_fast_path"], **LOGITS)
    seen, terms, before = trace.passes[0], [], None
    for block, raw, ratio in zip(model.reducer.pruned_blocks, record["patch_masks"], config["keep_ratio"], strict=True):
        scored = seen.used[block][:, -raw.shape[1] :]  # all tokens but the class token; in the last block all tokens
        if config["inherit_mask"] and before is not None:
            # A class token that is not scored is kept in the recorded mask before.
            raw = raw & torch.nn.functional.pad(before, (raw.shape[1] - before.shape[1], 0), value=True)
        before = raw
        assert torch.equal(scored, raw)
        terms.append(ratio_loss(scored.float(), ratio))
    assert torch.stack(terms).mean().item() == pytest.approx(record["ratio_loss"], abs=1e-6)


@pytest.mark.parametrize("record", of_kind("evit"))
@torch.no_grad()
def test_evit(record):
    rates = record["config"]["keep_rate"]
    blocks = [i for i, rate in enumerate(rates) if rate < 1]
    model = pruned(
        record,
        dict(type="EViT", blocks=blocks, keep_ratio=[rates[i] for i in blocks], fuse=record["config"]["fuse_token"]),
        eps=1e-6,
    )
    with Trace() as trace:
        close(model(record["image"]), record["logits"], **LOGITS)
    # The recorded indices count the surviving tokens as the published code orders them: best first, then the fused one.
    seen, batch = trace.passes[0], len(record["image"])
    order = [list(range(seen.used[0].shape[1] - 1)) for _ in range(batch)]
    for block, kept in zip(blocks, record["kept_idx"], strict=True):
        for b in range(batch):
            best = [order[b][j] for j in kept[b].tolist()]
            left = seen.left[block][b, 1:].nonzero().flatten().tolist()
            fused = sorted({*left} - {*best})
            assert {*best} <= {*left} and len(fused) == int(record["config"]["fuse_token"])
            order[b] = best + fused
    for rate, name in ((0.8, "logits_keep_rate_0p8"), (1.0, "logits_keep_rate_1")):
        token_pruning.apply(
            model, EViT(model.embed_dim, len(model.blocks), blocks, rate, fuse=record["config"]["fuse_token"])
        )
        close(model(record["image"]), record[name], **LOGITS)
