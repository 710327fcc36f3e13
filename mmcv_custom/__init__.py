"""Engine-level parts: ``custom_imports`` of a config registers them."""

from .checkpoint import LoadReport, load_into, read_checkpoint
from .cost import CostHook
from .curriculum import PruningCurriculumHook
from .errors import CheckpointError, ConfigError, DataError, UserError
from .hooks import AccelerationHook, ProgressBarHook, ReduceLogsHook, SeedByIterHook, reduce_log_vars
from .layer_decay import LayerDecayOptimWrapperConstructor
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
    "Predictor",
    "ProgressBarHook",
    "PruningCurriculumHook",
    "PruningRunner",
    "ReduceLogsHook",
    "SeedByIterHook",
    "TokenPicturesHook",
    "UserError",
    "latest_checkpoint",
    "load_into",
    "read_checkpoint",
    "reduce_log_vars",
]
