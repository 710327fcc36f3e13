"""Parts that all tasks share; a config registers them through ``custom_imports``.

The compiled operators and the packages ``inference``, ``benchmark`` and ``calibration`` are loaded on first use only.
"""

from . import compat  # noqa: F401  before anything imports mmcv.ops or mmpretrain
from .checkpoint.io import read_checkpoint
from .checkpoint.load import LoadReport, load_into
from .data.collate import default_collate
from .data.loading import LoadImageFromFile
from .data.visible_files import VisibleFiles
from .engine.acceleration import AccelerationHook
from .engine.eomt_optim import EoMTLR, EoMTOptimWrapperConstructor
from .engine.hooks.accumulation import WholeStepsHook
from .engine.hooks.cost import CostHook
from .engine.hooks.curriculum import PruningCurriculumHook
from .engine.hooks.drawing_names import DrawingNamesHook
from .engine.hooks.guards import FiniteLossHook, ScoreNamesHook
from .engine.hooks.logging import ProgressBarHook, ReduceLogsHook, reduce_log_vars
from .engine.hooks.mask_annealing import MaskAnnealingHook
from .engine.hooks.seeding import SeedByIterHook
from .engine.hooks.token_visualization import TokenVisualizationHook
from .engine.optim import LayerDecayOptimWrapperConstructor
from .engine.runner import PruningRunner, latest_checkpoint
from .errors import CheckpointError, ConfigError, DataError, UserError
from .models.eomt import EoMTEncoder
from .models.multi_stage_vit import PlainViTBackbone

__all__ = [
    "AccelerationHook",
    "CheckpointError",
    "ConfigError",
    "CostHook",
    "DataError",
    "DrawingNamesHook",
    "EoMTEncoder",
    "EoMTLR",
    "EoMTOptimWrapperConstructor",
    "FiniteLossHook",
    "LayerDecayOptimWrapperConstructor",
    "LoadImageFromFile",
    "LoadReport",
    "MaskAnnealingHook",
    "PlainViTBackbone",
    "Predictor",
    "ProgressBarHook",
    "PruningCurriculumHook",
    "PruningRunner",
    "ReduceLogsHook",
    "ScoreNamesHook",
    "SeedByIterHook",
    "TokenVisualizationHook",
    "UserError",
    "VisibleFiles",
    "WholeStepsHook",
    "default_collate",
    "latest_checkpoint",
    "load_into",
    "read_checkpoint",
    "reduce_log_vars",
]


def __getattr__(name: str) -> object:
    if name == "Predictor":
        from .inference import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
