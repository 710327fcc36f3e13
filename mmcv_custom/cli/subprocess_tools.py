"""Helpers of tools that run other tools, and that resume work in a folder of results."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import ConfigError
from ..results import write_json
from ..shipped import ROOT
from ..tasks import task_of
from .config_file import read_file

END_S = 30  # for an interrupted tool to end


def shown(command: Sequence[object]) -> str:
    """Return the command of a tool as a user would write it in the checkout."""
    return "$ " + shlex.join(["python", *(str(c).removeprefix(f"{ROOT}/") for c in command)])


def run_tool(*command: object, **streams: object) -> int:
    """Run the command of a tool and return its exit status; after Ctrl-C, wait until the tool has ended, too.

    A terminal sends Ctrl-C to both. ``subprocess.run`` would kill the tool a quarter of a second later, while it ends
    its data workers.

    Args:
        command: the tool and its arguments.
        streams: of ``subprocess.Popen``.
    """
    process = subprocess.Popen([sys.executable, *map(str, command)], **streams)
    try:
        return process.wait()
    except KeyboardInterrupt:
        with suppress(subprocess.TimeoutExpired):  # a second Ctrl-C kills it
            process.wait(END_S)
        raise
    finally:
        process.kill()  # nothing, if it has ended


def call(*command: object) -> None:
    """Print and run the command of a tool; if it fails, exit with its exit code."""
    print(f"\n{shown(command)}", flush=True)
    status = run_tool(*command)
    if status:
        sys.exit(status)


def train(
    config: str | Path,
    folder: str | Path,
    seed: int,
    epochs: int | None = None,
    start: str | Path | None = None,
    options: Sequence[str] = (),
) -> Path:
    """Train ``config`` into ``folder`` with tools/train.py, unless that is done, and return the last checkpoint.

    Nothing is evaluated during training.

    Args:
        config: path of the config.
        folder: work dir; an interrupted training in it is resumed.
        seed: random seed.
        epochs: None for the config's own number.
        start: weights to start from; None for the config's own.
        options: further key=value texts.

    Raises:
        ConfigError: the config trains by iterations.
    """
    epochs = epochs or read_file(str(config)).train_cfg.get("max_epochs")
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


def test(
    config: str | Path, model: str | Path, work_dir: Path, scores: Path, options: Sequence[str] = ()
) -> dict[str, float]:
    """Evaluate with tools/test.py and return the scores under the row fields of the config's task.

    Args:
        config: path of the config.
        model: what is evaluated: weights or an exported file.
        work_dir: for the log.
        scores: file that all scores are written to.
        options: key=value texts for the config.

    Raises:
        ConfigError: the evaluator of the config does not give the scores of its task.
    """
    more = ["--cfg-options", *options] if options else []
    call(ROOT / "tools/test.py", config, model, "--work-dir", work_dir, "--scores", scores, *more)
    found, names = json.loads(Path(scores).read_text()), task_of(read_file(str(config))).metric.scores
    missing = [score for score in names.values() if score not in found]
    if missing:
        raise ConfigError(
            f"the test_evaluator of {config} gives {', '.join(found)}, but not {', '.join(missing)}: "
            "use that of the task's configs in configs/_base_"
        )
    return {field: found[score] for field, score in names.items()}


def lock_settings(folder: Path, what: str, configs: Mapping[str, str | Path], **settings: object) -> None:
    """Write the settings of the work in ``folder`` to a file there, or check that they are those in the file.

    Args:
        folder: the folder.
        what: name of its content, for messages.
        configs: name -> path of the configs; the full text of those in the file is compared, others are added to it.
        settings: further settings, which JSON can hold.

    Raises:
        ConfigError: the content of the folder was made with other settings; the sentence names them.
    """
    texts = {name: read_file(path).pretty_text for name, path in configs.items()}
    file = folder / "settings.json"
    known = json.loads(file.read_text()) if file.exists() else dict(settings, configs={})
    before = known.pop("configs")
    other = [f"config of {name}" for name, text in texts.items() if before.get(name, text) != text]
    other += [name for name in {**known, **settings} if known.get(name) != settings.get(name)]
    if other:
        raise ConfigError(
            f"{folder} holds {what} with other settings or of another version ({', '.join(other)}): delete it, or "
            "choose another with --work-dir"
        )
    write_json(file, dict(settings, configs={**before, **texts}))
