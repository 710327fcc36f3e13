"""The tools that take any model, on the hosts whose structure differs most: EoMT, Mask2Former, and ViTs of DINOv3."""

import json
import sys

import numpy as np
import pytest
from config_data import narrow_mask2former
from mmengine.config import Config
from PIL import Image
from scripts import ROOT, load_script

from mmcv_custom import Predictor
from mmcv_custom.data.synthetic import scene

SIDE = 128
TOME = dict(type="ToMe", r=0.1)
SMALL = dict(img_size=SIDE, embed_dim=48, num_heads=2, depth=2, init_cfg=None)
DINOV3 = dict(model_name="vit_small_patch16_dinov3", **SMALL)
STEPS = dict(interaction_indexes=[[0, 0], [1, 1]], deform_num_heads=2)
PANOPTIC = dict(object_mask_thr=0.0, iou_thr=0.0)  # with random weights, too, there are segments


def eomt(kind):
    cfg = Config.fromfile(ROOT / f"configs/eomt/vit-nano_eomt_digit-scenes-{kind}.py")
    cfg.model.backbone.update(depth=3, query_blocks=1, reducer=dict(TOME, blocks=[0, 1]))
    if kind.startswith("panoptic"):
        cfg.model.test_cfg.update(PANOPTIC)
    return cfg


def mask2former(name, stuff=0):
    """Return a config of Mask2Former of one layer each; ``stuff``: classes that make panoptic segments of instances."""
    cfg = Config.fromfile(ROOT / f"configs/mask2former/{name}.py")
    cfg.model.backbone.update(SMALL, conv_inplane=8, **STEPS)
    head = cfg.model.get("panoptic_head") or cfg.model.decode_head
    narrow_mask2former(head, cfg.model.get("train_cfg") or head.train_cfg, [48] * 4)
    head.num_queries = 10
    head.pixel_decoder.encoder.num_layers = head.transformer_decoder.num_layers = 1
    if stuff:
        head.num_stuff_classes = cfg.model.panoptic_fusion_head.num_stuff_classes = stuff
        head.loss_cls.class_weight = [1.0] * (80 + stuff) + [0.1]
        cfg.model.test_cfg.update(panoptic_on=True, **PANOPTIC)
    if "panoptic_head" in cfg.model:
        cfg.model.data_preprocessor.pop("batch_augments")
    return cfg


def adapter():
    cfg = Config.fromfile(ROOT / "configs/quickstart/digits_vit-adapter-nano.py")
    cfg.model.backbone.update(DINOV3, frozen=True, reducer=TOME, **STEPS)
    cfg.model.neck.in_channels = [48] * 4
    return with_few_objects(cfg)


def pyramid():
    cfg = Config.fromfile(ROOT / "configs/quickstart/digits_vit-pyramid-nano.py")
    cfg.model.backbone.update(DINOV3, reducer=TOME)
    cfg.model.neck.in_channels = 48
    return with_few_objects(cfg)


def with_few_objects(cfg):
    cfg.model.test_cfg.rpn.update(nms_pre=60, max_per_img=30)
    cfg.model.test_cfg.rcnn.max_per_img = 5
    return cfg


def probe():
    cfg = Config.fromfile(ROOT / "configs/segmentation/vit-s-tome_dinov3_probe_ade20k-512.py")
    cfg.model.backbone.update(DINOV3, reducer=TOME)
    cfg.model.decode_head.in_channels = 48
    return cfg


HOSTS = {
    "eomt semantic": lambda: eomt("128"),
    "eomt instance": lambda: eomt("instance-256"),
    "eomt panoptic": lambda: eomt("panoptic-256"),
    "mask2former semantic": lambda: mask2former("dinov3-adapter-s-tome_mask2former_ade20k-640"),
    "mask2former instance": lambda: mask2former("dinov2-adapter-s-tome_mask2former_coco-instance-1024"),
    "mask2former panoptic": lambda: mask2former("dinov2-adapter-s-tome_mask2former_coco-instance-1024", stuff=53),
    "dinov3 adapter": adapter,
    "dinov3 pyramid": pyramid,
    "dinov3 probe": probe,
}


