"""SegViT's heads of several stages in a segmentor: any size, maps of different grids, losses.

Shapes: B images, K classes, C channels.
"""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmseg_custom  # noqa: F401 - registers
from token_pruning.errors import SettingError

K = 5
HEADS = ["ATMHead", "ATMHeadV2", "ATMSingleHeadV2"]


def a_segmentor(head, test_cfg, **kwargs):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    backbone = dict(
        type="PlainViTBackbone", img_size=64, patch_size=8, embed_dim=24, depth=4, num_heads=3, out_indices=[1, 2, 3]
    )
    head = dict(
        type=head, in_channels=24, channels=12, num_classes=K, use_stages=3, num_layers=2, num_heads=3, **kwargs
    )
    return MODELS.build(ConfigDict(type="PrunedEncoderDecoder", backbone=backbone, decode_head=head, test_cfg=test_cfg))


@pytest.mark.parametrize(
    "test_cfg",
    [dict(mode="whole"), dict(mode="slide", crop_size=(40, 40), stride=(27, 27))],
    ids=lambda cfg: cfg["mode"],
)
@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_images_of_any_size_and_a_batch_equals_its_images(head, test_cfg):
    model, image = a_segmentor(head, test_cfg).eval(), torch.randn(3, 3, 43, 90)

    def scores(image):
        return model.inference(image, [dict(img_shape=(43, 90), ori_shape=(43, 90)) for _ in image])

    together = scores(image)
    assert together.shape == (3, K, 43, 90) and together.isfinite().all()
    torch.testing.assert_close(together, torch.cat([scores(one[None]) for one in image]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_every_layer_or_stage_has_losses_and_every_parameter_a_gradient(head):
    model = a_segmentor(head, dict(mode="whole"), dropout=0.0).train()
    labels = [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, K, (1, 40, 72)))) for _ in range(2)]
    losses = model.loss(torch.randn(2, 3, 40, 72), labels)
    found = 6 if head == "ATMSingleHeadV2" else 3
    assert len([k for k in losses if "loss_mask" in k]) == found and f"decode.loss_dice_{found - 2}" in losses
    model.parse_losses(losses)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_maps_may_have_different_grids(head):
    model = a_segmentor(head, dict(mode="whole")).decode_head.eval()
    maps = [torch.randn(2, 24, *grid) for grid in ((12, 20), (6, 10), (3, 5))]
    found = model(maps)
    assert found[-1].masks.shape == (2, K, 12, 20)
    assert model.predict_by_feat(found, [dict(img_shape=(50, 81))]).shape == (2, K, 50, 81)


@pytest.mark.parametrize("head", HEADS)
def test_maps_that_do_not_fit_are_one_sentence(head):
    model = a_segmentor(head, dict(mode="whole")).decode_head
    with pytest.raises(SettingError, match="the head needs 3 maps and got 2"):
        model([torch.randn(1, 24, 4, 4)] * 2)
    with pytest.raises(SettingError, match="has in_channels 24 and its maps 16; set the head's in_channels"):
        model([torch.randn(1, 16, 4, 4)] * 3)


@pytest.mark.parametrize("numbers", [dict(use_stages=0), dict(num_layers=0), dict(use_stages=-1, num_layers=1)])
def test_numbers_below_one_are_one_sentence(numbers):
    with pytest.raises(SettingError, match="so give 1 or more"):
        MODELS.build(dict(type="mmseg.ATMHeadV2", in_channels=24, channels=12, num_classes=K, num_heads=3, **numbers))
