"""Test-time augmentation: the mean of views as the base config lists them, on images of any size.

Shapes: K classes, h x w pixels.
"""

from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.models import SegTTAModel
from mmseg.registry import MODELS

import mmseg_custom  # noqa: F401 - registers
from mmcv_custom.engine.utils import unwrap_model
from token_pruning import Trace

K = 5
BASE = Config.fromfile(Path(__file__).resolve().parents[2] / "configs/_base_/runtimes/runtime_segmentation.py")
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
WHOLE, SLIDE = dict(mode="whole"), dict(mode="slide", crop_size=(32, 32), stride=(21, 21))
STAGED = dict(type="StagedViT", img_size=64, patch_size=8, embed_dim=24, depth=3, num_heads=3, out_indices=[1, 2])
PLAIN = dict(type="PlainViTBackbone", img_size=64, patch_size=8, embed_dim=24, depth=3, num_heads=3)
DTOP = dict(type="DToP", stages=[1], threshold=0.26, keep_per_class=2)
SEGVIT = dict(type="SegViTHead", in_channels=24, channels=12, num_classes=K, num_heads=3)
MLP = dict(type="MLPHead", in_channels=24, channels=12, num_classes=K)
LINEAR = dict(type="FCNHead", in_channels=24, channels=24, num_convs=0, concat_input=False, num_classes=K)
CASCADE = dict(type="ATMHeadV2", in_channels=24, channels=12, num_classes=K, num_heads=3, use_stages=2)
KINDS = {
    "segvit": (STAGED, SEGVIT),
    "segvit-dtop": (dict(STAGED, reducer=DTOP), SEGVIT),
    "mlp": (STAGED, MLP),
    "mlp-dtop": (dict(STAGED, reducer=DTOP), MLP),
    "linear": (PLAIN, LINEAR),
    "cascade": (dict(PLAIN, out_indices=[1, 2]), CASCADE),
}
SIZES = [(64, 48), (13, 70), (1, 90), (70, 1), (5, 3), (1, 1)]


def a_model(kind, test_cfg=WHOLE, tta=BASE.tta_model):
    """Build the TTA model of a segmentor whose random weights give distinct scores."""
    init_default_scope("mmseg")
    torch.manual_seed(0)
    backbone, head = deepcopy(KINDS[kind])
    if backbone["type"] == "StagedViT":
        parts = dict(type="DToPSegmentor", decode_head=dict(head, in_index=1), auxiliary_head=dict(head, in_index=0))
    else:
        parts = dict(type="PrunedEncoderDecoder", decode_head=head)
    module = dict(
        parts,
        backbone=backbone,
        test_cfg=test_cfg,
        data_preprocessor=dict(type="SegPreprocessor", mean=[127.5] * 3, std=[50.0] * 3),
    )
    model = MODELS.build(ConfigDict(tta, module=module)).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model


def an_image(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (h, w, 3), dtype=np.uint8)


def views_of(*images):
    """Return what the config's pipeline and a data loader pass to the model."""
    step = deepcopy(BASE.tta_pipeline[-1])
    step.transforms = [part for part in step.transforms if "Annotations" not in part[0].type]
    init_default_scope("mmseg")
    pipeline = Compose([step])
    return pseudo_collate(
        [pipeline(dict(img=p, img_path="a", ori_shape=p.shape[:2], img_shape=p.shape[:2])) for p in images]
    )


