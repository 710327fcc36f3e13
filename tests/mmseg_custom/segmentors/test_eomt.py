"""EoMT's segmentor: losses, images of any size, batches, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from config_data import small_eomt_encoder
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmseg_custom  # noqa: F401 - registers
from mmcv_custom import ConfigError
from mmcv_custom.inference.predictor import token_view
from token_pruning import Trace

SIDE, QUERIES, CLASSES = 64, 5, 3


def a_segmentor(reducer=None, head=None, **encoder):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    backbone = small_eomt_encoder(img_size=SIDE, num_queries=QUERIES, reducer=reducer, **encoder)
    decode_head = dict(
        type="EoMTSemanticHead", in_channels=24, num_classes=CLASSES, num_queries=QUERIES, num_points=300
    )
    preprocessor = dict(type="SegPreprocessor", mean=[120.0] * 3, std=[60.0] * 3, size=(SIDE, SIDE), seg_pad_val=255)
    return MODELS.build(
        dict(
            type="EoMTSegmentor",
            data_preprocessor=preprocessor,
            backbone=backbone,
            decode_head=decode_head | (head or {}),
        )
    )


def batch(sizes, labels=None):
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 255, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    samples = []
    for size in sizes:
        value = (
            torch.randint(0, CLASSES, (1, *size), generator=generator)
            if labels is None
            else torch.full((1, *size), labels)
        )
        samples.append(SegDataSample(metainfo=dict(img_shape=size, ori_shape=size), gt_sem_seg=PixelData(data=value)))
    return dict(inputs=images, data_samples=samples)


def test_losses_of_every_prediction_and_of_the_reducer():
    model = a_segmentor(dict(type="SViT", blocks=[1, 2, 3], keep_ratio=0.5)).train()
    losses = model(**model.data_preprocessor(batch([(SIDE, SIDE)] * 2), True), mode="loss")
    kinds = ("loss_cls", "loss_mask", "loss_dice")
    wanted = {f"decode.{prefix}{kind}" for prefix in ("", "d0.", "d1.") for kind in kinds}
    assert wanted | {"loss_ratio"} <= set(losses)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_losses_of_a_perfect_prediction_vanish_and_weigh_as_published():
    model = a_segmentor().train()
    data = model.data_preprocessor(batch([(SIDE, SIDE)]), True)
    labels = data["data_samples"][0].gt_sem_seg.data[0]
    masks = F.one_hot(labels, CLASSES).permute(2, 0, 1).float() * 200 - 100
    masks = torch.cat([masks, torch.full((QUERIES - CLASSES, SIDE, SIDE), -100.0)])[None]
    classes = torch.full((1, QUERIES, CLASSES + 1), -100.0)
    for query in range(QUERIES):
        classes[0, query, min(query, CLASSES)] = 100.0
    losses = model.decode_head.loss([(classes, masks)], data["data_samples"], None)
    # Points between pixels mix their labels, so that mask losses of noise stay above zero.
    assert losses["loss_cls"] < 1e-5
    uniform = model.decode_head.loss([(torch.zeros_like(classes), masks)], data["data_samples"], None)
    assert uniform["loss_cls"].item() == pytest.approx(2 * torch.log(torch.tensor(CLASSES + 1.0)).item(), rel=1e-4)
    blocks = torch.zeros(1, SIDE, SIDE, dtype=torch.long)
    blocks[:, :, SIDE // 2 :] = 1
    data["data_samples"][0].gt_sem_seg = PixelData(data=blocks)
    zero = torch.zeros(1, QUERIES, SIDE, SIDE)
    losses = model.decode_head.loss([(classes, zero)], data["data_samples"], None)
    assert losses["loss_mask"].item() == pytest.approx(5 * torch.log(torch.tensor(2.0)).item(), rel=1e-3)


def test_a_batch_without_labels_trains_without_harm():
    model = a_segmentor().train()
    losses = model(**model.data_preprocessor(batch([(SIDE, SIDE)] * 2, labels=255), True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite() and all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("size", [(64, 64), (40, 50), (64, 150), (130, 64), (100, 90), (30, 200)])
def test_images_of_any_size(size):
    model = a_segmentor(dict(type="ToMe", r=2, blocks=[0, 1])).eval()
    with torch.no_grad(), Trace() as trace:
        (result,) = model(**model.data_preprocessor(batch([size]), False), mode="predict")
    assert result.seg_logits.data.shape == (CLASSES, *size) and result.pred_sem_seg.data.shape == (1, *size)
    assert result.seg_logits.data.isfinite().all()
    corners = model.window_corners(size)
    assert len(trace.passes) == len(corners)
    shown = torch.zeros(max(size[0], SIDE), max(size[1], SIDE))
    for y, x in corners:
        shown[y : y + SIDE, x : x + SIDE] += 1
    assert (shown > 0).all()


def test_tokens_are_shown_where_the_windows_are():
    model = a_segmentor(dict(type="ToMe", r=2)).eval()
    data = batch([(64, 150)])
    with torch.no_grad(), Trace() as trace:
        model(**model.data_preprocessor(data, False), mode="predict")
    view = token_view(model, data["inputs"][0], [one.of(0) for one in trace.passes], (64, 150))
    assert [(w.y, w.x) for w in view.windows] == [(0, 0), (0, 43), (0, 86)]
    assert view.depth_map().size[0] >= 150


def test_another_backbone_is_refused():
    init_default_scope("mmseg")
    backbone = dict(type="PlainViTBackbone", img_size=SIDE, embed_dim=24, depth=2, num_heads=2)
    head = dict(type="EoMTSemanticHead", in_channels=24, num_classes=CLASSES)
    with pytest.raises(ConfigError, match="EoMT needs backbone.type='EoMTEncoder', and the backbone is a PlainViT"):
        MODELS.build(dict(type="EoMTSegmentor", backbone=backbone, decode_head=head))


def test_a_batch_equals_its_images():
    model = a_segmentor(dict(type="ToMe", r=2)).eval()
    data = batch([(64, 100)] * 3)
    with torch.no_grad():
        together = model(**model.data_preprocessor(data, False), mode="predict")
        for i in range(3):
            one = dict(inputs=data["inputs"][i : i + 1], data_samples=[data["data_samples"][i]])
            (alone,) = model(**model.data_preprocessor(one, False), mode="predict")
            torch.testing.assert_close(alone.seg_logits.data, together[i].seg_logits.data, atol=1e-4, rtol=1e-3)


def test_masked_training_and_plain_testing_differ():
    model = a_segmentor().eval()
    data = model.data_preprocessor(batch([(64, 64)]), False)
    with torch.no_grad():
        plain = model(**data, mode="predict")[0].seg_logits.data.clone()
        model.backbone.mask_probs = [1.0, 1.0]
        masked = model(**data, mode="predict")[0].seg_logits.data
    assert not torch.allclose(plain, masked)


@pytest.mark.parametrize("head", [dict(num_queries=6), dict(in_channels=32), dict(patch_size=8)])
def test_a_head_of_another_encoder_is_refused(head):
    with pytest.raises(ConfigError, match="the encoder has 5 queries of 24 channels and patches of 16 pixels: give"):
        a_segmentor(head=head)
