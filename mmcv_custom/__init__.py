"""Engine-level parts: ``custom_imports`` of a config registers them."""

from . import compat  # noqa: F401  before anything imports mmcv.ops or mmpretrain
from .checkpoint import LoadReport, load_into, read_checkpoint
from .cost import CostHook
from .curriculum import PruningCurriculumHook
from .errors import CheckpointError, ConfigError, DataError, UserError
from .hooks import AccelerationHook, ProgressBarHook, ReduceLogsHook, SeedByIterHook, WholeStepsHook, reduce_log_vars
from .layer_decay import LayerDecayOptimWrapperConstructor
from .plain_vit import PlainViTBackbone
from .predict import Predictor
from .runner import PruningRunner, latest_checkpoint
from .token_pictures import TokenPicturesHook
from .transforms import LoadImage

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