def reference_scores(model, pixels, softmax):
    """Return the mean scores (K, h, w), computed view by view."""
    total, size = 0, pixels.shape[:2]
    for flipped in (pixels, pixels[:, ::-1]):
        for scale in SCALES:
            new = [int(side * scale + 0.5) for side in size]
            view = cv2.resize(np.ascontiguousarray(flipped), new[::-1]).reshape(*new, 3)
            image = (torch.from_numpy(view).permute(2, 0, 1)[None].float() - 127.5) / 50.0
            scores = model.module.inference(image, [dict(img_shape=new, ori_shape=new)])
            scores = scores.flip(3) if flipped is not pixels else scores
            scores = F.interpolate(scores, size, mode="bilinear")[0]
            total = total + (scores.softmax(0) if softmax else scores)
    return total / 12


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_it_is_the_mean_over_scales_and_flips(kind):
    model, pixels = a_model(kind), an_image(40, 56)  # all scales preserve the aspect ratio of this size
    (found,) = model.test_step(views_of(pixels))
    wanted = reference_scores(model, pixels, softmax=kind in ("mlp", "mlp-dtop", "linear"))
    torch.testing.assert_close(found.seg_logits.data, wanted, atol=1e-5, rtol=1e-4)
    assert torch.equal(found.pred_sem_seg.data, found.seg_logits.data.argmax(0, keepdim=True))


@pytest.mark.parametrize("test_cfg", [WHOLE, SLIDE], ids=["whole", "slide"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_images_of_any_size(kind, test_cfg):
    """Windows need not be square, and images may be smaller than a window or a patch."""
    model = a_model(kind, test_cfg)
    for size in SIZES:
        pixels = an_image(*size)
        with Trace() as trace:
            (found,) = model.test_step(views_of(pixels))
        assert found.seg_logits.data.shape == (K, *size) and found.seg_logits.data.isfinite().all()
        assert found.pred_sem_seg.data.shape == (1, *size)
        if kind == "segvit-dtop" and size == (64, 48):
            assert min(one.keep_ratio()[0, 2] for one in trace.passes) < 1
        if min(size) > 1 and "dtop" not in kind:  # an image and its mirror image have the same views
            (mirrored,) = model.test_step(views_of(np.ascontiguousarray(pixels[:, ::-1])))
            torch.testing.assert_close(mirrored.seg_logits.data.flip(2), found.seg_logits.data, atol=2e-2, rtol=0)


@pytest.mark.parametrize("kind", ["segvit", "mlp", "linear"])
@torch.no_grad()
def test_softmax_first_is_mmsegs(kind):
    ours, theirs = a_model(kind, tta=dict(type="MeanTTAModel", average="softmax")), a_model(kind)
    theirs = SegTTAModel(module=theirs.module)
    data = views_of(an_image(40, 56))
    (a,) = ours.test_step(deepcopy(data))
    (b,) = theirs.test_step(data)
    assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)
    (scores,) = a_model(kind).test_step(views_of(an_image(40, 56)))
    assert torch.equal(scores.seg_logits.data, a.seg_logits.data) == (kind != "segvit")


@torch.no_grad()
def test_a_batch_of_images_of_one_size():
    model, images = a_model("segvit-dtop"), [an_image(40, 56, seed) for seed in range(3)]
    together = model.test_step(views_of(*images))
    for one, pixels in zip(together, images, strict=True):
        (alone,) = model.test_step(views_of(pixels))
        torch.testing.assert_close(one.seg_logits.data, alone.seg_logits.data, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_single_class_is_a_probability_that_is_compared_to_the_threshold():
    model = a_model("linear")
    head = MODELS.build(dict(LINEAR, num_classes=2, out_channels=1, threshold=0.4))
    model.module.decode_head, model.module.out_channels = head.eval(), 1
    (found,) = model.test_step(views_of(an_image(40, 56)))
    scores = found.seg_logits.data
    assert scores.shape == (1, 40, 56) and 0 <= scores.min() and scores.max() <= 1
    assert torch.equal(found.pred_sem_seg.data, (scores > 0.4).long())


def test_words_and_wrappers():
    with pytest.raises(ValueError, match="average is 'mean'; choose 'scores' or 'softmax'"):
        a_model("linear", tta=dict(type="MeanTTAModel", average="mean"))
    model = a_model("linear")
    assert unwrap_model(model) is model.module and unwrap_model(model.module) is model.module
