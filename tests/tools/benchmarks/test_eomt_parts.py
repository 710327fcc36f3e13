"""eomt_parts.py: a row for each config and size, with operations by the formulas of the parts."""

import json
import sys
from pathlib import Path

import pytest
from scripts import load_script

from mmcv_custom import ConfigError

NANO = Path(__file__).resolve().parents[3] / "configs/eomt"
DENSE, TOME = (str(NANO / f"vit-nano{kind}_eomt_digit-scenes-instance-256.py") for kind in ("", "-tome"))


@pytest.fixture
def tool():
    return load_script("tools/benchmarks/eomt_parts.py")


def call(tool, monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["eomt_parts.py", *args])
    tool.main()


def test_rows(tool, monkeypatch, tmp_path, capsys):
    out = tmp_path / "rows.json"
    call(tool, monkeypatch, DENSE, TOME, "--size", "128", "256", "--rounds", "1", "--device", "cpu", "--json", str(out))
    rows = json.loads(out.read_text())
    assert [(one["config"], one["shape"]) for one in rows] == [(c, [n, n]) for n in (128, 256) for c in (DENSE, TOME)]
    dense, merged = rows[:2]
    assert merged["gmacs_encoder"] < dense["gmacs_encoder"]
    # Two stages on an 8 x 8 map of 96 channels: transposed convolution (4 outputs a position), depthwise 3 x 3.
    stage = lambda n: n * n * 4 * (96 * 96 + 9 * 96)  # noqa: E731
    assert dense["gmacs_upscaling"] == merged["gmacs_upscaling"] == pytest.approx((stage(8) + stage(16)) / 1e9)
    assert dense["gmacs_mask_product"] == pytest.approx(20 * 96 * 32 * 32 / 1e9)
    assert all(one[f"ms_{part}"] > 0 for one in rows for part in tool.PARTS)
    assert "at 256: encoder" in capsys.readouterr().out


def test_configs_of_other_models(tool, monkeypatch):
    with pytest.raises(ConfigError, match="has a ViTAdapter for its backbone: give configs of EoMT"):
        call(tool, monkeypatch, str(NANO.parent / "quickstart/digits_vit-adapter-nano.py"), "--device", "cpu")
    with pytest.raises(ConfigError, match="must be at least 1"):
        call(tool, monkeypatch, DENSE, "--rounds", "0")
