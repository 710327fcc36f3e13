"""MMEngine's Runner with safe loading, atomic saving, and support for machines without an accelerator."""

import glob
import os
import shutil

import torch
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_distributed, is_main_process, master_only
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import HOOKS, RUNNERS
from mmengine.runner import Runner

from ..checkpoint.io import read_checkpoint
from ..checkpoint.load import load_into
from ..errors import CheckpointError, ConfigError, DataError, building_from_config
from ..files import write_file
from . import whole_files  # noqa: F401  replaces MMEngine's writers of files
from .distributed import init_gloo, read_slurm
from .hooks.guards import weights_are_finite
from .terminal import quieten
from .utils import unwrap_model

_OF_MMENGINE = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")


def latest_checkpoint(work_dir: str) -> str | None:
    """Return the checkpoint to resume from in ``work_dir``, or None.

    The file ``last_checkpoint`` names it. Where that file is empty or names a file that does not exist (the run was
    killed while writing it, the folder was moved), take the newest epoch or iteration file: those are written whole or
    not at all.
    """
    try:
        with open(os.path.join(work_dir, "last_checkpoint")) as f:
            named = f.read().strip()
    except FileNotFoundError:
        named = ""
    for path in (named, os.path.join(work_dir, os.path.basename(named))):
        if named and os.path.isfile(path):
            return path
    found = [p for kind in ("epoch", "iter") for p in glob.glob(os.path.join(work_dir, f"{kind}_*.pth"))]
    return max(found, key=os.path.getmtime, default=None)


