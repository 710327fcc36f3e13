"""Engine-level parts: ``custom_imports`` of a config registers them."""

from .checkpoint.load import LoadReport, load_into, read_checkpoint
from .data.loading import LoadImage
from .engine.hooks.cost import CostHook
from .engine.hooks.curriculum import PruningCurriculumHook
from .engine.hooks.seeding import (
    AccelerationHook,
    ProgressBarHook,
    ReduceLogsHook,
    SeedByIterHook,
    WholeStepsHook,
    reduce_log_vars,
)
from .engine.hooks.token_visualization import TokenPicturesHook
from .engine.optim import LayerDecayOptimWrapperConstructor
from .engine.runner import PruningRunner, latest_checkpoint
from .errors import CheckpointError, ConfigError, DataError, UserError
from .inference import Predictor
from .models.multi_stage_vit import PlainViTBackbone

__all__ = [
    "AccelerationHook",
    "CheckpointError",
    "ConfigError",
    "CostHook",
    "DataError",
    "LayerDecayOptimWrapperConstructor",
    "LoadImage",
    "LoadReport",
    "PlainViTBackbone",
    "Predictor",
    "ProgressBarHook",
    "PruningCurriculumHook",
    "PruningRunner",
    "ReduceLogsHook",
    "SeedByIterHook",
    "TokenPicturesHook",
    "UserError",
    "WholeStepsHook",
    "latest_checkpoint",
    "load_into",
    "read_checkpoint",
    "reduce_log_vars",
]
