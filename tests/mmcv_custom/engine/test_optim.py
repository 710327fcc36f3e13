import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmcv_custom import ConfigError
from mmcv_custom.engine.optim import layer_id


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.level_embed = nn.Parameter(torch.zeros(3, 4))
        self.patch_embed = nn.Conv2d(3, 4, 2)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.blocks = Backbone(), nn.ModuleList([nn.Linear(4, 2)])


def groups(**paramwise):
    model = Detector()
    wrapper = build_optim_wrapper(
        model,
        dict(
            constructor="LayerDecayOptimWrapperConstructor",
            optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.1),
            paramwise_cfg=paramwise,
        ),
    )
    names = {id(p): n for n, p in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in wrapper.optimizer.param_groups for p in g["params"]}


def test_scales_and_decays():
    assert groups(layer_decay_rate=0.5) == {
        "backbone.pos_embed": (0.125, 0.0),
        "backbone.patch_embed.weight": (0.125, 0.1),
        "backbone.patch_embed.bias": (0.125, 0.0),
        "backbone.level_embed": (1.0, 0.0),
        "backbone.blocks.0.weight": (0.25, 0.1),
        "backbone.blocks.0.bias": (0.25, 0.0),
        "backbone.blocks.1.weight": (0.5, 0.1),
        "backbone.blocks.1.bias": (0.5, 0.0),
        "blocks.0.weight": (0.25, 0.1),
        "blocks.0.bias": (0.25, 0.0),
    }


def test_ids():
    assert [
        layer_id(n, 12) for n in ("backbone.cls_token", "blocks.11.norm1.weight", "backbone.reducer.x", "neck.w")
    ] == [0, 12, 13, 13]


@pytest.mark.parametrize(
    "paramwise, message",
    [
        (dict(num_layers=2), "layer_decay_rate must be"),
        (dict(layer_decay_rate=1.5), "must be a number in"),
        (dict(layer_decay_rate=0.9, num_layers=1), "at most num_layers=1 blocks, the model has 2"),
        (dict(layer_decay_rate=0.9, decay_rate=1), "paramwise_cfg.decay_rate is not read"),
    ],
)
def test_mistakes(paramwise, message):
    with pytest.raises(ConfigError, match=message):
        groups(**paramwise)


def test_frozen_blocks_count():
    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.blocks = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    model.backbone.reducer = nn.Linear(2, 2)
    cfg = dict(
        type="OptimWrapper",
        optimizer=dict(type="AdamW", lr=1.0),
        paramwise_cfg=dict(layer_decay_rate=0.5),
        constructor="LayerDecayOptimWrapperConstructor",
    )

    def rates():
        groups = build_optim_wrapper(model, cfg).param_groups
        return {
            name: g["lr"]
            for name, own in model.backbone.reducer.named_parameters()
            for g in groups
            if any(p is own for p in g["params"])
        }

    free = rates()
    model.backbone.blocks.requires_grad_(False)
    assert rates() == free and len(free) == 2
