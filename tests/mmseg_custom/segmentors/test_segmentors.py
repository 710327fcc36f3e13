"""Segmentors: the reducer's losses and logs, whole and sliding inference, batches.

Shapes: B images, h x w pixels.
"""

from copy import deepcopy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmdet_custom  # noqa: F401 - ViT-Adapter
import mmseg_custom  # noqa: F401 - the segmentor
from token_pruning import Trace, collect_losses

SVIT = dict(type="SViT", blocks=[2, 3], keep_ratio=0.5)
CROPR = dict(type="Cropr", keep_ratio=0.5, num_classes=5, num_queries=16)
PLAIN = dict(type="PlainViTBackbone", img_size=64, embed_dim=24, depth=4, num_heads=3, reducer=SVIT)
ADAPTER = dict(
    type="mmdet.ViTAdapter",
    img_size=64,
    embed_dim=24,
    depth=4,
    num_heads=3,
    conv_inplane=8,
    interaction_indexes=[[0, 1], [2, 3]],
    deform_num_heads=3,
    reducer=SVIT,
)
LINEAR = dict(type="FCNHead", in_channels=24, channels=24, num_convs=0, concat_input=False, num_classes=5)
UPER = dict(
    type="UPerHead", in_channels=[24] * 4, in_index=[0, 1, 2, 3], channels=16, num_classes=5, norm_cfg=dict(type="BN")
)
AUXILIARY = dict(
    type="FCNHead",
    in_channels=24,
    in_index=2,
    channels=8,
    num_convs=1,
    concat_input=False,
    num_classes=5,
    norm_cfg=dict(type="BN"),
)
WHOLE, SLIDE = dict(mode="whole"), dict(mode="slide", crop_size=(64, 64), stride=(43, 43))
KINDS = {"linear": (PLAIN, LINEAR, None), "upernet": (ADAPTER, UPER, AUXILIARY)}


def a_segmentor(kind="linear", test_cfg=WHOLE, **backbone):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    trunk, head, auxiliary = deepcopy(KINDS[kind])
    preprocessor = dict(type="SegPreprocessor", size=(64, 64), seg_pad_val=255, mean=[127.5] * 3, std=[127.5] * 3)
    return MODELS.build(
        ConfigDict(
            type="PrunedEncoderDecoder",
            backbone={**trunk, **backbone},
            decode_head=head,
            auxiliary_head=auxiliary,
            test_cfg=test_cfg,
            data_preprocessor=preprocessor,
        )
    )


