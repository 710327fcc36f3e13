"""EoMT's network beside transformers' models on random weights, where transformers is installed."""

import pytest
import torch
from torch import nn

from mmcv_custom import load_into
from mmcv_custom.models.eomt import EoMTEncoder, predictions
from mmcv_custom.models.eomt_head import EoMTHead

transformers = pytest.importorskip("transformers")

COMMON = dict(hidden_size=32, num_hidden_layers=4, num_attention_heads=2, num_blocks=2, num_queries=6, image_size=96)
COMMON |= dict(num_register_tokens=4, patch_size=16, num_labels=5)


class Model(nn.Module):
    """Encoder and head under the names that files are converted to."""

    def __init__(self, name: str, **encoder) -> None:
        super().__init__()
        self.backbone = EoMTEncoder(
            model_name=name,
            img_size=96,
            embed_dim=32,
            depth=4,
            num_heads=2,
            num_queries=6,
            query_blocks=2,
            norm_eps=1e-6,
            **encoder,
        )
        self.decode_head = nn.Module()
        self.decode_head.network = EoMTHead(32, 5)


def theirs(kind):
    torch.manual_seed(0)
    if kind == "dinov2":
        config = transformers.EomtConfig(**COMMON, mlp_ratio=2)
        model, name = transformers.EomtForUniversalSegmentation(config), "vit_small_patch14_reg4_dinov2"
    else:
        config = transformers.EomtDinov3Config(**COMMON, intermediate_size=64)
        model, name = transformers.EomtDinov3ForUniversalSegmentation(config), "vit_small_patch16_dinov3_qkvb"
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval(), name


@pytest.mark.parametrize("masked", [0.0, 1.0])
@pytest.mark.parametrize("kind", ["dinov2", "dinov3"])
def test_outputs(kind, masked):
    model, name = theirs(kind)
    model.attn_mask_probs.fill_(masked)
    ours = Model(name, mlp_ratio=2).eval()
    report = load_into(ours, model.state_dict(), logger="silent")
    assert not report.missing and not report.mismatched
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        wanted = model(pixel_values=images)
        classes, masks = predictions(ours.backbone, ours.decode_head.network, images)[-1]
    torch.testing.assert_close(classes, wanted.class_queries_logits, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(masks, wanted.masks_queries_logits, atol=1e-3, rtol=1e-4)
