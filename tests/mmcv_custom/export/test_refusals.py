"""What cannot be exported is refused in one sentence, and no file is left behind."""

import pytest
import timm
import torch
from exports import DENSE, SHALLOW, applied, built
from torch import nn

import token_pruning
from mmcv_custom import ConfigError, DataError
from mmcv_custom.export import FORMATS, ExportedModel, export_model, formats, trace_model
from mmcv_custom.export.compare import differences, largest_differences, too_far
from mmcv_custom.export.graphs import graph_of
from token_pruning.errors import SettingError

IMAGES = torch.zeros(1, 3, 64, 64)


class Brightness(nn.Module):
    """Small enough to be exported in a second."""

    def forward(self, images):
        return dict(mean=images.mean((1, 2, 3)), bright=images > 0)


def test_any_module_with_named_outputs(tmp_path):
    done = export_model(Brightness().eval(), torch.randn(2, 3, 8, 8), tmp_path / "a.pt2", dynamic=["batch"])
    assert done.metadata["outputs"] == ["mean", "bright"] and done.metadata["method"] is None
    assert (
        done.summary().endswith("(images 2x3x8x8, 1x3x8x8, 3x3x8x8)")
        and "mean 0.0e+00 of the largest value" in done.summary()
    )
    images = torch.randn(5, 3, 8, 8)
    found = ExportedModel(tmp_path / "a.pt2")(images)
    assert torch.equal(found["bright"], images > 0) and found["mean"].shape == (5,)