@RUNNERS.register_module()
class PruningRunner(Runner):
    """MMEngine's Runner with differences in how a run starts, ends and resumes after a kill.

    - Checkpoints are read as data only and loaded by ``load_into``: published key schemas are converted, the result is
      reported, and a checkpoint of another model is refused. A resumed run must match tensor by tensor.
    - Files are written under a temporary name and moved into place; older checkpoints are deleted afterwards.
    - Resuming also restores the seed that the training data are shuffled with.
    - On a machine without an accelerator, processes communicate through gloo, SyncBN runs as BN and AMP as float32;
      SyncBN and AMP are logged in one sentence each.
    - Loops, data sets, optimizer and schedules that cannot be built from the config raise ConfigError, and a data
      loader without a single batch raises DataError.
    - A training ends with a sentence if its loss stays NaN or a score that hooks wait for does not exist.
    - Config, environment and hooks go to the log file only.
    """

    _strict_loading = False

    def build_logger(self, *args, **kwargs):
        """Return MMEngine's logger; the terminal shows what people read, and where the rest is."""
        logger = super().build_logger(*args, **kwargs)
        file = quieten(logger)
        if file:
            logger.info(f"config, environment and all messages: {os.path.relpath(file)}")
        return logger

    def load_checkpoint(self, filename, map_location="cpu", strict=False, revise_keys=None):
        """Load weights into the model and return the content of the file.

        ``revise_keys`` is ignored: names are converted by schema. Of raw and averaged weights side by side, the
        averaged ones are taken, unless the config has ``averaged_weights=False``.
        """
        checkpoint = read_checkpoint(filename, map_location)
        resuming = self._strict_loading
        if resuming:
            _check_resumable(filename, checkpoint)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        load_into(
            unwrap_model(self.model),
            checkpoint,
            logger=self.logger,
            strict=strict or resuming,
            source=str(filename),
            averaged=resuming or self.cfg.get("averaged_weights", True),
        )
        self._has_loaded = True
        return checkpoint

    def resume(self, filename, resume_optimizer=True, resume_param_scheduler=True, map_location="default"):
        """Continue the run that wrote ``filename``, whose tensors must all match the model's."""
        self._strict_loading = True
        try:
            super().resume(filename, resume_optimizer, resume_param_scheduler, map_location)
        finally:
            self._strict_loading = False
        # MMEngine restores its seed too late for the sampler, which was built before the file was read.
        loader = self.train_dataloader
        for sampler in (loader.sampler, getattr(loader.batch_sampler, "sampler", None)):
            if getattr(sampler, "seed", None) is not None and not self._randomness_cfg.get("diff_rank_seed"):
                sampler.seed = self.seed

    def load_or_resume(self):
        """Load or resume once, as configured; a resume without a file takes the latest of the work dir."""
        if not self._has_loaded and self._resume and self._load_from is None:
            self._load_from = latest_checkpoint(self.work_dir)
        super().load_or_resume()

    @master_only
    def dump_config(self):
        """Write the config to the work dir as MMEngine does, whole or not at all."""
        name = os.path.basename(self.cfg.filename) if self.cfg.filename else f"{self.timestamp}.py"
        write_file(os.path.join(self.work_dir, name), self.cfg.pretty_text)

    def register_default_hooks(self, hooks=None):
        """Register MMEngine's default hooks, those of this package and the checkpoint hook that deletes old files last.

        Setting one of them to None (``default_hooks.finite_loss=None``) switches it off.
        """
        own = dict(whole_steps="WholeStepsHook", finite_loss="FiniteLossHook", score_names="ScoreNamesHook")
        hooks = {**{name: dict(type=kind) for name, kind in own.items()}, **(hooks or {})}
        saver = hooks.setdefault("checkpoint", dict(type="CheckpointHook", interval=1))
        if isinstance(saver, dict) and saver.get("type") == "CheckpointHook":
            hooks["checkpoint"] = dict(saver, type="KeepingCheckpointHook")
        # MMEngine takes None for its own hooks only.
        hooks = {name: hook for name, hook in hooks.items() if hook is not None or name in _OF_MMENGINE}
        super().register_default_hooks(hooks)

    # --- machines without an accelerator

    def setup_env(self, env_cfg):
        """Set up the environment as MMEngine does, with gloo where there is no accelerator."""
        if self.distributed and not is_distributed():
            options = env_cfg.get("dist_cfg") or {}
            if self.launcher == "slurm":
                read_slurm(options.get("port"))
            if get_device() == "cpu":
                if self.launcher not in ("pytorch", "slurm"):
                    raise ConfigError(f"--launcher {self.launcher} needs GPUs: on CPU use --launcher pytorch or slurm")
                init_gloo(options)
        super().setup_env(env_cfg)

    def wrap_model(self, model_wrapper_cfg, model):
        """Wrap the model as MMEngine does, with CPU versions of DDP and SyncBN where there is no accelerator."""
        if self.distributed and get_device() == "cpu" and not is_model_wrapper(model):
            if self.cfg.pop("sync_bn", None) or any(isinstance(m, torch.nn.SyncBatchNorm) for m in model.modules()):
                self.logger.warning("No GPU: SyncBN trains as BatchNorm, each process with its own statistics.")
                model = revert_sync_batchnorm(model)
            defaults = dict(
                type="MMDistributedDataParallel",
                broadcast_buffers=False,
                find_unused_parameters=self.cfg.get("find_unused_parameters", False),
            )
            model_wrapper_cfg = dict(defaults, **(model_wrapper_cfg or {}), device_ids=None)
        return super().wrap_model(model_wrapper_cfg, model)

    # --- what is built from the config after the constructor: mistakes in it end a run with one sentence

    def build_train_loop(self, loop):
        """Build the training loop and its data set, as MMEngine does."""
        with building_from_config():
            built = super().build_train_loop(loop)
        return _with_batches(built, "train_dataloader")

    def build_val_loop(self, loop):
        """Build the validation loop, its data set and evaluator, as MMEngine does."""
        with building_from_config():
            built = super().build_val_loop(loop)
        return _with_batches(built, "val_dataloader")

    def build_test_loop(self, loop):
        """Build the test loop, its data set and evaluator, as MMEngine does."""
        with building_from_config():
            built = super().build_test_loop(loop)
        return _with_batches(built, "test_dataloader")

    def build_param_scheduler(self, scheduler):
        """Build the schedules of learning rate and momentum, as MMEngine does."""
        try:
            with building_from_config():
                return super().build_param_scheduler(scheduler)
        except ConfigError as error:
            if "larger than begin" not in str(error):
                raise
            raise ConfigError(
                "a schedule of param_scheduler begins when the training has ended: train longer, or set its begin and "
                "end (to leave all schedules out: param_scheduler=None)"
            ) from error

    def build_optim_wrapper(self, optim_wrapper):
        """Build the optimizer as MMEngine does, with mixed precision off where it is not available."""
        if isinstance(optim_wrapper, dict) and optim_wrapper.get("type") == "AmpOptimWrapper" and get_device() == "cpu":
            self.logger.warning("No GPU: mixed precision is off, training runs in float32.")
            dropped = ("type", "loss_scale", "dtype", "use_fsdp")
            optim_wrapper = dict({k: v for k, v in optim_wrapper.items() if k not in dropped}, type="OptimWrapper")
        with building_from_config():
            return super().build_optim_wrapper(optim_wrapper)


