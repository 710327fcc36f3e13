"""Parts that the tools and demos share: options, reading the config, building, and how a mistake ends a program."""

from __future__ import annotations

import argparse
import copy
import gc
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.registry import MODELS, RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import nn

from token_pruning.errors import SettingError

from ..checkpoint.load import load_into
from ..data.checks import check_datasets
from ..engine.acceleration import keep_memory
from ..errors import ConfigError, UserError, building_from_config
from ..shipped import config_stem
from . import option_values
from .closed_pipe import ending_with_the_reader
from .config_check import UNSET, check_config, check_options, item
from .config_file import read_file
from .failures import dead_worker, end_together, full_disk, lost_process, quieten_consequences, settled
from .inherited_names import PASSED_ON, pass_on_option
from .option_values import holds_a_dict


class _CfgOptions(DictAction):
    """MMEngine's ``key=value`` parser, which also reads dicts and ends the program on a malformed option."""

    def __call__(self, parser, namespace, values, option_string=None):
        found = dict(getattr(namespace, self.dest, None) or {})
        for option in values:
            name, _, text = option.partition("=")
            if not name or "=" not in option:
                parser.error(f"--cfg-options {option}: write key=value, e.g. train_dataloader.batch_size=2")
            try:
                found[name] = option_values.parse(text) if holds_a_dict(text) else self._parse_iterable(text)
            except (ValueError, AssertionError) as error:
                parser.error(
                    f"--cfg-options {option}: {error}; write for example \"{name}={{'type': 'Name', 'x': 1}}\""
                )
        setattr(namespace, self.dest, found)


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that training and testing share."""
    parser.add_argument("--work-dir", help="folder for logs and checkpoints (default: ./work_dirs/<config's name>)")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=_CfgOptions,
        default={},
        metavar="KEY=VALUE",
        help="override config values, e.g. train_dataloader.batch_size=2 model.backbone.depth=6",
    )
    parser.add_argument(
        "--launcher",
        choices=["none", "pytorch", "slurm", "mpi"],
        default="none",
        help="what started the processes (default: none, a single one)",
    )
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0, help="set by some launchers")


def read_config(path: str | os.PathLike, options: Mapping | None = None) -> Config:
    """Read a config and set ``options`` (dotted name -> value) in it.

    Raises:
        ConfigError: the file cannot be read, or an option or a key of it does not exist.
    """
    return with_options(read_file(path), options)


def with_options(cfg: Config, options: Mapping | None = None) -> Config:
    """Return a copy of ``cfg`` with ``options`` (dotted name -> value) set.

    A dict with a ``type`` replaces the value that is there, unless that is of the same type: then it is merged into it.
    ``_delete_=True`` in a dict replaces the value in any case, as in a config file. Data loaders without workers
    need no ``persistent_workers=False`` beside ``num_workers=0``.

    Raises:
        ConfigError: an option does not fit the config, or nothing reads one of the config's keys.
    """
    before, cfg, options = cfg, copy.deepcopy(cfg), options or {}
    check_options(cfg, options, PASSED_ON)
    try:
        for name, value in options.items():
            _set(cfg, name, value)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        given = " ".join(f"{k}={v}" for k, v in options.items())
        raise ConfigError(f"--cfg-options {given} does not fit {cfg.filename}: {str(error).strip(chr(34))}") from None
    for name in {option.split(".")[0] for option in options}.intersection(PASSED_ON):
        pass_on_option(cfg, before, name)
    for loader in (cfg.get(f"{split}_dataloader") for split in ("train", "val", "test")):
        if isinstance(loader, dict) and loader.get("num_workers") == 0:
            loader.persistent_workers = False  # there are none that could outlive an epoch
    check_config(cfg)
    return cfg


def _set(cfg: Config, name: str, value: object) -> None:
    """Set one option in ``cfg``: a dict of another type, or with ``_delete_``, replaces the old value."""
    value = ConfigDict(value=value)["value"]  # dicts inside lists, too
    # MMEngine itself obeys it neither in an item of a list nor in a dict that is put in place of another.
    replaces = isinstance(value, dict) and value.pop("_delete_", False)
    parent, old = None, cfg
    for key in name.split("."):
        parent, old = old, item(old, key)
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)  # 640,480 is read as a list, and MMCV takes sizes as tuples only
    if isinstance(value, dict) and old is not UNSET and (replaces or _is_another(value, old)):
        parent[int(key) if isinstance(parent, list) else key] = value
    else:
        cfg.merge_from_dict({name: value})


def _is_another(value: dict, old: object) -> bool:
    if isinstance(old, dict):
        return value.get("type", old.get("type")) != old.get("type")
    return not isinstance(old, list) or "type" in value


def load_config(path: str, args: argparse.Namespace) -> Config:
    """Read the config of a tool and apply the common options (``add_common_options``).

    Raises:
        ConfigError: see ``read_config``.
    """
    cfg = read_config(path, args.cfg_options)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or os.path.join("./work_dirs", config_stem(path))
    cfg.setdefault("runner_type", "PruningRunner")
    return cfg


def build_runner(cfg: Config, splits: Sequence[str]) -> Runner:
    """Build the Runner of ``cfg`` after checking its data sets.

    Only the main process checks them, because that reads whole annotation files.

    Raises:
        ConfigError: something that the config names cannot be built as written.
        DataError: the data of one of the ``splits`` do not fit the config.
    """
    for sentence in check_datasets(cfg, splits) if is_main_process() else ():
        print(f"Note: {sentence}.", file=sys.stderr)
    with building_from_config():
        return RUNNERS.build(cfg)


def build_model(cfg: Config, checkpoint: str | None) -> nn.Module:
    """Build the model of ``cfg`` in evaluation mode, for use without a Runner.

    Args:
        cfg: the config.
        checkpoint: path or URL of the weights; None leaves the model as initialised.

    Raises:
        ConfigError: the model cannot be built as written.
        CheckpointError: the weights cannot be read or are of another model.
    """
    init_default_scope(cfg.get("default_scope", "mmengine"))
    with building_from_config():
        model = MODELS.build(cfg.model)
    if checkpoint is not None:
        load_into(model, checkpoint)
    return model.eval()


def check_device(name: str) -> torch.device:
    """Return the torch device of that name.

    Raises:
        ConfigError: there is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name} is no device: write cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: this runs on cpu and cuda (cuda:0) only")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: torch sees no such CUDA device")
    return device


