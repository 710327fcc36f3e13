"""Helper for the wrappers that a Runner puts around models."""

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """Return the model inside the wrappers of distributed training and test-time augmentation.

    The names of its weights carry no prefix of a wrapper.
    """
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model
