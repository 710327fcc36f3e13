"""ViTDet: the simple feature pyramid, and a Cascade Mask R-CNN on it that trains and predicts with every method."""

import pytest
import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.registry import init_default_scope
from reducers import ALL, reduced

from mmcv_custom.cli.launch import run
from mmdet_custom import SimpleFeaturePyramid
from token_pruning import METHODS, SettingError

CONFIG = "configs/quickstart/digits_vit-pyramid-nano.py"


@pytest.mark.parametrize("grid", [(4, 6), (5, 7), (1, 1)])
def test_levels(grid):
    torch.manual_seed(0)
    neck, x = SimpleFeaturePyramid(32, 16).eval(), torch.randn(2, 32, *grid)
    with torch.no_grad():
        levels = neck([x])
        up, half = neck.resize[0], [-(-side // 2) for side in grid]
        two = F.conv_transpose2d(x, up[0].weight, up[0].bias, stride=2)
        normed = F.layer_norm(two.movedim(1, 3), (16,), eps=up[1].eps).movedim(3, 1)
        four = F.conv_transpose2d(F.gelu(normed), up[3].weight, up[3].bias, stride=2)

        def norm(x):
            return F.layer_norm(x.movedim(1, 3), (16,), eps=1e-6).movedim(3, 1)

        narrow, smooth = (layer.conv.weight for layer in neck.out[0])
        wanted = norm(F.conv2d(norm(F.conv2d(four, narrow)), smooth, padding=1))
    assert [tuple(level.shape[2:]) for level in levels] == [
        tuple(4 * side for side in grid),
        tuple(2 * side for side in grid),
        grid,
        tuple(half),
        tuple(-(-side // 2) for side in half),
    ]
    assert all(level.shape[:2] == (2, 16) and level.isfinite().all() for level in levels)
    torch.testing.assert_close(levels[0], wanted)


@pytest.mark.parametrize(
    ("channels", "number", "sentence"),
    [
        (32, 2, "got 2 maps and takes only the last: remove the backbone's out_indices"),
        (32, 0, "got 0 maps and takes only the last"),
        (16, 1, "has in_channels 32 and its map 16: set the neck's in_channels to the backbone's embed_dim"),
    ],
)
def test_maps_that_do_not_fit_end_a_tool_with_one_sentence(channels, number, sentence, capsys):
    maps = [torch.zeros(1, channels, 2, 2)] * number
    with pytest.raises(SettingError, match=sentence):
        SimpleFeaturePyramid(32)(maps)
    with pytest.raises(SystemExit) as end:
        run(lambda: SimpleFeaturePyramid(32)(maps))
    assert end.value.code == 2 and capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ALL)
def test_every_method_learns_and_predicts(name):
    cfg = Config.fromfile(CONFIG)
    init_default_scope("mmdet")
    torch.manual_seed(0)
    reducer = reduced(dict(type=name, **(dict(num_classes=10) if name == "Cropr" else {})))
    cfg.model.backbone.update(reducer=reducer, class_token=METHODS[name].needs_class_token)
    model = MODELS.build(cfg.model).train()
    data = demo_mm_inputs(2, [[3, 64, 96], [3, 90, 64]], num_items=[2, 0], num_classes=3, with_mask=True)
    losses = model(**model.data_preprocessor(data, True), mode="loss")
    total, _ = model.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    assert all(p.grad is not None for p in model.backbone.reducer.parameters())
    with torch.no_grad():
        assert len(model.eval()(**model.data_preprocessor(data, False), mode="predict")) == 2
