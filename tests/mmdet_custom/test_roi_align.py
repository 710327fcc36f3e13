import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

from mmdet_custom import roi_align


def test_mmcv_gets_contiguous_maps_whatever_the_layout(monkeypatch):
    given, forward = [], roi_align._forward
    monkeypatch.setattr(
        roi_align, "_forward", lambda module, maps, rois: given.append(maps) or forward(module, maps, rois)
    )
    maps, regions = torch.randn(2, 5, 20, 30), torch.tensor([[0.0, 10, 20, 60, 70], [1, 0, 0, 100, 40]])
    extractor = SingleRoIExtractor(dict(type="RoIAlign", output_size=7, sampling_ratio=0), 5, [4])
    wanted = extractor([maps], regions)
    assert torch.equal(extractor([maps.contiguous(memory_format=torch.channels_last)], regions), wanted)
    assert len(given) == 2 and all(m.is_contiguous() for m in given)


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_does_not_move_regions(kind):
    x = torch.linspace(0, 1, 300).expand(2, 5, 20, 300)  # says where it was read
    regions = torch.tensor([[0.0, 1031, 20, 1043, 70], [1, 1027, 0, 1033, 40]])  # 1032, 1040, 1024, 1032 in bfloat16
    extractor = SingleRoIExtractor(dict(type="RoIAlign", output_size=7, sampling_ratio=0), 5, [4])
    found = extractor([x.to(kind)], regions)
    assert found.dtype == kind
    torch.testing.assert_close(found.float(), extractor([x.to(kind).float()], regions), rtol=2**-8, atol=0)
