"""EoMT's parameter groups, learning rates and annealing of masked attention."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from torch import nn

from mmcv_custom import ConfigError, EoMTEncoder, EoMTLR, MaskAnnealingHook
from mmcv_custom.engine.hooks.mask_annealing import mask_probability


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = EoMTEncoder(
            model_name="vit_small_patch14_reg4_dinov2",
            img_size=32,
            patch_size=16,
            embed_dim=16,
            depth=3,
            num_heads=2,
            num_queries=2,
            query_blocks=2,
        )
        self.head = nn.Linear(16, 2)


def wrapper_of(model, **paramwise):
    cfg = dict(
        type="OptimWrapper",
        constructor="EoMTOptimWrapperConstructor",
        optimizer=dict(type="AdamW", lr=1.0, weight_decay=0.05),
        paramwise_cfg=paramwise,
    )
    return build_optim_wrapper(model, cfg)


def test_groups():
    model = Model()
    groups = wrapper_of(model, layer_decay_rate=0.5).optimizer.param_groups
    names = {id(p): n for n, p in model.named_parameters()}
    found = {names[id(p)]: (g["lr"], g["encoder"]) for g in groups for p in g["params"]}
    assert {g["weight_decay"] for g in groups} == {0.05}
    embeddings = ["cls_token", "reg_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.ls1.gamma"]
    assert all(found[f"backbone.{name}"] == (0.25, True) for name in embeddings)
    assert found["backbone.blocks.1.attn.qkv.bias"] == (0.5, True)
    assert found["backbone.blocks.2.mlp.fc1.weight"] == found["backbone.norm.weight"] == (1.0, True)
    assert found["backbone.query.weight"] == found["head.weight"] == (1.0, False)
    assert len(found) == len(list(model.parameters()))


def test_rates():
    optimizer = wrapper_of(Model(), layer_decay_rate=0.5).optimizer
    scheduler = EoMTLR(optimizer, head_warmup=4, encoder_warmup=2, end=20)
    head = next(g for g in optimizer.param_groups if not g["encoder"])
    last = next(g for g in optimizer.param_groups if g["encoder"] and g["lr_scale"] == 1)
    first = next(g for g in optimizer.param_groups if g["encoder"] and g["lr_scale"] == 0.25)
    seen = []
    for _ in range(20):
        seen.append((head["lr"], last["lr"], first["lr"]))
        optimizer.step()
        scheduler.step()
    assert [one[0] for one in seen[:5]] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [one[1] for one in seen[:7]] == [0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 1.0]
    assert seen[10][0] == pytest.approx((1 - 6 / 16) ** 0.9) and seen[10][1] == pytest.approx((1 - 4 / 14) ** 0.9)
    assert all(a == pytest.approx(b / 4) for _, b, a in seen)
    assert EoMTLR.factor(scheduler, 20, True) == 0


def test_mistakes():
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0)
    with pytest.raises(ConfigError, match="EoMTLR needs optim_wrapper.constructor"):
        EoMTLR(optimizer, 1, 1, 10)
    with pytest.raises(ConfigError, match="an end, 3 here, after the warm-ups of 2 and 2"):
        EoMTLR(optimizer, 2, 2, 3)
    with pytest.raises(ConfigError, match="needs a ViT as backbone"):
        wrapper_of(nn.Linear(2, 2), layer_decay_rate=0.5)
    with pytest.raises(ConfigError, match="each start before its end"):
        MaskAnnealingHook([5], [5])
    with pytest.raises(ConfigError, match="for 1 blocks and the EoMTEncoder has 2 blocks with queries"):
        MaskAnnealingHook([0], [5]).before_train(SimpleNamespace(model=Model()))


def test_annealing():
    assert [mask_probability(i, 10, 20) for i in (0, 10, 20, 30)] == [1, 1, 0, 0]
    assert mask_probability(15, 10, 20) == pytest.approx(0.5**0.9)
    model, hook = Model(), MaskAnnealingHook([0, 10], [10, 20])
    hook.before_train(SimpleNamespace(model=model))
    hook.before_train_iter(SimpleNamespace(model=model, iter=5), 0)
    assert model.backbone.mask_probs == pytest.approx((0.5**0.9, 1.0))
    fresh = Model()
    fresh.load_state_dict(model.state_dict())  # saved, and read again
    assert fresh.backbone.mask_probs == pytest.approx(model.backbone.mask_probs)
    hook.before_train_iter(SimpleNamespace(model=model, iter=20), 0)
    assert model.backbone.attn_mask_probs.tolist() == [0, 0]
