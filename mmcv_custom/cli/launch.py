"""What tools and demos share: options, reading the config, ending on a mistake."""

import copy
import logging
import os
import re
import sys
import traceback

import torch
import torch.distributed as dist
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, RUNNERS, init_default_scope

import token_pruning

from ..checkpoint.load import load_into
from ..data.checks.coco import check_datasets
from ..engine.acceleration import keep_memory
from ..errors import ConfigError, DataError, UserError
from .config_check import check_config, check_options


class _CfgOptions(DictAction):
    """MMEngine's ``key=value`` parser, which ends on a malformed option instead of failing."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            if "=" not in value.lstrip("="):
                parser.error(f"--cfg-options {value}: write key=value, e.g. train_dataloader.batch_size=2")
        super().__call__(parser, namespace, values, option_string)


def add_common_options(parser):
    """Add the options that training and testing have to an argparse parser."""
    parser.add_argument("--work-dir", help="where logs and checkpoints go (default: ./work_dirs/<config's name>)")
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


def read_config(path, options=None):
    """Read a config, with ``options`` (dotted name -> value) set. Raises ConfigError, one sentence."""
    if not os.path.isfile(path):
        raise ConfigError(f"config {path} does not exist: check the path")
    try:
        cfg = Config.fromfile(path)
    except (OSError, SyntaxError) as error:
        raise ConfigError(f"config {path} cannot be read: {error}") from None
    return with_options(cfg, options)


def with_options(cfg, options=None):
    """A copy of a config with ``options`` (dotted name -> value) set. Raises ConfigError, one sentence."""
    cfg, options = copy.deepcopy(cfg), options or {}
    check_options(cfg, options)
    try:
        cfg.merge_from_dict(options)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        given = " ".join(f"{k}={v}" for k, v in options.items())
        raise ConfigError(f"--cfg-options {given} does not fit {cfg.filename}: {str(error).strip(chr(34))}") from None
    check_config(cfg)
    return cfg


def load_config(path, args):
    """Read the config of a tool and apply the common options. Raises ConfigError, one sentence."""
    cfg = read_config(path, args.cfg_options)
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg.launcher = args.launcher
    stem = os.path.splitext(os.path.basename(path))[0]
    cfg.work_dir = args.work_dir or cfg.get("work_dir") or os.path.join("./work_dirs", stem)
    cfg.setdefault("runner_type", "PruningRunner")
    return cfg


def build_runner(cfg, splits):
    """The Runner of ``cfg`` after its data were checked (by the main process: it reads whole annotation files)."""
    for sentence in check_datasets(cfg, splits) if is_main_process() else ():
        print(f"Note: {sentence}.", file=sys.stderr)
    return RUNNERS.build(cfg)


def build_model(cfg, checkpoint):
    """The model of ``cfg`` in evaluation mode, for use without a Runner; ``checkpoint`` None leaves fresh weights."""
    init_default_scope(cfg.get("default_scope", "mmengine"))
    model = MODELS.build(cfg.model)
    if checkpoint is not None:
        load_into(model, checkpoint)
    return model.eval()


def check_device(name):
    """The torch device of that name. Raises ConfigError when there is none."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"--device {name} is no device: write cpu, cuda or cuda:0") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"--device {name}: this runs on cpu and cuda (cuda:0) only")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"--device {name}: torch sees no such CUDA device")
    return device


def is_main_process():
    """Whether this is the first of the processes, before and after they know each other."""
    names = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK")
    return next((os.environ[n] for n in names if n in os.environ), "0") == "0"


def run(main):
    """Run a tool's ``main``: a user's mistake ends it with one sentence and exit code 2, a bug with its traceback."""
    if not torch.cuda.is_available():
        keep_memory()
    try:
        main()
        if dist.is_initialized():
            dist.barrier()  # the slowest process may still need the others
            if dist.get_backend() == "gloo":
                _leave()
    except UserError as error:
        # A config is wrong in every process alike; an image is broken in the one that reads it.
        if is_main_process() or isinstance(error, DataError):
            _say(error)
        sys.exit(2)
    except (TypeError, ValueError, KeyError) as error:
        if not (_while_building(error) or _by_the_core(error)):
            raise
        if is_main_process():
            _say(f"the config does not fit: {error}")
        sys.exit(2)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()  # gloo's threads abort a process that ends without this


def _leave():
    """End a process whose work is done and written, without the interpreter's own end: gloo's threads, which nothing
    joins, abort about every fifth process there ("terminate called without an active exception")."""
    dist.destroy_process_group()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _say(error):
    # From a data worker the sentence comes at the end of that worker's traceback.
    sentence = re.sub(r"^[\w.]+Error: ", "", str(error).strip().splitlines()[-1])
    print(f"{os.path.basename(sys.argv[0])}: {sentence}", file=sys.stderr)


def _while_building(error):
    """Whether an error came out of a registry that was building something from the config, whenever that was."""
    frames = traceback.extract_tb(error.__traceback__)
    return any(frame.filename.endswith(os.path.join("registry", "build_functions.py")) for frame in frames)


def _by_the_core(error):
    """Whether the core itself raised a ValueError: a reducer that does not fit the images, found in a forward."""
    raised = traceback.extract_tb(error.__traceback__)[-1]
    return (
        isinstance(error, ValueError)
        and raised.line.startswith("raise ValueError(")
        and raised.filename.startswith(os.path.join(os.path.dirname(token_pruning.__file__), ""))
    )
