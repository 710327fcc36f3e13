"""EoMT's detector: losses of objects and stuff, results, padding, and what it refuses."""

import numpy as np
import pytest
import torch
from config_data import small_eomt_encoder
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData

import mmdet_custom  # noqa: F401 - registers
from mmcv_custom import ConfigError, DataError

SIDE, QUERIES, THINGS, STUFF = 64, 6, 3, 2


def a_detector(reducer=None, stuff=STUFF, queries=QUERIES, **model):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    backbone = small_eomt_encoder(img_size=SIDE, num_queries=QUERIES, reducer=reducer)
    classes = dict(num_things_classes=THINGS, num_stuff_classes=stuff)
    return MODELS.build(
        ConfigDict(
            type="EoMTDetector",
            data_preprocessor=dict(
                type="DetDataPreprocessor", mean=[120.0] * 3, std=[60.0] * 3, pad_mask=True, pad_seg=stuff > 0
            ),
            backbone=backbone,
            panoptic_head=dict(type="EoMTPanopticHead", in_channels=24, num_queries=queries, num_points=300, **classes),
            panoptic_fusion_head=dict(type="MaskFormerFusionHead", **classes),
            test_cfg=dict(
                panoptic_on=stuff > 0,
                instance_on=True,
                object_mask_thr=0.0,
                iou_thr=0.0,
                filter_low_score=True,
                max_per_image=10,
            ),
            **model,
        )
    )


def batch(sizes, objects=1, stuff=True):
    generator = torch.Generator().manual_seed(1)
    images, samples = [], []
    for size in sizes:
        images.append(torch.randint(0, 255, (3, *size), generator=generator, dtype=torch.uint8))
        masks = np.zeros((objects, *size), np.uint8)
        masks[:, 5:30, 10:40] = 1
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[10.0, 5.0, 40.0, 30.0]] * objects).view(-1, 4),
            labels=torch.ones(objects, dtype=torch.int64),
            masks=BitmapMasks(masks, *size),
        )
        if stuff:
            sample.gt_sem_seg = PixelData(sem_seg=torch.full((1, *size), THINGS + 1))
        samples.append(sample)
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize("stuff", [STUFF, 0])
def test_losses(stuff):
    model = a_detector(dict(type="SViT", blocks=[1, 3], keep_ratio=0.5), stuff=stuff).train()
    data = model.data_preprocessor(batch([(64, 64), (40, 64)], stuff=stuff > 0), True)
    losses = model(**data, mode="loss")
    wanted = {f"{prefix}loss_{kind}" for prefix in ("", "d0.", "d1.") for kind in ("cls", "mask", "dice")}
    assert wanted | {"loss_ratio"} <= set(losses)
    total, _ = model.parse_losses(losses)
    total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_objects_and_stuff_are_targets():
    model = a_detector()
    data = batch([(64, 64)], objects=2)
    samples = data["data_samples"]
    gt = model.panoptic_head.preprocess_gt([samples[0].gt_instances], [samples[0].gt_sem_seg])
    assert gt[0].labels.tolist() == [1, 1, THINGS + 1] and gt[0].masks.shape == (3, 64, 64)


def test_images_without_objects_train_without_harm():
    model = a_detector(stuff=0).train()
    losses = model(**model.data_preprocessor(batch([(64, 64)] * 2, objects=0, stuff=False), True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()


@pytest.mark.parametrize("stuff", [STUFF, 0])
def test_results_do_not_depend_on_the_batch(stuff):
    model = a_detector(dict(type="ToMe", r=2), stuff=stuff).eval()
    sizes = [(64, 50), (30, 64)]
    with torch.no_grad():
        together = model(**model.data_preprocessor(batch(sizes), False), mode="predict")
        for i, size in enumerate(sizes):
            data = batch(sizes)
            one = {key: values[i : i + 1] for key, values in data.items()}
            (alone,) = model(**model.data_preprocessor(one, False), mode="predict")
            assert alone.pred_instances.masks.shape[1:] == size
            wanted = together[i].pred_instances.scores.sort().values
            torch.testing.assert_close(alone.pred_instances.scores.sort().values, wanted, atol=1e-5, rtol=1e-3)
            if stuff:
                assert alone.pred_panoptic_seg.sem_seg.shape == (1, *size)
                assert torch.equal(alone.pred_panoptic_seg.sem_seg, together[i].pred_panoptic_seg.sem_seg)


def test_images_have_black_around_them():
    model, seen = a_detector().eval(), []
    model.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        model(**model.data_preprocessor(batch([(64, 50), (30, 64)]), False), mode="predict")
    (images,) = seen
    assert images.shape == (2, 3, SIDE, SIDE)
    assert (images[0, :, :, 50:] == -2).all() and (images[1, :, 30:] == -2).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="the head is for 7 queries of 24 channels .* the encoder has 6 queries"):
        a_detector(queries=7)
    model = a_detector().eval()
    with pytest.raises(DataError, match="an image is 64 x 80 pixels after the pipeline and the encoder takes 64 x 64"):
        model(**model.data_preprocessor(batch([(64, 80)]), False), mode="predict")


def test_aux_heads_learn_objects():
    model = a_detector(dict(type="Cropr", keep_ratio=0.5, num_classes=THINGS + STUFF, num_queries=16)).train()
    losses = model(**model.data_preprocessor(batch([(64, 64)]), True), mode="loss")
    aux = [value for name, value in losses.items() if name.startswith("loss_aux")]
    assert aux and all(value > 0 for value in aux)
