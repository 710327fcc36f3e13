"""Checks for mistakes in a config that would otherwise be ignored silently."""

from __future__ import annotations

import difflib
import inspect
import io
import tokenize
from collections.abc import Iterable, Iterator
from functools import reduce

from mmengine.config import Config
from mmengine.runner import Runner

from ..errors import ConfigError

# Read by MMEngine's Runner: its arguments, and keys that it reads from the config itself.
_RUNNER = set(inspect.signature(Runner.__init__).parameters) - {"self", "cfg"} | {
    "activation_checkpointing", "averaged_weights", "compile", "efficient_conv_bn_eval", "find_unused_parameters",
    "model_wrapper_cfg", "runner_type", "sync_bn",
}  # fmt: skip
# Used while the config file is read, or by other tools of the toolboxes.
_TOOLS = {"custom_imports", "tta_model", "tta_pipeline", "_base_"}
# Intermediate names of the toolboxes' base configs, unused when a derived config replaces what used them.
_INTERMEDIATE = {
    "albu_train_transforms", "backbone_norm_cfg", "backend_args", "batch_size", "bgr_mean", "bgr_std", "checkpoint",
    "checkpoint_file", "classes", "color_space", "crop_size", "data_preprocessor", "data_root", "dataset_type",
    "embed_dims", "image_size", "img_norm_cfg", "img_ratios", "img_scale", "input_size", "max_epochs", "max_iters",
    "metainfo", "norm_cfg", "num_classes", "num_workers", "policies", "rand_increasing_policies", "scale",
    "test_pipeline", "train_pipeline", "val_pipeline", "vis_backends", "warmup_epochs",
}  # fmt: skip
READ = _RUNNER | _TOOLS
UNSET = object()  # no value, where None may be one
_KNOWN = READ | _INTERMEDIATE
# Where the configs of the toolboxes use a name under another one.
_USED_AS = {
    "train_pipeline": ["train_dataloader.dataset.pipeline"],
    "val_pipeline": ["val_dataloader.dataset.pipeline"],
    "test_pipeline": ["val_dataloader.dataset.pipeline", "test_dataloader.dataset.pipeline"],
}
# Names of OpenMMLab 1.x and of the published configs, with their replacement here.
_REPLACED = {
    "change_key_name": "published weights are converted when they are loaded, delete it",
    "checkpoint_config": "it is default_hooks.checkpoint now",
    "cudnn_benchmark": "it is env_cfg.cudnn_benchmark now",
    "data": "it is train_dataloader, val_dataloader and test_dataloader now",
    "dist_params": "it is env_cfg.dist_cfg now",
    "evaluation": "it is val_evaluator and train_cfg.val_interval now",
    "exp_name": "it is experiment_name now",
    "fp16": "it is optim_wrapper.type='AmpOptimWrapper' now (or --amp)",
    "log_config": "it is default_hooks.logger and visualizer now",
    "lr_config": "it is param_scheduler now",
    "optimizer": "it is optim_wrapper.optimizer now",
    "optimizer_cfg": "it is optim_wrapper.optimizer now",
    "optimizer_config": "it is optim_wrapper now",
    "resume_from": "it is load_from with resume=True now (or --resume CHECKPOINT)",
    "runner": "it is train_cfg now",
    "total_epochs": "it is train_cfg.max_epochs now",
    "workflow": "it is train_cfg and val_cfg now",
}


def unread_keys(cfg: Config) -> list[str]:
    """Return a sentence, with a suggestion, for each top-level name of ``cfg`` that nothing reads.

    A name counts as read when the Runner or the tools read it, when it begins with ``_``, when the config files use it
    in another value (``scale=image_size``), or when the toolboxes' base configs define it.
    """
    used = names_used(cfg.text)
    sentences = []
    for key in cfg:
        if key in _REPLACED and key not in used:
            meant = _REPLACED[key]
        elif key in _KNOWN or key in used or key.startswith("_"):
            continue
        else:
            close = difflib.get_close_matches(key, sorted(_RUNNER), n=1, cutoff=0.6)
            meant = f"did you mean {close[0]}?" if close else "delete it, or begin its name with _ to keep it as a note"
        sentences.append(f"config key {key} is read by nothing: {meant}")
    return sentences


def check_config(cfg: Config) -> None:
    """Raise ConfigError if ``cfg`` has a top-level key that nothing reads (see ``unread_keys``)."""
    sentences = unread_keys(cfg)
    if sentences:
        raise ConfigError("; ".join(sentences))


