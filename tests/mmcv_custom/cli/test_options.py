"""Values on the command line, and configs that cannot be read."""

import argparse

import pytest

from mmcv_custom import ConfigError
from mmcv_custom.cli.launch import add_common_options, read_config, with_options


def options(*given):
    parser = argparse.ArgumentParser()
    add_common_options(parser)
    return parser.parse_args(["--cfg-options", *given]).cfg_options


@pytest.mark.parametrize(
    "text, value",
    [
        ("{'type':'ToMe','r':4}", dict(type="ToMe", r=4)),
        ('{"type": "ToMe", "r": [1, -2], "on": true, "off": null}', dict(type="ToMe", r=[1, -2], on=True, off=None)),
        ("{type: ToMe, r: 0.5}", dict(type="ToMe", r=0.5)),
        ("dict(type='ToMe', inner=dict(r=(1, 2)))", dict(type="ToMe", inner=dict(r=(1, 2)))),
        ("[{'type': 'A'}, dict(type='B', x=None)]", [dict(type="A"), dict(type="B", x=None)]),
        ("{}", {}),
        ("[a, b]", ["a", "b"]),
        ("epoch_{}.pth", "epoch_{}.pth"),
        ("1,2", [1, 2]),
    ],
)
def test_values(text, value):
    assert options(f"a.b={text}") == {"a.b": value}


@pytest.mark.parametrize("text", ["{'type': 'A'", "dict(A)", "{'a': open('x')}", "{**a}", "[{1, 2}, f(3)]"])
def test_what_cannot_be_read_ends_with_a_sentence(capsys, text):
    with pytest.raises(SystemExit) as end:
        options(f"a={text}")
    assert end.value.code == 2 and "write for example \"a={'type': 'Name', 'x': 1}\"" in capsys.readouterr().err


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "base.py"
    path.write_text(
        "model = dict(type='M', reducer=dict(type='TopK', keep=0.5), plain=None, tokens=3)\n"
        "custom_hooks = [dict(type='A', x=1), dict(type='B')]\n"
    )
    return read_config(str(path))


def test_a_dict_of_another_type_replaces_and_one_of_the_same_is_merged(config):
    def reducer(value):
        return with_options(config, {"model.reducer": value}).model.reducer.to_dict()

    assert reducer(dict(type="ToMe", r=4)) == dict(type="ToMe", r=4)
    assert reducer(dict(type="TopK", seed=1)) == dict(type="TopK", keep=0.5, seed=1)
    assert reducer(dict(keep=0.1)) == dict(type="TopK", keep=0.1)
    cfg = with_options(config, {"model.plain": dict(type="P"), "model.tokens": dict(type="T"), "model.new": dict(a=1)})
    assert (cfg.model.plain.type, cfg.model.tokens.type, cfg.model.new.to_dict()) == ("P", "T", dict(a=1))
    assert config.model.reducer.type == "TopK"


@pytest.mark.parametrize("name, value", [("TopK", 1), ("ToMe", 4)], ids=["same type", "another type"])
def test_delete_replaces_what_is_there_also_in_a_list(config, name, value):
    given = dict(_delete_=True, type=name, value=value)
    wanted = dict(type=name, value=value)
    for option in ("model.reducer", "model.new", "custom_hooks.0"):
        cfg = with_options(config, {"custom_hooks.0.type": name, option: given})
        found = cfg.custom_hooks[0] if option == "custom_hooks.0" else cfg.model[option.split(".")[1]]
        assert found.to_dict() == wanted, option


def test_a_list_in_place_of_a_tuple_becomes_one(config):
    config.custom_hooks[0].update(size=(1333, 800), sizes=[480, 512])
    given = options("custom_hooks.0.size=640,480", "custom_hooks.0.sizes=1,2")
    hook = with_options(config, given).custom_hooks[0]
    assert (hook.size, hook.sizes) == ((640, 480), [1, 2])