def a_batch(*sizes):
    inputs, samples = [], []
    for h, w in sizes:
        sample = SegDataSample(metainfo=dict(img_shape=(h, w), ori_shape=(h, w)))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 5, (1, h, w)))
        inputs.append(torch.randint(0, 255, (3, h, w)))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_logs(kind):
    model = a_segmentor(kind).train()
    # One image is smaller than the crop; the rest of the crop is ignored.
    losses = model(**model.data_preprocessor(a_batch((64, 64), (30, 50)), True), mode="loss")
    assert losses["loss_ratio"] > 0 and {"keep_ratio.2", "keep_ratio.3", "decode.loss_ce"} <= set(losses)
    assert ("aux.loss_ce" in losses) == (kind == "upernet")
    total, logged = model.parse_losses(losses)
    total.backward()
    heads = sum(v for k, v in logged.items() if k.endswith("loss_ce"))
    assert torch.allclose(logged["loss"], heads + logged["loss_ratio"])
    assert all(p.grad is not None for p in model.backbone.reducer.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_auxiliary_heads_learn_the_label_of_each_patch(kind):
    model = a_segmentor(kind, reducer=CROPR).train()
    data = model.data_preprocessor(a_batch((64, 64), (30, 50)), True)
    outputs, criterion = [], model.criterion(data["data_samples"])
    with collect_losses(lambda output: outputs.append(output) or output.logits.sum()):
        model.backbone(data["inputs"])
    labels = torch.cat([sample.gt_sem_seg.data for sample in data["data_samples"]])
    low = torch.nn.functional.interpolate(labels[:, None].float(), (4, 4), mode="nearest")[:, 0].long()
    assert (low == 255).any()
    for output in outputs:
        logits = output.logits.transpose(1, 2).unflatten(2, (4, 4))
        wanted = torch.nn.functional.cross_entropy(logits, low, ignore_index=255)
        torch.testing.assert_close(criterion(output), wanted)
    losses = model(**data, mode="loss")
    assert {"loss_aux.0", "loss_aux.1", "keep_ratio.1", "decode.loss_ce"} <= set(losses)
    model.parse_losses(losses)[0].backward()
    assert all(p.grad is not None for p in model.backbone.reducer.parameters())


def test_queries_that_do_not_fit_the_crops_are_one_sentence():
    model = a_segmentor(reducer=dict(CROPR, num_queries=64)).train()
    with pytest.raises(ValueError, match="a grid of 4 x 4 need as many queries, .* have 64: set num_queries=16"):
        model(**model.data_preprocessor(a_batch((64, 64)), True), mode="loss")


def test_auxiliary_heads_learn_nothing_of_ignored_pixels():
    model, data = a_segmentor(reducer=CROPR).train(), a_batch((64, 64))
    data["data_samples"][0].gt_sem_seg.data.fill_(255)
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    assert losses["decode.loss_ce"] == losses["loss_aux.0"] == losses["loss_aux.1"] == 0
    model.parse_losses(losses)[0].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_no_state_is_left_and_a_dense_segmentor_reports_nothing():
    dense = a_segmentor(reducer=None).train()
    losses = dense(**dense.data_preprocessor(a_batch((64, 64)), True), mode="loss")
    assert set(losses) == {"decode.loss_ce", "decode.acc_seg"}


def predicted(model, data):
    with torch.no_grad():
        results = model.eval()(**model.data_preprocessor(data, False), mode="predict")
    return [(r.pred_sem_seg.data, r.seg_logits.data) for r in results]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(64, 64), (90, 150), (40, 70)])
def test_sliding_is_the_mean_of_its_windows(kind, size):
    model, data = a_segmentor(kind, SLIDE), a_batch(size)
    ((labels, logits),) = predicted(model, deepcopy(data))
    assert labels.shape == (1, *size) and logits.shape == (5, *size) and logits.isfinite().all()
    image = model.data_preprocessor(data, False)["inputs"]
    total, count = torch.zeros_like(logits), torch.zeros(1, *size)
    starts = [sorted({min(at, max(side - 64, 0)) for at in range(0, max(side - 64, 0) + 43, 43)}) for side in size]
    model.test_cfg.mode = "whole"
    for y in starts[0]:
        for x in starts[1]:
            part = (slice(None), slice(y, y + 64), slice(x, x + 64))
            crop = image[0][part]
            sample = SegDataSample(metainfo=dict(img_shape=crop.shape[1:], ori_shape=crop.shape[1:]))
            with torch.no_grad():
                (result,) = model.predict(crop[None], [sample])
            total[part] += result.seg_logits.data
            count[part] += 1
    assert torch.allclose(logits, total / count, atol=1e-5)


@pytest.mark.parametrize("test_cfg", [WHOLE, SLIDE], ids=["whole", "slide"])
@pytest.mark.parametrize("kind, reducer", [*((kind, SVIT) for kind in KINDS), ("linear", CROPR)])
def test_a_batch_equals_its_images_one_by_one(kind, reducer, test_cfg):
    model, data = a_segmentor(kind, test_cfg, reducer=reducer), a_batch((70, 100), (70, 100), (70, 100))
    singles = [dict(inputs=[i], data_samples=[s]) for i, s in zip(data["inputs"], data["data_samples"], strict=True)]
    with Trace() as trace:
        together = predicted(model, deepcopy(data))
    alone = [predicted(model, single)[0] for single in singles]
    for (_, a), (_, b) in zip(together, alone, strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-5 * a.abs().max())
    assert (trace.passes[0].keep_ratio() < 1).any()
