"""Names that a derived config or the command line sets after the bases have used them."""

import pytest
from scripts import ROOT

from mmcv_custom import ConfigError
from mmcv_custom.cli.launch import read_config

BASE = """
data_root = "data/old/"
metainfo = dict(classes=("a", "b"))
image_size = (512, 512)
train_pipeline = [dict(type="LoadImage"), dict(type="Resize", scale=image_size)]
_data = dict(type="CocoDataset", data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(type="RepeatDataset", dataset=dict(ann_file="train.json", pipeline=train_pipeline, **_data)),
)
val_dataloader = dict(batch_size=1, dataset=dict(ann_file="val.json", data_prefix=dict(img="val/"), **_data))
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoMetric", ann_file=data_root + "val.json")
test_evaluator = [val_evaluator]
"""


@pytest.fixture
def derived(tmp_path):
    (tmp_path / "base.py").write_text(BASE)

    def read(text, options=None, base="base.py", name="derived.py"):
        (tmp_path / name).write_text(f"_base_ = './{base}'\n{text}\n")
        return read_config(str(tmp_path / name), options)

    return read


def roots(cfg):
    train, val, test = (cfg[f"{split}_dataloader"].dataset for split in ("train", "val", "test"))
    return [train.get("dataset", train).data_root, val.data_root, test.data_root]


@pytest.mark.parametrize("root", ["/mnt/new", "/mnt/new/"])
def test_data_root_counts_for_data_sets_and_evaluators(derived, root):
    cfg = derived(f"data_root = '{root}'")
    assert [one.rstrip("/") for one in roots(cfg)] == ["/mnt/new"] * 3
    assert (cfg.val_evaluator.ann_file, cfg.test_evaluator[0].ann_file) == ("/mnt/new/val.json",) * 2
    assert cfg.val_dataloader.dataset.data_prefix.img == "val/"
    on_the_command_line = derived("", dict(data_root=root))
    assert roots(on_the_command_line) == roots(cfg)
    assert on_the_command_line.test_evaluator == cfg.test_evaluator


def test_metainfo_counts_for_data_sets(derived):
    cfg = derived("metainfo = dict(classes=('c',))")
    assert cfg.train_dataloader.dataset.dataset.metainfo.classes == ("c",)
    assert cfg.val_dataloader.dataset.metainfo.classes == cfg.test_dataloader.dataset.metainfo.classes == ("c",)
    cfg = derived("", {"metainfo.classes": ["d"]})
    assert cfg.test_dataloader.dataset.metainfo.classes == ("d",)


def test_a_file_between_base_and_config_counts_as_well(derived):
    derived("data_root = 'data/between/'", name="between.py")
    cfg = derived("train_dataloader = dict(batch_size=2)", base="between.py")
    assert roots(cfg) == ["data/between/"] * 3 and cfg.val_evaluator.ann_file == "data/between/val.json"
    again = derived("data_root = 'data/between/inside/'", base="between.py")
    assert roots(again) == ["data/between/inside/"] * 3


def test_what_the_config_sets_itself_is_left_alone(derived):
    cfg = derived("data_root = '/new/'\nval_dataloader = dict(dataset=dict(data_root='/other/'))")
    assert roots(cfg) == ["/new/", "/other/", "/new/"]
    cfg = derived("data_root = '/new/'\nval_dataloader = dict(dataset=dict(data_root=data_root))")
    assert roots(cfg) == ["data/old/", "/new/", "data/old/"]  # the file uses the name itself


def test_a_base_without_the_name_gives_it_to_data_sets_that_agree(derived, tmp_path):
    def base(train, val):
        loaders = "".join(
            f"{split}_dataloader = dict(dataset=dict(type='CustomDataset'{root}))\n"
            for split, root in (("train", train), ("val", val), ("test", val))
        )
        (tmp_path / "folders.py").write_text(loaders)

    base(*2 * [", data_root='data/old'"])
    assert roots(derived("data_root = '/new'", base="folders.py")) == ["/new"] * 3
    assert derived("metainfo = dict(classes=('a',))", base="folders.py").val_dataloader.dataset.metainfo.classes == (
        "a",
    )
    for train, val in ((", data_root='data/a'", ", data_root='data/b'"), ("", "")):
        base(train, val)
        with pytest.raises(ConfigError, match="derived.py sets data_root, which changes nothing.*: set ") as caught:
            derived("data_root = '/new'", base="folders.py")
        assert bool(train) == ("train_dataloader.dataset.data_root and val" in str(caught.value))


@pytest.mark.parametrize(
    "line, place",
    [
        ("image_size = (640, 640)", "set train_dataloader.dataset.dataset.pipeline.1.scale instead"),
        ("train_pipeline = [dict(type='LoadImage')]", "set train_dataloader.dataset.dataset.pipeline instead"),
        ("batch_size = 8", "set train_dataloader.batch_size and val_dataloader.batch_size and test_dataloader"),
        ("crop_size = (3, 3)", "set the value where it is used"),
    ],
)
def test_other_names_that_nothing_reads_any_more_are_refused(derived, line, place):
    with pytest.raises(ConfigError, match=f"derived.py sets {line.split()[0]}, which changes nothing.*{place}"):
        derived(line)


@pytest.mark.parametrize(
    "text",
    [
        "image_size = (640, 640)\n_scale = image_size",
        "image_size = (512, 512)",
        "crop_size = (3, 3)\ntrain_dataloader = dict(dataset=dict(dataset=dict(crop_size=(3, 3))))",
        "train_pipeline = []\ntrain_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))",
    ],
)
def test_names_that_are_read_or_keep_their_value_pass(derived, text):
    derived(text)


def test_a_written_config_is_taken_as_it_is(derived, tmp_path):
    cfg = derived("train_dataloader = dict(dataset=dict(dataset=dict(data_root='/mine/')))")
    cfg.dump(tmp_path / "written.py")
    assert roots(read_config(str(tmp_path / "written.py"))) == ["/mine/", "data/old/", "data/old/"]


@pytest.mark.parametrize(
    "option, place",
    [
        ("train_pipeline.1.scale", "Set train_dataloader.dataset.dataset.pipeline.1.scale instead"),
        ("image_size", "Set train_dataloader.dataset.dataset.pipeline.1.scale instead"),
        ("image_size.0", "Set train_dataloader.dataset.dataset.pipeline.1.scale.0 instead"),
        ("batch_size", "Set train_dataloader.batch_size and val_dataloader.batch_size"),
    ],
)
def test_options_of_the_command_line_name_the_place(derived, option, place):
    with pytest.raises(ConfigError, match=f"{option}=... changes nothing.*{place}"):
        derived("", {option: 3})


@pytest.mark.parametrize("base", ["quickstart/digits_vit-adapter-nano", "deit/digits/deit-nano_digits"])
def test_data_sets_of_this_project_are_found_elsewhere(tmp_path, base):
    path = tmp_path / "mine.py"
    path.write_text(f"_base_ = {str(ROOT / 'configs' / base)!r} + '.py'\ndata_root = '/mnt/mine'\n")
    cfg = read_config(str(path))
    assert {root.rstrip("/") for root in roots(cfg)} == {"/mnt/mine"}
    assert cfg.val_evaluator.get("ann_file", "/mnt/mine/").startswith("/mnt/mine/")