def test_a_file_takes_what_it_was_made_for(tmp_path):
    export_model(Brightness().eval(), torch.randn(2, 3, 8, 8), tmp_path / "a.pt2")
    file = ExportedModel(tmp_path / "a.pt2")
    assert file.size == (8, 8) and file.batch == 2
    with pytest.raises(DataError, match=r"takes images \(2, 3, 8, 8\) of type float32, and these are \(2, 3, 8, 9\)"):
        file(torch.zeros(2, 3, 8, 9))
    with pytest.raises(DataError, match="of type uint8"):
        file(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


def test_a_free_size_is_a_multiple_of_the_stride(tmp_path):
    export_model(Brightness().eval(), torch.randn(2, 3, 32, 32), tmp_path / "a.pt2", dynamic=["size"])
    file = ExportedModel(tmp_path / "a.pt2")
    assert file.size is None and file.multiple == 16
    assert file(torch.ones(2, 3, 48, 96))["mean"].tolist() == [1, 1]
    with pytest.raises(DataError, match=r"takes images \(2, 3, 'height', 'width'\) \(multiples of 16\) of type"):
        file(torch.zeros(2, 3, 40, 48))


def test_a_program_that_assumes_more_than_it_may_is_refused(tmp_path):
    class OneSize(Brightness):
        def forward(self, images):
            return images.mean((1, 2, 3)) if images.shape[2] % 32 else images.sum((1, 2, 3))

    with pytest.raises(ConfigError, match="^OneSize does not take a free size: torch.export assumes .*; leave less"):
        export_model(OneSize().eval(), torch.randn(1, 3, 32, 32), tmp_path / "a.pt2", dynamic=["size"])
    assert not [*tmp_path.iterdir()]


def test_a_file_is_not_overwritten(tmp_path):
    path = tmp_path / "a.pt2"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists: give another name, or --force"):
        export_model(Brightness().eval(), IMAGES, path)
    assert path.read_text() == "mine"
    export_model(Brightness().eval(), IMAGES, path, force=True)
    assert ExportedModel(path).metadata["format"] == "torch-export"


class Wrong(Brightness):
    """Its file is made from another model."""

    def forward(self, images):
        out = super().forward(images)
        return dict(out, mean=out["mean"] + (0.5 if torch.compiler.is_exporting() else 0))


class Sensitive(nn.Module):
    """Rounding decides: the parity of the millionths of each pixel; the file adds ``wrong`` to the pixels."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong

    def forward(self, images):
        if torch.compiler.is_exporting():
            images = images * (1 + 1e-6) + self.wrong
        return dict(parity=(images * 1e6).long() % 2 + 2 * (images > 4.5).long())


def test_a_file_that_computes_something_else_is_not_kept(tmp_path):
    images = torch.ones(1, 3, 8, 8)
    with pytest.raises(
        ConfigError, match=r"torch-export computes other mean than PyTorch \(off by 0.5; noise of 1e-06 on"
    ):
        export_model(Wrong().eval(), images, tmp_path / "a.pt2")
    assert not [*tmp_path.iterdir()]
    export_model(Wrong().eval(), images, tmp_path / "a.pt2", tolerance=0.6)


def test_what_is_not_a_number_is_too_far_whatever_comes_after_it():
    values = iter([1.0, torch.nan, 1.0])
    off = largest_differences(lambda x: dict(a=x), lambda x: dict(a=x * next(values)), [torch.ones(1)] * 3)
    for options in (dict(precision="fp32"), dict(precision="int8"), dict(precision="fp32", tolerance=torch.inf)):
        assert too_far(off, **options) == too_far(off, **options, own=dict(a=("values", 0.5))) == "a"
    assert too_far(differences(dict(a=torch.ones(1)), dict(a=torch.ones(2))), "int8") == "a"


def test_a_file_may_differ_as_much_as_rounding_moves_pytorch(tmp_path):
    images = torch.rand(1, 3, 32, 32) + 1
    done = export_model(Sensitive(0).eval(), images, tmp_path / "a.pt2")
    assert 0.3 < done.differences["parity"][1] < 0.7 and 0.3 < done.own["parity"][1] < 0.7
    said = "noise of 1e-06 on images and products"
    assert f"; PyTorch with {said} differs from itself by parity 4" in done.summary().replace("5", "4")
    with pytest.raises(ConfigError, match=rf"other parity than PyTorch \(off by 1; {said} moves"):
        export_model(Sensitive(4).eval(), images, tmp_path / "b.pt2")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"written by onnx, onnxscript, onnxruntime, which is not installed: pip inst"
    ):
        export_model(Brightness().eval(), IMAGES, tmp_path / "a.onnx")
    (tmp_path / "a.onnx").touch()
    with pytest.raises(ConfigError, match="is run by onnxruntime, which is not installed"):
        ExportedModel(tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("a.txt", {}, "has the suffix of no format"),
        ("a.onnx", dict(format="aoti"), "is no name for format aoti: it ends in .pt2"),
        ("a.pt2", dict(format="tflite"), "format is 'tflite': choose one of torch-export"),
        ("a.pt2", dict(precision="int8"), "format torch-export has no tool for int8: choose onnx or openvino"),
        ("a.pt2", dict(precision="int4"), "precision is 'int4': choose one of fp32, fp16, int8"),
        ("a.pt2", dict(dynamic=["colour"]), "colour cannot be dynamic: choose from batch, size"),
        ("a.pt2", dict(preprocess=True), "Brightness has no preprocessor"),
        ("none/a.pt2/b.pt2", {}, "cannot be written"),
    ],
)
def test_options_that_do_not_fit(tmp_path, name, options, sentence):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/a.pt2").touch()
    with pytest.raises(ConfigError, match=sentence):
        export_model(Brightness().eval(), IMAGES, tmp_path / name, **options)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["none"]


def test_int8_needs_images(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: True)
    with pytest.raises(ConfigError, match="int8 needs images that say which values occur"):
        export_model(Brightness().eval(), IMAGES, tmp_path / "a.onnx", precision="int8")


def test_a_model_in_training_mode_and_a_wrong_size():
    with pytest.raises(ConfigError, match="is in training mode: call .eval"):
        trace_model(Brightness().train(), IMAGES)
    with pytest.raises(DataError, match="takes images of 64 x 64 pixels only, not 32 x 32: give --shape 64 64"):
        trace_model(applied(), torch.zeros(1, 3, 32, 32))
    with pytest.raises(DataError, match=r"give \(batch, 3, height, width\)"):
        trace_model(Brightness().eval(), torch.zeros(3, 8, 8))


@pytest.mark.parametrize("reducer", [dict(type="ATS"), dict(type="SViT", mode="target")])
def test_methods_whose_number_of_tokens_depends_on_the_image(reducer):
    model = timm.create_model("deit_tiny_patch16_224", embed_dim=48, depth=3, num_heads=3, img_size=64).eval()
    token_pruning.apply(model, reducer)
    with pytest.raises((SettingError, ConfigError), match=r"number of tokens.*depend"):
        trace_model(model, IMAGES)


def test_outputs_that_a_model_does_not_have():
    model = built(DENSE, SHALLOW)
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ConfigError, match="scores are an output of segmentors, and PrunedClassifier is none"):
        trace_model(model, images, outputs="scores")
    with pytest.raises(ConfigError, match="outputs is 'boxes': choose one of predictions, scores, features"):
        trace_model(model, images, outputs="boxes")


def test_a_detector_that_is_not_exported_as_a_whole():
    model = Brightness()
    model.bbox_head = nn.Identity()  # as RetinaNet has
    with pytest.raises(ConfigError, match="is not exported as a whole, Faster, Mask and Cascade R-CNN are: export its"):
        graph_of(model)


def test_files_of_others(tmp_path):
    with pytest.raises(DataError, match="does not exist: check the path"):
        ExportedModel(tmp_path / "a.onnx")
    torch.save({}, tmp_path / "a.pt2")
    with pytest.raises(ConfigError):
        ExportedModel(tmp_path / "a.pt2")
    (tmp_path / "b.pt2").write_text("no archive")
    with pytest.raises(ConfigError, match="is no archive of torch.export: export the model again"):
        ExportedModel(tmp_path / "b.pt2")


def test_every_format_has_its_functions():
    for one in FORMATS.values():
        assert callable(one._function("write")) and callable(one._function("load"))
