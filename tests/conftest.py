"""Seed every test, and skip tests marked `cuda` where there is no CUDA device."""

import gc
import random

import numpy as np
import pytest
import torch
import yapf.yapflib.yapf_api

import mmcv_custom  # noqa: F401  before any toolbox, see mmcv_custom.compat

# MMEngine formats a config whenever it writes one, half a second each, and nobody reads those of tests.
yapf.yapflib.yapf_api.FormatCode = lambda text, **_: (text, True)


@pytest.fixture(autouse=True)
def seeded():
    """Give every test the same random numbers, whichever tests run before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


def pytest_collection_finish():
    # What is loaded by now stays. MMEngine collects garbage for every data set that it builds: a second each otherwise.
    gc.freeze()


def pytest_collection_modifyitems(items):
    # Whole runs of tools first: side by side with the rest, they must not be what is left at the end.
    items.sort(key=lambda item: not item.path.stem.endswith("_runs"))
    cuda_items = [item for item in items if item.get_closest_marker("cuda")]
    if not cuda_items:
        return
    if not torch.cuda.is_available():
        for item in cuda_items:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch.cuda.is_available() is false"))
