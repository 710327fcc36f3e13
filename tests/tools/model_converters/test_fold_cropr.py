"""Folding keeps the predictions in a smaller file, and a failure writes nothing."""

import sys
from pathlib import Path

import fold_cropr
import pytest
import torch
from mmengine.config import Config

from mmcv_custom.cli.launch import build_model
from mmcv_custom.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
TINY = """_base_ = ['{root}/configs/_base_/models/deit_nano.py', '{root}/configs/_base_/datasets/digits.py',
          '{root}/configs/_base_/runtimes/runtime_classification.py']

model = dict(backbone=dict(embed_dim=48, depth=4, num_heads=2, reducer={reducer!r}))
"""


def fold(monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["fold_cropr.py", *map(str, options)])
    fold_cropr.main()


def trained(folder, reducer):
    config, weights = folder / "tiny.py", folder / "trained.pth"
    config.write_text(TINY.format(root=ROOT, reducer=reducer))
    torch.save(dict(state_dict=build_model(Config.fromfile(config), None).state_dict()), weights)
    return config, weights


def test_a_smaller_file_with_the_same_predictions(tmp_path, monkeypatch, capsys):
    config, weights = trained(tmp_path, dict(type="Cropr", r=9, num_classes=10))
    out = tmp_path / "new" / "folded.pth"
    fold(monkeypatch, config, weights, out)
    assert "outputs equal; use it with" in capsys.readouterr().out
    assert out.stat().st_size < 0.8 * weights.stat().st_size and [p.name for p in out.parent.iterdir()] == [out.name]
    cfg = Config.fromfile(config)
    whole = build_model(cfg, str(weights))
    cfg.model.backbone.reducer.folded = True
    x = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(build_model(cfg, str(out))(x), whole(x))
    with pytest.raises(ConfigError, match="exists already"):
        fold(monkeypatch, config, weights, out)


@pytest.mark.parametrize("name", ["digits_cropr-pyramid-nano", "baselines/digits_cropr-adapter-nano"])
def test_detectors(name, tmp_path, monkeypatch, capsys):
    config, weights = ROOT / f"configs/quickstart/{name}.py", tmp_path / "trained.pth"
    torch.save(dict(state_dict=build_model(Config.fromfile(config), None).state_dict()), weights)
    fold(monkeypatch, config, weights, tmp_path / "folded.pth")
    assert "outputs equal; use it with" in capsys.readouterr().out


def test_what_has_nothing_to_fold_is_one_sentence(tmp_path, monkeypatch):
    for reducer in (dict(type="ToMe"), dict(type="Cropr", folded=True)):
        config, weights = trained(tmp_path, reducer)
        with pytest.raises(ConfigError, match="has no routers to fold: its reducer must be a Cropr with folded=False"):
            fold(monkeypatch, config, weights, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
