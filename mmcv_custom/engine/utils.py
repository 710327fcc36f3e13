"""What a Runner wraps models in."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """The model itself, out of the wrappers of distributed training and of test-time augmentation: the names of its
    weights have neither's prefix."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
