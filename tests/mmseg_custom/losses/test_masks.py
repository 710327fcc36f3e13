"""The one-pass mask losses and their gradients equal those computed by the formulas."""

import pytest
import torch
import torch.nn.functional as F

from mmseg_custom.losses import mask_losses, masks


def written_out(logits, labels, image, wanted, ignore):
    p = logits.sigmoid()
    t = (labels[image] == wanted[:, None, None]).to(p.dtype)
    valid = torch.ones_like(p) if ignore is None else (labels[image] != ignore).to(p.dtype)
    focal = F.binary_cross_entropy_with_logits(logits, t, reduction="none") * (t * (1 - p) ** 2 + (1 - t) * p**2)
    focal = (focal * (0.25 * t + 0.75 * (1 - t)) * valid).sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)
    p = p * valid
    return focal, 1 - (2 * (p * t).sum((1, 2)) + 1) / (p.sum((1, 2)) + t.sum((1, 2)) + 1)


def a_case(dtype=torch.float64, scale=3.0):
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 5, 7))
    labels[0, :2], labels[1] = 255, 255  # the second image has only ignored pixels
    image, wanted = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 2, 3, 1])
    return (scale * torch.randn(4, 5, 7, dtype=dtype)).requires_grad_(), labels, image, wanted


@pytest.mark.parametrize("block", [1, 80, 2**20])
@pytest.mark.parametrize("ignore", [None, 255])
def test_values_and_gradients(ignore, block, monkeypatch):
    monkeypatch.setitem(masks.BLOCK, "cpu", block)
    logits, *rest = a_case()
    found, wanted = mask_losses(logits, *rest, ignore), written_out(logits, *rest, ignore)
    factors = torch.randn(2, 4, dtype=torch.float64)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)
    gradients = [torch.autograd.grad((factors * torch.stack(terms)).sum(), logits)[0] for terms in (found, wanted)]
    torch.testing.assert_close(*gradients)


def test_large_logits_stay_finite():
    logits, *rest = a_case(torch.float32, scale=200.0)
    focal, dice = mask_losses(logits, *rest)
    (focal + dice).sum().backward()
    assert focal.isfinite().all() and dice.isfinite().all() and logits.grad.isfinite().all()


def test_no_masks():
    logits = torch.zeros(0, 5, 7, requires_grad=True)
    none = torch.zeros(0, dtype=torch.int64)
    focal, dice = mask_losses(logits, torch.zeros(2, 5, 7, dtype=torch.int64), none, none)
    assert focal.shape == dice.shape == (0,)
