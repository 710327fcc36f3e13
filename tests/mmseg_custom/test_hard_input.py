"""Difficult input for every kind of head: crops without labels, tiny images, odd grids, label maps of another size.

Input that cannot work raises a clear error.

Shapes: K classes, h x w pixels.
"""

from copy import deepcopy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmseg_custom  # noqa: F401 - registers
from mmcv_custom import ConfigError, DataError
from token_pruning import Trace

K = 5
DTOP = dict(type="DToP", stages=[0, 1], threshold=0.26, keep_per_class=2)
STAGED = dict(type="StagedViT", img_size=64, patch_size=8, embed_dim=24, depth=3, num_heads=3, out_indices=[0, 1, 2])
PLAIN = dict(STAGED, type="PlainViTBackbone")
SEGVIT = dict(type="SegViTHead", in_channels=24, channels=12, num_classes=K, num_heads=3)
LEFT_OUT = dict(SEGVIT, loss_decode=dict(type="ATMLoss", ignored="left_out"))
MLP = dict(type="MLPHead", in_channels=24, channels=12, num_classes=K)
MEAN = dict(MLP, loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True))
CASCADE = dict(in_channels=24, channels=12, num_classes=K, num_heads=3, use_stages=3)
LINEAR = dict(type="FCNHead", in_channels=24, channels=24, num_convs=0, concat_input=False, num_classes=K)
KINDS = {
    "SegViT": (STAGED, SEGVIT),
    "SegViT, DToP": (dict(STAGED, reducer=DTOP), SEGVIT),
    "SegViT, left out": (STAGED, LEFT_OUT),
    "MLP": (STAGED, MLP),
    "MLP, DToP": (dict(STAGED, reducer=DTOP), MLP),
    "MLP, mean": (STAGED, MEAN),
    "linear": (PLAIN, LINEAR),
    "linear, SViT": (dict(PLAIN, reducer=dict(type="SViT", keep_ratio=0.5)), LINEAR),
    **{name: (PLAIN, dict(CASCADE, type=name)) for name in ("ATMHead", "ATMHeadV2", "ATMSingleHeadV2")},
}


def a_segmentor(kind, **more):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    backbone, head = deepcopy(KINDS[kind])
    if backbone["type"] == "StagedViT":
        parts = dict(
            type="DToPSegmentor",
            auxiliary_head=[dict(head, in_index=i) for i in (0, 1)],
            decode_head=dict(head, in_index=2),
        )
    else:
        parts = dict(type="PrunedEncoderDecoder", decode_head=head)
    model = MODELS.build(ConfigDict(backbone=backbone, **{"test_cfg": dict(mode="whole"), **parts, **more}))
    for module in model.modules():  # with the initial weights no token would exit
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model.train()


def a_step(model, size, labels):
    """Run a training step and return the losses; losses and gradients must be finite."""
    samples = [SegDataSample(gt_sem_seg=PixelData(data=one[None])) for one in labels]
    losses = model.loss(torch.randn(len(labels), 3, *size), samples)
    model.parse_losses(losses)[0].backward()
    assert all(torch.as_tensor(value).isfinite().all() for value in losses.values()), losses
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    return losses


@pytest.mark.parametrize("kind", KINDS)
def test_crops_without_any_label_train(kind):
    model, nothing = a_segmentor(kind), torch.full((2, 40, 56), 255)
    with Trace() as trace:
        losses = a_step(model, (40, 56), nothing)
    pixels = [value for name, value in losses.items() if "loss_mask" in name or "loss_dice" in name]
    assert all(value == 0 for value in pixels)
    assert bool(pixels) == (KINDS[kind][1]["type"] not in ("MLPHead", "FCNHead"))
    assert "DToP" not in kind or (trace.passes[0].keep_ratio()[:, 2] < 1).all()
    nothing[0, 3:9, 4:30] = 2
    losses = a_step(model, (40, 56), nothing)
    assert all(value > 0 for name, value in losses.items() if "loss" in name and "ratio" not in name)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (1, 70), (41, 23)])
@pytest.mark.parametrize("kind", KINDS)
def test_images_smaller_than_a_patch_and_odd_grids_train_and_predict(kind, size):
    model = a_segmentor(kind)
    a_step(model, size, torch.randint(0, K, (2, *size)))
    for test_cfg in (dict(mode="whole"), dict(mode="slide", crop_size=(24, 40), stride=(16, 27))):
        model.test_cfg = ConfigDict(test_cfg)
        with torch.no_grad():
            scores = model.eval().inference(torch.randn(2, 3, *size), [dict(img_shape=size, ori_shape=size)] * 2)
        assert scores.shape == (2, K, *size) and scores.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_another_size_are_compared_at_their_own(kind):
    a_step(a_segmentor(kind), (40, 56), torch.randint(0, K, (2, 33, 19)))


# mmseg's own heads leave labels to the loader (test_loading_and_dump.py), and sizes to the preprocessor.
OURS = [kind for kind, (_, head) in KINDS.items() if head["type"] != "FCNHead"]


@pytest.mark.parametrize("kind", OURS)
def test_labels_of_different_sizes_are_one_sentence(kind):
    with pytest.raises(DataError, match="label maps of one batch have the sizes"):
        a_step(a_segmentor(kind), (16, 16), [torch.zeros(16, 16).long(), torch.zeros(16, 15).long()])


@pytest.mark.parametrize("label", [K, 254, -1])
@pytest.mark.parametrize("kind", OURS)
def test_labels_outside_the_classes_are_one_sentence(kind, label):
    labels = torch.zeros(2, 16, 16).long()
    labels[1, 3, 3] = label
    with pytest.raises(DataError, match=f"label {label} is no class: labels go from 0 to 4, and 255 is ignored"):
        a_step(a_segmentor(kind), (16, 16), labels)


@pytest.mark.parametrize("kind", ["SegViT, DToP", "linear"])
@pytest.mark.parametrize(
    "test_cfg, sentence",
    [
        (dict(mode="tile"), "test_cfg.mode is 'tile'; choose 'whole' or 'slide'"),
        (dict(mode="slide"), "windows of crop_size None by stride None: give both as"),
        (dict(mode="slide", crop_size=(32, 32)), "crop_size .32, 32. by stride None"),
        (dict(mode="slide", crop_size=32, stride=16), "crop_size 32 by stride 16: give both as .height, width."),
        (dict(mode="slide", crop_size=(32, 32), stride=(33, 32)), "by stride .33, 32.: .* from 1 to the window's side"),
        (dict(mode="slide", crop_size=(32, 32), stride=(0, 32)), "by stride .0, 32."),
    ],
)
def test_windows_that_leave_pixels_out_are_one_sentence(kind, test_cfg, sentence):
    with pytest.raises(ConfigError, match=sentence):
        a_segmentor(kind, test_cfg=test_cfg)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(num_classes=4), r"num_classes \[4, 5\]: .* the same classes"),
        (dict(in_channels=32), r"in_channels \[24, 32\] .* the backbone's embed_dim 24"),
    ],
)
def test_heads_that_do_not_fit_each_other_or_the_backbone_are_one_sentence(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        a_segmentor("SegViT", decode_head=dict(SEGVIT, in_index=2, **change))
