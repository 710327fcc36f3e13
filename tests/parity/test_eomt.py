"""EoMT against the recorded numbers of transformers' models, with the weights loaded in their names."""

import pytest
import torch
import torch.nn.functional as F
from fixture_files import of_schema
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmseg.registry import MODELS as SEGMENTORS
from mmseg.structures import SegDataSample

import mmseg_custom  # noqa: F401 - registers the segmentor
from mmcv_custom import load_into
from mmcv_custom.models.eomt import predictions, visible_positions
from token_pruning import METHODS, build_reducer

RECORDED = of_schema("eomt-fixture-1")
# The decisions of masked attention are exact; the logits, up to 126, allow the other order of sums.
ATOL = {True: 5e-4, False: 1e-4}


def a_segmentor(recorded):
    """Build the network of a record and load its weights as transformers names them."""
    init_default_scope("mmseg")
    cfg, names = recorded["config"], recorded["state_dict"]
    dinov3 = "embeddings.position_embeddings.weight" not in names
    mlp = names["layers.0.mlp.up_proj.weight" if dinov3 else "layers.0.mlp.fc1.weight"].shape[0]
    backbone = dict(
        type="EoMTEncoder",
        model_name="vit_small_patch16_dinov3_qkvb" if dinov3 else "vit_small_patch14_reg4_dinov2",
        img_size=cfg["image_size"],
        patch_size=cfg["patch_size"],
        embed_dim=cfg["hidden_size"],
        depth=cfg["num_hidden_layers"],
        num_heads=cfg["num_attention_heads"],
        mlp_ratio=mlp / cfg["hidden_size"],
        norm_eps=cfg["layer_norm_eps"],
        num_queries=cfg["num_queries"],
        query_blocks=cfg["num_blocks"],
    )
    head = dict(
        type="EoMTSemanticHead",
        in_channels=cfg["hidden_size"],
        num_classes=cfg["num_labels"],
        num_queries=cfg["num_queries"],
    )
    mean, std = (recorded[f"pixel_{kind}"].float() * 255 for kind in ("mean", "std"))
    preprocessor = dict(type="SegPreprocessor", mean=mean.tolist(), std=std.tolist())
    model = SEGMENTORS.build(
        dict(type="EoMTSegmentor", data_preprocessor=preprocessor, backbone=backbone, decode_head=head)
    )
    report = load_into(model, {name: value.float() for name, value in names.items()}, logger="silent")
    assert not report.missing and not report.unexpected and not report.mismatched and not report.resized
    return model.eval()


def pixels(recorded):
    mean, std = (recorded[f"pixel_{kind}"].float().view(1, 3, 1, 1) for kind in ("mean", "std"))
    return (recorded["image"].float() - mean) / std


@pytest.mark.parametrize("recorded", RECORDED)
def test_predictions(recorded):
    model, atol = a_segmentor(recorded), ATOL[recorded["masked"]]
    with torch.no_grad():
        found = predictions(model.backbone, model.decode_head.network, pixels(recorded))
    wanted = list(zip(recorded["class_logits_per_layer"], recorded["mask_logits_per_layer"], strict=True))
    assert len(found) == (len(wanted) if recorded["masked"] else 1)  # plain inference predicts once
    for (classes, masks), (wanted_classes, wanted_masks) in zip(found, wanted[-len(found) :], strict=True):
        torch.testing.assert_close(classes, wanted_classes, atol=atol, rtol=1e-4)
        torch.testing.assert_close(masks, wanted_masks, atol=atol, rtol=1e-4)
    if recorded["masked"]:
        assert model.backbone.mask_probs == (1.0,) * recorded["config"]["num_blocks"]
        for (_, masks), allowed in zip(found, recorded["attention_allowed"], strict=False):
            visible = visible_positions(masks, tuple(recorded["grid"]), 0) > 0
            assert torch.equal(visible.transpose(1, 2), allowed)


@pytest.mark.parametrize("recorded", RECORDED)
def test_all_predictions_of_training(recorded):
    model = a_segmentor(recorded)
    model.backbone.train()  # nothing in it is random
    with torch.no_grad():
        found = predictions(model.backbone, model.decode_head.network, pixels(recorded))
    wanted = list(zip(recorded["class_logits_per_layer"], recorded["mask_logits_per_layer"], strict=True))
    for one, other in zip(found, wanted, strict=True):
        for value, wanted_value in zip(one, other, strict=True):
            torch.testing.assert_close(value, wanted_value, atol=ATOL[recorded["masked"]], rtol=1e-4)