def test_lists_of_dicts_are_set_as_a_whole_or_by_index(config):
    cfg = with_options(config, {"custom_hooks": [dict(type="C", inner=dict(y=1))]})
    assert len(cfg.custom_hooks) == 1 and cfg.custom_hooks[0].inner.y == 1
    cfg = with_options(config, {"custom_hooks.0": dict(type="C")})
    assert [hook.to_dict() for hook in cfg.custom_hooks] == [dict(type="C"), dict(type="B")]


MISTAKES = {
    "name": ("a.py", b"x = 1\n_a = undefined\n", "a.py cannot be read (line 2): name 'undefined' is not defined"),
    "key": ("a.py", b"_base_ = 'base.py'\n_a = _base_.nothing\n", "a.py cannot be read (line 2): .*nothing"),
    "placeholder": ("a.py", b"_base_ = 'base.py'\n_a = {{_base_.nothing}}\n", "a.py cannot be read: .*nothing"),
    "twice": ("a.py", b"_base_ = ['base.py', 'other.py']\n", "a.py .* more than one of its bases sets train_cfg: set"),
    "no base": ("a.py", b"_base_ = 'none.py'\n", "a.py cannot be read: its _base_ .*none.py does not exist"),
    "cut": ("a.json", b'{"model": {"type": "X"},\n "a":', "a.json cannot be read: Expecting value: line 2"),
    "list": ("a.json", b"[1, 2]", "a.json cannot be read: it must hold names with values"),
    "syntax": ("a.py", b"model = dict(\n", "a.py cannot be read (line 1): it is no valid Python"),
    "latin": ("a.py", b"_a = 1\n_b = '\xe9'\n", "a.py cannot be read (line 2): it is not encoded in UTF-8"),
    "mark": ("a.py", b"\xef\xbb\xbf_a = 1\n", "a.py cannot be read (line 1): it begins with a byte order mark"),
    "variable": ("a.py", b"_a = '{{$UNSET_VARIABLE:}}'\n", "a.py cannot be read: .*Please set `UNSET_VARIABLE`"),
    "package": ("a.py", b"_base_ = 'nopackage::a/b.py'\n", "a.py cannot be read: .*nopackage"),
    "import": (
        "a.py",
        b"custom_imports = dict(imports=['no_such_module'])\n",
        "custom_imports of config .*a.py cannot",
    ),
    "base of a toolbox": (
        "a.py",
        b"raise ValueError('mmpretrain is not installed, please install it manually')\n",
        r"config .*a.py needs mmpretrain, which is not installed: pip install 'token-pruning\[classification\]'",
    ),
    "import of a toolbox": (
        "a.py",
        b"raise ModuleNotFoundError('No module named mmseg', name='mmseg')\n",
        r"config .*a.py needs mmseg, which is not installed: pip install 'token-pruning\[segmentation\]'",
    ),
    "inherited": ("a.py", b"_base_ = 'broken.py'\n", "broken.py cannot be read (line 3): division by zero"),
}


@pytest.mark.parametrize("name, content, message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_config_is_one_sentence_with_file_and_line(tmp_path, name, content, message):
    (tmp_path / "base.py").write_text("train_cfg = dict(max_epochs=1)\n")
    (tmp_path / "other.py").write_text("train_cfg = dict(max_epochs=2)\n")
    (tmp_path / "broken.py").write_text("_a = 1\n_b = 2\n_c = 1 / 0\n")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=message.replace("(", "\\(").replace(")", "\\)")) as caught:
        read_config(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_bases_of_mmseg_are_found(tmp_path):
    (tmp_path / "a.py").write_text("_base_ = 'mmseg::_base_/default_runtime.py'\n")
    assert read_config(str(tmp_path / "a.py")).default_scope == "mmseg"


def test_a_loader_without_workers_needs_no_second_option(tmp_path):
    path = tmp_path / "loaders.py"
    path.write_text(
        "\n".join(f"{s}_dataloader = dict(num_workers=2, persistent_workers=True)" for s in ("train", "val"))
    )
    cfg = read_config(str(path), {"train_dataloader.num_workers": 0})
    assert not cfg.train_dataloader.persistent_workers and cfg.val_dataloader.persistent_workers
