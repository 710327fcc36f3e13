"""Skips tests marked `cuda` where there is no CUDA device, and says so in the summary."""

import pytest

import mmcv_custom  # noqa: F401  before any toolbox, see mmcv_custom.compat


def pytest_collection_modifyitems(items):
    cuda_items = [item for item in items if item.get_closest_marker("cuda")]
    if not cuda_items:
        return
    import torch  # only here: a run without cuda tests need not pay for the import

    if not torch.cuda.is_available():
        for item in cuda_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch.cuda.is_available() is false"))
