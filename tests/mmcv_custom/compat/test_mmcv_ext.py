"""The substitutes for MMCV's operators equal the compiled ones, and the toolboxes import without the compiled ones."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from mmcv_custom.compat import mmcv_ext

# Regions lie on B = 2 maps of C = 5 channels, 20 x 30 pixels. The code hides a compiled extension.
WITHOUT_EXTENSION = (
    "import sys\n"
    "class Hidden:\n"
    "    def find_spec(name, path=None, target=None):\n"
    "        if name == 'mmcv._ext' and sys.meta_path[-1] is not Hidden:\n"
    "            import mmcv_custom.compat.mmcv_ext as ext\n"
    "            return ext._Finder.find_spec(name)\n"
    "sys.meta_path.insert(0, Hidden)\n"
)


@pytest.fixture(scope="module")
def compiled():
    if importlib.util.find_spec("mmcv._ext").loader is mmcv_ext._Finder:
        pytest.skip("needs a compiled onedl-mmcv to compare with")
    import mmcv._ext

    return mmcv._ext


def boxes(number=200):
    torch.manual_seed(0)
    corner = 80 * torch.rand(number, 2)
    return torch.cat([corner, corner + 40 * torch.rand(number, 2)], dim=1), torch.rand(number)


@pytest.mark.parametrize("offset", [0, 1])
def test_nms_equals_the_compiled_one(compiled, offset):
    found, scores = boxes()
    wanted = compiled.nms(found, scores, iou_threshold=0.4, offset=offset)
    assert torch.equal(mmcv_ext.nms(found, scores, iou_threshold=0.4, offset=offset), wanted)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("method", [0, 1, 2])
def test_soft_nms_equals_the_compiled_one(compiled, method, offset):
    found, scores = boxes()
    dets = [torch.zeros(len(found), 5) for _ in range(2)]
    args = dict(iou_threshold=0.3, sigma=0.5, min_score=0.05, method=method, offset=offset)
    own, wanted = (
        ext.softnms(found.clone(), scores.clone(), out, **args)
        for ext, out in zip((mmcv_ext, compiled), dets, strict=True)
    )
    assert torch.equal(own, wanted) and 0 < len(own) < len(found) + 1
    torch.testing.assert_close(dets[0][: len(own)], dets[1][: len(own)])


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_equals_the_compiled_one_forward_and_backward(compiled, sampling_ratio, aligned):
    corners, _ = boxes(30)
    regions = torch.cat([torch.arange(30.0)[:, None] % 2, corners], dim=1)
    maps, nothing = torch.randn(2, 5, 20, 30), torch.zeros(0)
    args = dict(
        aligned_height=7,
        aligned_width=6,
        spatial_scale=0.25,
        sampling_ratio=sampling_ratio,
        pool_mode=1,
        aligned=aligned,
    )
    out = [torch.zeros(30, 5, 7, 6) for _ in range(2)]
    back = [torch.zeros_like(maps) for _ in range(2)]
    grad = torch.randn_like(out[0])
    for ext, pooled, into in zip((mmcv_ext, compiled), out, back, strict=True):
        ext.roi_align_forward(maps, regions, pooled, nothing, nothing, **args)
        ext.roi_align_backward(grad, regions, nothing, nothing, into, **args)
    assert torch.equal(*out)
    torch.testing.assert_close(*back)
    # MMCV's own kernel reads channels-last maps as if they were contiguous.
    mmcv_ext.roi_align_forward(maps.to(memory_format=torch.channels_last), regions, out[0], nothing, nothing, **args)
    assert torch.equal(*out)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_maps_are_pooled_in_single_precision(dtype, device):
    corners, scores = boxes(30)
    regions = torch.cat([torch.arange(30.0)[:, None] % 2, corners], dim=1).to(device)
    maps, nothing = torch.randn(2, 5, 20, 30, device=device, dtype=dtype), torch.zeros(0)
    args = dict(aligned_height=7, aligned_width=6, spatial_scale=0.25, sampling_ratio=0, pool_mode=1, aligned=True)
    out, wanted = (torch.zeros(30, 5, 7, 6, device=device, dtype=kind) for kind in (dtype, torch.float32))
    mmcv_ext.roi_align_forward(maps, regions, out, nothing, nothing, **args)
    mmcv_ext.roi_align_forward(maps.float(), regions, wanted, nothing, nothing, **args)
    assert torch.equal(out, wanted.to(dtype))
    back = torch.zeros_like(maps)
    mmcv_ext.roi_align_backward(out, regions, nothing, nothing, back, **args)
    assert back.isfinite().all() and back.any()
    kept = mmcv_ext.nms(corners.to(device, dtype), scores.to(device), iou_threshold=0.4, offset=0)
    assert torch.equal(kept, mmcv_ext.nms(corners.to(device, dtype).float(), scores.to(device), 0.4, 0))


def test_the_toolboxes_import_where_mmcv_has_no_operators():
    code = WITHOUT_EXTENSION + (
        "import mmdet_custom, mmseg_custom, mmpretrain_custom, mmcv.ops, torch\n"
        "from mmcv_custom.compat import mmcv_ext\n"
        "import mmcv._ext\n"
        "assert mmcv._ext.nms is mmcv_ext.nms\n"
        "boxes = torch.tensor([[0., 0, 2, 2], [0, 0, 2, 1.9]])\n"
        "print(mmcv.ops.nms(boxes, torch.tensor([1., 2]), 0.5)[1])\n"
        "try: mmcv._ext.carafe_forward()\n"
        "except NotImplementedError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kept, sentence = done.stdout.splitlines()[-2:]
    assert kept == "tensor([1])"
    assert sentence.startswith("carafe_forward needs MMCV's compiled operators, and this onedl-mmcv has none: install")
