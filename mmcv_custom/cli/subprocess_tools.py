"""Tools made of other tools: run one as a user would type it, and remember what a folder of results was made with."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

from mmengine.config import Config

from ..errors import ConfigError
from ..results import write_json

ROOT = Path(__file__).resolve().parents[2]


def call(*command):
    """Run one of the tools, printed as a user would type it; its failure ends this program with its exit code."""
    print("\n$ " + shlex.join(["python", *(str(c).removeprefix(f"{ROOT}/") for c in command)]), flush=True)
    done = subprocess.run([sys.executable, *map(str, command)])
    if done.returncode:
        sys.exit(done.returncode)


def train(config, folder, seed, epochs=None, start=None, options=()):
    """The last checkpoint of ``config`` trained into ``folder`` through tools/train.py, unless it is there already.

    ``epochs``: None for the config's own; ``start``: weights to begin with, None for the config's own; ``options``:
    further key=value texts. Nothing is evaluated on the way.
    """
    epochs = epochs or Config.fromfile(config).train_cfg.get("max_epochs")
    if not epochs:
        raise ConfigError(
            f"{config} trains by iterations: what trains several models here counts epochs, so give a "
            "config with train_cfg.max_epochs"
        )
    done = Path(folder) / f"epoch_{epochs}.pth"
    if not done.exists():
        load = ["--load-from", start] if start else []
        call(
            ROOT / "tools/train.py",
            config,
            "--work-dir",
            folder,
            "--resume",
            *load,
            "--cfg-options",
            f"train_cfg.max_epochs={epochs}",
            "train_cfg.val_begin=1000",
            f"randomness.seed={seed}",
            *options,
        )
    return done


def lock_settings(folder, what, configs, **settings):
    """Remember in ``folder`` what is trained there: ``configs`` (name -> path, kept in full) and further settings that
    JSON can hold. ``what`` names it for people.

    Raises:
        ConfigError: the folder holds what other settings trained.
    """
    settings["configs"] = {name: Config.fromfile(path).pretty_text for name, path in configs.items()}
    known = folder / "settings.json"
    if known.exists() and json.loads(known.read_text()) != settings:
        raise ConfigError(
            f"{folder} holds {what} with other settings or of another version: delete it, or choose "
            "another with --work-dir"
        )
    write_json(known, settings)