def check_options(cfg: Config, options: Iterable[str], passed_on: Iterable[str] = ()) -> None:
    """Raise ConfigError if a command-line option sets a name that is only used while the file is read.

    ``image_size=X`` would change nothing: the file has already copied the old value to where it is used.

    Args:
        cfg: the config as the file defines it, before the options are set.
        options: dotted names.
        passed_on: top-level names that are passed on to where they are used (``inherited_names``).
    """
    for name in options:
        top, _, rest = name.partition(".")
        # A name that neither the file nor anything else knows is refused by `check_config` later.
        if top not in READ and top not in passed_on and (top in cfg or top in _KNOWN):
            places = [f"{place}.{rest}" if rest else place for place in places_of(cfg, top, cfg.get(top, UNSET))]
            # Or only that part of it was used.
            places = places or list(_places(_below_top(cfg), _value(cfg, name)))
            where = f" Set {' and '.join(places[:3])} instead" if places else " Set the value where it is used"
            raise ConfigError(f"--cfg-options {name}=... changes nothing: it only names a value in the file.{where}")


def places_of(cfg: Config, name: str, value: object) -> list[str]:
    """Return the dotted names of what a config builds with a top-level ``name`` of its files.

    These are what equals the ``value`` of the name, or else what is called by its name.
    """
    nodes = _below_top(cfg)
    return (
        list(_places(nodes, value))
        or [path for path in _USED_AS.get(name, ()) if _value(cfg, path) is not UNSET]
        or [path for path, _ in _walk(nodes) if path.rpartition(".")[2] == name]
    )


def is_in_effect(cfg: Config, name: str) -> bool:
    """Return whether something that ``cfg`` builds has the value of its top-level ``name`` under that very name."""
    return any(path.rpartition(".")[2] == name and value == cfg[name] for path, value in _walk(_below_top(cfg)))


def _places(nodes: dict, value: object) -> Iterator[str]:
    """Iterate over the dotted names of values in ``nodes``, below its top level, that equal ``value``."""
    for path, inner in _walk(nodes):
        if "." in path and type(inner) is type(value) and inner == value:
            yield path


def _walk(node: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Iterate over the dotted names and values in ``node``, each before what is in it."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, inner in items:
        here = f"{path}.{key}" if path else str(key)
        yield here, inner
        yield from _walk(inner, here)


def _below_top(cfg: Config) -> dict:
    """Return what is built from ``cfg``: its values without those of intermediate names."""
    return {key: value for key, value in cfg.items() if key in READ}


def item(node: object, key: str) -> object:
    """Return what a config or a part of one holds under one part of a dotted name, or ``UNSET``."""
    if isinstance(node, (list, tuple)):
        return node[int(key)] if key.isdigit() and int(key) < len(node) else UNSET
    return node.get(key, UNSET) if isinstance(node, (dict, Config)) else UNSET


def _value(cfg: Config, name: str) -> object:
    return reduce(item, name.split("."), cfg)


def check_batch_size(cfg: Config, world_size: int = 1) -> str | None:
    """Return a sentence if the total batch is not the one that the learning rate was chosen for, else None.

    The recipe's total is ``auto_scale_lr.base_batch_size``; the run's is batch x processes x accumulated steps.
    """
    recipe = cfg.get("auto_scale_lr") or {}
    batch = (cfg.get("train_dataloader") or {}).get("batch_size")
    base = recipe.get("base_batch_size")
    steps = (cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
    if not batch or not base or recipe.get("enable") or batch * world_size * steps == base:
        return None
    parts = f"{batch} x {world_size} process" + "es" * (world_size != 1) + (f" x {steps} steps" if steps > 1 else "")
    per_process = base // (world_size * steps)
    exact = per_process * world_size * steps == base
    other = f" or train_dataloader.batch_size={per_process}" if exact else ""
    return f"total batch is {batch * world_size * steps} = {parts}, the recipe's is {base}: use --auto-scale-lr{other}"


def names_used(text: str | None) -> set[str]:
    """Return the names that the source of a config and its bases (``Config.text``) uses, not only assigns."""
    # The text has the path of each file on a line of its own before the file.
    lines = [line for line in (text or "").splitlines() if not line.endswith(".py")]
    try:
        tokens = [
            t
            for t in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline)
            if t.type not in (tokenize.COMMENT, tokenize.NL)
        ]
    except (tokenize.TokenError, IndentationError):
        return set()
    return {
        name.string
        for name, after in zip(tokens, tokens[1:], strict=False)
        if name.type == tokenize.NAME and after.string != "="
    }
