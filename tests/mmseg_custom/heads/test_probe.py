"""The linear probe."""

import torch

from mmseg_custom import ProbeHead


def test_features_of_any_scale_are_normalised_and_dropped_in_training_only():
    torch.manual_seed(0)
    head = ProbeHead(in_channels=8, num_classes=3, loss_decode=dict(type="CrossEntropyLoss"))
    maps = [torch.randn(4, 8, 6, 5)]
    head.train()
    for _ in range(200):
        head(maps)
        head([m * 1000 for m in maps])
    assert not torch.equal(head(maps), head(maps))
    head.dropout.p = 0.0
    torch.testing.assert_close(head(maps), head([m * 1000 for m in maps]), atol=1e-4, rtol=1e-3)
    head.eval()
    assert torch.equal(head(maps), head(maps)) and head(maps).shape == (4, 3, 6, 5)