def is_main_process() -> bool:
    """Return whether this process has rank 0, also before the process group is initialised."""
    names = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return next((os.environ[n] for n in names if n in os.environ), "0") == "0"


def run(main: Callable[[], object]) -> None:
    """Run a tool's ``main``; a mistake of the user ends it with one sentence and exit code 2, a bug with its traceback.

    Ctrl-C ends it with one word and a shell's exit code of SIGINT. A full disk or a killed data-loader worker ends it
    like a mistake, and the loss of another process of the run with one sentence and exit code 1.
    Mistakes are the exceptions of ``mmcv_custom.errors`` and the core's ``SettingError``.
    """
    end_together()
    quieten_consequences()
    gc.freeze()  # what is loaded stays; MMEngine collects garbage for every data set that it builds, a second each
    if not torch.cuda.is_available():
        keep_memory()
    try:
        with ending_with_the_reader():
            main()
        if dist.is_initialized():
            dist.barrier()  # the slowest process may still need the others
            if dist.get_backend() == "gloo":
                _leave()
    except UserError as error:
        _end(error)
    except SettingError as error:  # found after building: the reducer does not fit the images, for example
        _end(f"the config does not fit: {error}")
    except KeyboardInterrupt:
        if is_main_process():  # Ctrl-C reaches all of them
            _say("interrupted")
        sys.exit(128 + signal.SIGINT)
    except Exception as first:
        error = settled(first)
        sentence = full_disk(error) or dead_worker(error)
        if sentence:
            _end(sentence, everywhere=False)
        sentence = lost_process(error)
        if sentence is None:
            raise
        _say(sentence)
        _leave(1)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()  # gloo's threads abort a process that ends without this


def _leave(status: int = 0) -> None:
    """Exit without the interpreter's shutdown, once the work is done and written or another process is lost.

    gloo's threads, which nothing joins, abort about every fifth process during that shutdown ("terminate called
    without an active exception"). A process group that has lost a process may wait for it when it is destroyed.
    """
    if status == 0:
        dist.destroy_process_group()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _end(error: object, everywhere: bool = True) -> None:
    """Say what is wrong and exit.

    A config is wrong in every process alike and the main one says so; the launcher then ends the others, which wait for
    that. What only one process meets, such as a broken image that it reads, that process says after the wait; at once
    if it cannot be in the others (``everywhere`` is False).
    """
    if everywhere and not is_main_process():
        # A launcher ends the waiting processes: with the same exit status as the main one.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(2))
        time.sleep(10)
    _say(error)
    sys.exit(2)


def _say(error: object) -> None:
    # An error from a data worker carries that worker's traceback; the sentence is its last line.
    sentence = re.sub(r"^[\w.]+Error: ", "", str(error).strip().splitlines()[-1])
    print(f"{os.path.basename(sys.argv[0])}: {sentence}", file=sys.stderr)