@pytest.fixture(scope="module", params=HOSTS)
def host(request, tmp_path_factory):
    """Return the file of a tiny config, and of an image."""
    folder = tmp_path_factory.mktemp("host")
    cfg = HOSTS[request.param]()
    if cfg.default_scope == "mmseg":
        cfg.model.test_cfg = dict(mode="whole")
    for step in cfg.test_dataloader.dataset.pipeline:
        if step.type == "Resize" and cfg.model.backbone.type != "EoMTEncoder":
            step.scale = (2 * SIDE, SIDE)  # the published sizes cost much
    cfg.pop("load_labels", None)  # only base files use it
    cfg.dump(folder / "config.py")
    Image.fromarray(scene(96, 112)).save(folder / "a.png")
    return str(folder / "config.py"), str(folder / "a.png")


@pytest.fixture
def call(monkeypatch):
    """Return a function that runs a tool with its options in this process."""

    def run(path, *options):
        monkeypatch.setattr(sys, "argv", [path, *map(str, options)])
        load_script(path).main()

    return run


def shape(config):
    """Return the options for the size of images; EoMT's encoder has one."""
    fixed = Config.fromfile(config).model.backbone.type == "EoMTEncoder"
    return () if fixed else ("--shape", SIDE, SIDE)


def test_operations(host, call, tmp_path):
    out = tmp_path / "rows.json"
    call("tools/analysis_tools/get_flops.py", host[0], "--number", 1, "--device", "cpu", "--json", out, *shape(host[0]))
    (row,) = json.loads(out.read_text())
    assert 0 < row["gmacs_by_part"]["blocks"] < row["gmacs"] and row["keep_ratio"] < 1


def test_times(host, call, tmp_path):
    out = tmp_path / "rows.json"
    options = ("--repeats", 1, "--warmup", 0, "--device", "cpu", "--json", out, *shape(host[0]))
    call("speed_test.py", "--models", host[0], *options)
    (row,) = json.loads(out.read_text())
    assert row["ms_median"] > 0 and row["keep_ratio"] < 1


def test_calibration(host, call, tmp_path):
    out = tmp_path / "found.py"
    options = ("--part", "backbone", "--number", 1, "--keep-ratio", 0.875, "--device", "cpu", "--out", out)
    call("tools/analysis_tools/calibrate.py", host[0], *options)
    found = Config.fromfile(out).model.backbone.reducer
    assert found.type == "ToMe" and found.r != TOME["r"]


def test_predictions_with_tokens(host):
    result = Predictor(host[0])(host[1])
    assert result.draw().size >= (112, 96)
    assert 0 < result.tokens.mean_keep_ratio() < 1
    assert np.asarray(result.tokens.overlay(1)).any()
    json.dumps(result.to_dict())


def test_the_image_demo(host, call, tmp_path):
    call("image_demo.py", host[1], host[0], "none", "--out", tmp_path / "demo")
    assert {"a.jpg", "results.json", "coco.json"} == {file.name for file in (tmp_path / "demo").iterdir()}
    (found,) = json.loads((tmp_path / "demo/results.json").read_text())["results"]
    entries = json.loads((tmp_path / "demo/coco.json").read_text())
    if found["task"] == "panoptic segmentation":
        segments = found["segments"]
        assert 0 < len(entries) == len(segments)
        assert sum(segment["area"] for segment in segments) <= 96 * 112  # they share no pixel
        assert all(0 < entry["score"] < 1 for entry in entries)


def test_the_web_page(host):
    pair = load_script("tools/web_demo/pair.py").Pair(host[0], None, "cpu", 0.3, timing_ms=0)
    json.dumps(pair.describe())
    answer = pair.run(Image.open(host[1]))
    assert {*answer["models"]} == {"pruned", "dense"} and answer["keep"] < 1
    assert answer["models"]["pruned"]["gmacs"] < answer["models"]["dense"]["gmacs"]
