"""Hosts are found by one protocol, and methods are patched on instances in one way."""

import pytest
import timm
import torch
from torch import nn

import token_pruning
from token_pruning import PlainViT, find_host, require_host
from token_pruning.patching import is_patched, patch_method, patched_method

TINY = dict(img_size=32, embed_dim=24, depth=2, num_heads=3)


class Detector(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone


def test_a_host_is_found_as_a_backbone_or_by_itself():
    vit = PlainViT(**TINY)
    assert find_host(vit) is vit and find_host(Detector(vit)) is vit
    model = timm.create_model("vit_tiny_patch16_224", **TINY)
    assert find_host(model) is None
    assert find_host(token_pruning.apply(model, None)) is model
    assert find_host(token_pruning.remove(model)) is None
    assert find_host(None) is None
    assert find_host(nn.Sequential(nn.Linear(2, 2), Detector(vit))) is vit  # somewhere inside


def test_a_model_without_a_host_is_one_sentence():
    with pytest.raises(token_pruning.SettingError, match="--compile needs a ViT .*, and Detector has Linear"):
        require_host(Detector(nn.Linear(2, 2)), "--compile")
    with pytest.raises(token_pruning.SettingError, match="and Linear is none"):
        require_host(nn.Linear(2, 2), "--compile")


def test_a_patched_method_is_restored_also_after_an_error():
    module = nn.Identity()
    with patched_method(module, "forward", lambda x: x + 1) as previous:
        assert module(torch.zeros(())) == 1 and previous(torch.zeros(())) == 0 and is_patched(module, "forward")
    with pytest.raises(RuntimeError), patched_method(module, "forward", lambda x: x + 1):
        raise RuntimeError
    assert not is_patched(module, "forward") and module(torch.zeros(())) == 0


def test_a_patch_can_be_lifted_for_a_while():
    module = nn.Identity()
    patch_method(module, "forward", lambda x: x + 1)
    with patched_method(module, "forward", None):
        assert module(torch.zeros(())) == 0 and not is_patched(module, "forward")
    assert module(torch.zeros(())) == 1
    patch_method(module, "forward", None)
    assert module(torch.zeros(())) == 0
