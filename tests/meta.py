"""Build networks of a published size where they cost nothing."""

from contextlib import contextmanager
from unittest.mock import patch

import torch


@contextmanager
def without_storage():
    """Build modules on the meta device and draw no weights for them, which takes seconds there."""
    with torch.device("meta"), patch.object(torch.nn.init, "trunc_normal_", lambda tensor, **_: tensor):
        yield
