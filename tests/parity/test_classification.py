"""Distillation losses against the recorded numbers of the published classification code."""

import pytest
import torch
import torch.nn.functional as F
from fixture_files import close, of_kind

from mmpretrain_custom.distillation import DeiTDistillation


@pytest.mark.parametrize("recorded", of_kind("distill_loss"))
def test_distillation(recorded):
    base = F.cross_entropy(recorded["logits"], recorded["labels"])
    kinds = set()
    for case in recorded["cases"]:
        kinds.add(case["type"])
        if case["type"] == "none":
            loss = base
        else:
            distillation = DeiTDistillation(dict(checkpoint="none"), case["type"], case["alpha"], case["tau"])
            distillation.teacher = lambda images, classes: recorded["teacher_logits"]
            loss = sum(distillation.losses(base, recorded["logits_dist"], images=None).values())
        close(loss, torch.tensor(case["loss"]))
    assert kinds == {"none", "soft", "hard"}