@pytest.mark.parametrize("recorded", RECORDED)
def test_tokens(recorded):
    model, taken = a_segmentor(recorded), []
    network = model.decode_head.network
    first = recorded["config"]["num_hidden_layers"] - recorded["config"]["num_blocks"]
    for block in model.backbone.blocks[first:]:
        block.register_forward_pre_hook(lambda module, args: taken.append(args[0]))
    with torch.no_grad():
        found_queries, found_map, *_ = model.backbone(pixels(recorded), network)
    for found, wanted in zip(taken, recorded["tokens_into_late_blocks"], strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    last, queries = recorded["last_hidden_state"], recorded["config"]["num_queries"]
    torch.testing.assert_close(found_queries, last[:, :queries], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_map.flatten(2).transpose(1, 2), last[:, queries + 5 :], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("recorded", RECORDED)
def test_a_method_that_takes_nothing_changes_nothing(recorded, name):
    if METHODS[name].needs_class_scores:
        pytest.skip("EoMT has no class scores of patches")
    model = a_segmentor(recorded)
    backbone = model.backbone
    backbone.reducer = build_reducer(dict(type=name, **METHODS[name].keep_all), backbone.embed_dim, backbone.depth)
    model.eval()
    with torch.no_grad():
        classes, masks = predictions(backbone, model.decode_head.network, pixels(recorded))[-1]
    torch.testing.assert_close(classes, recorded["class_logits_per_layer"][-1], atol=5e-4, rtol=1e-4)
    torch.testing.assert_close(masks, recorded["mask_logits_per_layer"][-1], atol=5e-4, rtol=1e-4)


@pytest.mark.parametrize("recorded", RECORDED)
def test_semantic_maps(recorded):
    model = a_segmentor(recorded)
    with torch.no_grad():
        scores = model.inference(pixels(recorded), [])
    torch.testing.assert_close(scores[0], recorded["semantic_scores_first"].float(), atol=5e-3, rtol=2e-3)
    for i, (height, width) in enumerate(recorded["target_sizes"]):
        resized = F.interpolate(scores[i : i + 1], (height, width), mode="bilinear", align_corners=False)[0]
        agrees(resized, recorded["semantic"][i])


def agrees(scores, wanted):
    """Require the class of every pixel whose two best scores differ by more than 1e-5."""
    best = scores.topk(2, dim=0)
    sure = best.values[0] - best.values[1] > 1e-5
    assert sure.float().mean() > 0.99
    assert torch.equal(best.indices[0][sure], wanted.long()[sure])


@pytest.mark.parametrize("recorded", of_schema("eomt-fixture-1", having="windows"))
def test_windows_of_a_wide_image(recorded):
    model, windows = a_segmentor(recorded), recorded["windows"]
    image = windows["image_uint8"]
    size = tuple(image.shape[-2:])
    assert [[0, left, left + 96] for _, left in model.window_corners(size)] == windows["offsets"]
    sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size))
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[sample]), False)
    with torch.no_grad():
        (result,) = model(**data, mode="predict")
    agrees(result.seg_logits.data, windows["semantic"])


@pytest.mark.parametrize("recorded", RECORDED)
def test_panoptic_segments(recorded):
    """The toolbox's fusion makes the recorded segments, where its rule and the recorded one are the same."""
    from mmdet.models.seg_heads import MaskFormerFusionHead

    args, size = recorded["panoptic"]["args"], recorded["config"]["image_size"]
    stuff, classes = args["stuff_classes"], recorded["config"]["num_labels"]
    order = [k for k in range(classes) if k not in stuff] + sorted(stuff)  # the toolbox has objects first
    head = MaskFormerFusionHead(
        num_things_classes=classes - len(stuff),
        num_stuff_classes=len(stuff),
        test_cfg=dict(
            object_mask_thr=args["threshold"], iou_thr=args["overlap_mask_area_threshold"], filter_low_score=True
        ),
    )
    for i, (height, width) in enumerate(recorded["target_sizes"]):
        masks = F.interpolate(recorded["mask_logits_per_layer"][-1][i : i + 1], (size, size), mode="bilinear")
        masks = masks[0, :, :height, :width]  # the images' longer side is already the encoder's; padding is cut off
        found = head.panoptic_postprocess(recorded["class_logits_per_layer"][-1][i][:, [*order, classes]], masks)
        found = found.sem_seg[0]
        segmentation, labels = recorded["panoptic"]["segmentation"][i], recorded["panoptic"]["segments"][i]
        assert {int(v) % 1000 for v in found.unique()} - {classes} == {order.index(s["label_id"]) for s in labels}
        wanted = torch.full_like(found, classes)
        for segment in labels:
            wanted[segmentation == segment["id"]] = order.index(segment["label_id"])
        different = (found % 1000 != wanted).float().mean()
        assert different == 0, different


def test_instances_are_scored_by_class_and_mask():
    """The rule of EoMT's own evaluation: the best pairs of query and class, score times mean mask probability."""
    from mmdet.models.seg_heads import MaskFormerFusionHead

    torch.manual_seed(0)
    logits, masks = torch.randn(6, 5), torch.randn(6, 12, 12) * 3
    head = MaskFormerFusionHead(num_things_classes=4, num_stuff_classes=0, test_cfg=dict(max_per_image=10))
    found: InstanceData = head.instance_postprocess(logits, masks)
    pairs = [(p.item(), q, k) for q, row in enumerate(logits.softmax(-1)[:, :-1]) for k, p in enumerate(row)]
    wanted = []
    for p, q, k in sorted(pairs, reverse=True)[:10]:
        inside = masks[q] > 0
        wanted.append((p * masks[q].sigmoid()[inside].mean().item(), k))
    got = sorted(zip(found.scores.tolist(), found.labels.tolist(), strict=True), reverse=True)
    for (score, label), (wanted_score, wanted_label) in zip(got, sorted(wanted, reverse=True), strict=True):
        assert label == wanted_label and abs(score - wanted_score) < 1e-5
