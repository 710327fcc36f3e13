"""Checks of a comparison of several models, which would otherwise find a mistake after its first training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from token_pruning.host import require_host

from ..data.checks import check_datasets
from ..errors import ConfigError
from ..tasks import task_of
from .launch import build_model, read_config

TEACHER = "model.distillation.teacher.checkpoint"


def check_comparison(dense: str, methods: Sequence[str], metric: str | None) -> tuple[str, dict[str, list[int]]]:
    """Build the models of a comparison once and check that their scores can be compared.

    Args:
        dense: config of the dense model.
        methods: configs of the models that are fine-tuned from it.
        metric: name of a score; None for the first of the task.

    Returns:
        The name of the score, and for each config the numbers of its pruned blocks.

    Raises:
        ConfigError: a config cannot be read, trained by epochs or built, does not measure the cost of an evaluation, is
            of another task than the dense model, or does not give the score.
    """
    configs = {path: _config(path) for path in (dense, *methods)}
    task = task_of(configs[dense])
    metric = metric or next(iter(task.metric.scores.values()))
    if configs[dense].model.backbone.get("reducer"):
        raise ConfigError(f"config {dense} is given as the dense model and has a reducer: give the dense one first")
    for path, cfg in configs.items():
        if task_of(cfg) is not task:
            raise ConfigError(
                f"config {path} is of {task_of(cfg).name} and {dense} of {task.name}: compare models of one task"
            )
        _check_run(path, cfg)
        given = given_scores(cfg)
        if given is not None and metric not in given:
            raise ConfigError(
                f"--metric {metric} is not among the scores of {path}: {', '.join(given)}; choose one of them, or set "
                "test_evaluator"
            )
    return metric, {path: _pruned_blocks(path, cfg) for path, cfg in configs.items()}


def check_data(paths: Sequence[str]) -> None:
    """Check the data that the models of a comparison are trained and evaluated on, each set once.

    Raises:
        ConfigError, DataError: see ``check_datasets``.
    """
    seen = []
    for path in paths:
        cfg = _config(path)
        used = [cfg.get(f"{split}_dataloader") for split in ("train", "test")]
        if used not in seen:
            seen.append(used)
            check_datasets(cfg, ("train", "test"))


def given_scores(cfg: Config) -> list[str] | None:
    """Return the names of the scores of the config's test evaluators; None if one of them is not known."""
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
    names = [task_of(cfg).metric.names(evaluator) for evaluator in evaluators]
    return None if None in names else list(dict.fromkeys(name for some in names for name in some))


def _config(path: str) -> Config:
    cfg = read_config(path)
    if (cfg.model.get("distillation") or {}).get("teacher"):
        # The comparison trains the teacher, so its config may name none.
        cfg.merge_from_dict({TEACHER: "the dense model"})
    return cfg


def _check_run(path: str, cfg: Config) -> None:
    for name in ("train_dataloader", "train_cfg", "test_dataloader", "test_evaluator"):
        if not cfg.get(name):
            raise ConfigError(f"config {path} has no {name}: a comparison trains and evaluates every model")
    if not cfg.train_cfg.get("max_epochs"):
        raise ConfigError(
            f"{path} trains by iterations: a comparison counts epochs, so give a config with train_cfg.max_epochs"
        )
    if not any("CostHook" in str(hook.get("type")) for hook in cfg.get("custom_hooks") or []):
        raise ConfigError(
            f"config {path} has no CostHook in custom_hooks, which measures the GMACs: add dict(type='CostHook')"
        )


def _pruned_blocks(path: str, cfg: Config) -> list[int]:
    try:
        backbone = require_host(build_model(cfg, None), "a comparison of methods")
    except ConfigError as error:
        raise ConfigError(f"{Path(path).name}: {error}") from error
    return backbone.reducer.pruned_blocks if backbone.reducer else []