@HOOKS.register_module()
class KeepingCheckpointHook(CheckpointHook):
    """MMEngine's CheckpointHook, but the oldest file is deleted after the newest is written, not before.

    With ``max_keep_ckpts=1`` a kill during saving would otherwise leave no checkpoint at all. Weights that are not
    finite are not saved: they would push out the good ones.
    """

    def _save_checkpoint_with_step(self, runner, step, meta):
        if not weights_are_finite(runner.model):
            runner.logger.warning(f"No checkpoint is written at {step}: weights of the model are not finite.")
            return
        with _DeletingLast(self), _PointerElsewhere(runner) as substitute:
            super()._save_checkpoint_with_step(substitute, step, meta)

    def _save_best_checkpoint(self, runner, metrics):
        # An evaluation without a single detection has no scores; ScoreNamesHook refuses names that never come.
        missing = [n for n in getattr(self, "key_indicators", ()) if n != "auto" and n not in metrics]
        if missing:
            runner.logger.warning(f"No best checkpoint is chosen: this evaluation gave no {', '.join(missing)} score.")
            return
        with _DeletingLast(self):
            super()._save_best_checkpoint(runner, metrics)


class _DeletingLast:
    """Substitute for a hook's file backend during a save, which postpones removals until the save has succeeded."""

    def __init__(self, hook):
        self.hook, self.backend, self.paths = hook, hook.file_backend, []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def remove(self, path):
        self.paths.append(path)

    def __enter__(self):
        self.hook.file_backend = self

    def __exit__(self, failed, *_):
        self.hook.file_backend = self.backend
        best = getattr(self.hook, "best_ckpt_path_dict", {}) or {}
        current = {self.hook.last_ckpt, getattr(self.hook, "best_ckpt_path", None), *best.values()}
        for path in () if failed else self.paths:
            if path not in current:
                self.backend.remove(path)


class _PointerElsewhere:
    """Substitute for the Runner during a save: ``last_checkpoint`` is written elsewhere and moved into place."""

    def __init__(self, runner):
        self.runner, self.work_dir = runner, os.path.join(runner.work_dir, ".part-last_checkpoint")

    def __getattr__(self, name):
        return getattr(self.runner, name)

    def __enter__(self):
        if is_main_process():
            os.makedirs(self.work_dir, exist_ok=True)
        return self

    def __exit__(self, failed, *_):
        if is_main_process():
            if not failed:
                pointer = "last_checkpoint"
                os.replace(os.path.join(self.work_dir, pointer), os.path.join(self.runner.work_dir, pointer))
            shutil.rmtree(self.work_dir, ignore_errors=True)


def _with_batches(loop, name):
    """Return ``loop``, or raise DataError if its data loader ends before the first batch."""
    loader = loop.dataloader
    samplers = (loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None))
    if not any("Infinite" in type(sampler).__name__ for sampler in samplers) and len(loader) == 0:
        size = getattr(loader.batch_sampler, "batch_size", loader.batch_size)
        raise DataError(
            f"{name} gives no batch: the {len(loader.dataset)} samples of its data set, divided among "
            f"{get_world_size()} processes, are less than one batch of {size} each; lower {name}.batch_size, or set "
            f"{name}.drop_last=False if there are samples at all"
        )
    return loop


def _check_resumable(filename, checkpoint):
    meta = checkpoint.get("meta") if isinstance(checkpoint, dict) else None
    if (
        not isinstance(meta, dict)
        or not {"epoch", "iter"} <= set(meta)
        or not {"optimizer", "message_hub"} <= set(checkpoint)
    ):
        raise CheckpointError(
            f"{filename} holds weights only (no optimizer state, no epoch): use --load-from instead of --resume"
        )
    # MMEngine would run this text as a Python config; none of its own files holds it.
    meta.pop("config", None)
