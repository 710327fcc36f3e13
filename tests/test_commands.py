"""Printed commands: their tools, configs and options exist, and tools accept the printed arguments; nothing is run."""

import argparse
import inspect
import io
import re
import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from unittest.mock import patch

import pytest
import torch
from doc_commands import PAGES, ROOT, all_commands
from mmengine.registry import PARAM_SCHEDULERS

from mmcv_custom.cli.__main__ import TOOLS
from mmcv_custom.cli.launch import read_config, with_options
from mmcv_custom.errors import ConfigError
from mmcv_custom.shipped import config_names
from token_pruning import METHODS

COMMANDS = all_commands()
# Scripts of published code, in docs/coming_from.md.
PUBLISHED = {"train.py", "test.py", "main.py", "visualize.py", "eval.sh", "train.sh"}
# CONFIG stands for a config that has the printed option.
EXAMPLES = [
    "mask_rcnn/svit-adapter-t-0.5x-ftune",
    "segvit/vit-nano-dtop_segvit_camvid-352",
    "deit/ppt_deit-s_r50_ftune",
    "deit/deit-s",
]


class Parsed(Exception):
    """The arguments of a tool were accepted."""


def tool_call(words):
    """Return (script, arguments) of the Python tool that a command runs in the end; None if it runs none of these."""
    program, name, *rest = [*words, "", ""][: max(len(words), 2)]
    if program == "token-pruning" and name in TOOLS:
        return TOOLS[name], rest
    if program == "python" and name and (ROOT / name).exists():
        return name, rest
    if program == "sh" and name.endswith("dist_train.sh") and rest:
        config, processes, *options = rest
        assert processes.isdigit() or processes == "GPUS", words
        return "tools/train.py", [config, *options]
    if program == "sh" and name.endswith("dist_test.sh") and rest:
        config, checkpoint, processes, *options = rest
        assert processes.isdigit() or processes == "GPUS", words
        return "tools/test.py", [config, checkpoint, *options]
    if program == "sh" and name.endswith("dist_train_load.sh"):
        config, work_dir, checkpoint, *options = rest
        return "tools/train.py", [config, "--work-dir", work_dir, "--load-from", checkpoint, *options]
    return None


def calls():
    """Return {(script, arguments): places} of all tools, without dots and brackets, which a reader leaves out."""
    found = {}
    for one in COMMANDS:
        if call := tool_call(one.words):
            arguments = tuple(word.strip("[]") for word in call[1] if word != "...")
            found.setdefault((call[0], arguments), []).append(one.place)
    return found


CALLS = calls()


def refusal(script, arguments):
    """Start a tool and stop it as soon as it has parsed its arguments; return what it says against them, else None."""

    def stopping(parse):
        def wrapped(self, *args, **kwargs):
            parse(self, *args, **kwargs)
            raise Parsed

        return wrapped

    parsers = {
        name: stopping(getattr(argparse.ArgumentParser, name)) for name in ("parse_args", "parse_intermixed_args")
    }
    path, said = ROOT / script, io.StringIO()
    folders = [str(path if path.is_dir() else path.parent), *sys.path]
    with patch.multiple(argparse.ArgumentParser, **parsers), patch.object(sys, "argv", [str(path), *arguments]):
        with patch.object(sys, "path", folders), redirect_stderr(said), redirect_stdout(said):
            try:
                runpy.run_path(str(path), run_name="__main__")
            except Parsed:
                return None
            except SystemExit as end:
                return f"{end.code}: {said.getvalue()}"
    return "it has no parser"


@pytest.mark.parametrize("script", sorted({script for script, _ in CALLS}))
def test_tools_accept_the_arguments_that_are_printed(script):
    said = {}
    for (name, arguments), places in CALLS.items():
        if name == script and (message := refusal(script, arguments)):
            said[", ".join(places)] = message
    assert said == {}


def test_a_wrong_argument_is_found():
    assert "unrecognized arguments: --resum" in refusal("tools/test.py", ["CONFIG", "CHECKPOINT", "--resum"])
    assert "required: checkpoint" in refusal("tools/test.py", ["CONFIG"])


@pytest.mark.parametrize("one", COMMANDS, ids=str)
def test_programs_scripts_and_targets_exist(one):
    program, name, *rest = [*one.words, "", ""][: max(len(one.words), 2)]
    if program == "make" and name and "=" not in name:
        assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    elif program == "python" and name == "-m":
        assert find_spec(rest[0])
    elif program == "python" and name == "-c":
        compile(rest[0], one.place, "exec")
    elif program in ("python", "sh"):
        assert (ROOT / name).exists() or name in PUBLISHED or name == "make.sh"
    elif program == "pip" and name:
        # The project is not on the package index.
        assert not [word for word in rest if word.startswith("token-pruning")]
    elif program == "token-pruning" and name:
        assert name in {*TOOLS, "configs"}


def options_of(page):
    """Return the names and values that a page sets in configs, in commands or alone: `model.backbone.reducer.r=20`."""
    tops = "|".join(
        ["model", "optim_wrapper", "train_cfg", "tta_model", "randomness", "default_hooks", "param_scheduler"]
    )
    tops += r"|(?:train|val|test)_(?:dataloader|evaluator)"
    codes = re.findall(r"`[^`]+`|^```sh\n.*?^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return {found for code in codes for found in re.findall(rf"(?<![\w.])((?:{tops})(?:\.\w+)+)=([^\s`]*)", code)}


OPTIONS = sorted({name for page in PAGES for name, _ in options_of(page)})


@pytest.fixture(scope="module")
def examples():
    return [read_config(name) for name in EXAMPLES]


def build_schedules(cfg):
    """Build the schedules of a config; some of their options exclude each other."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    for one in cfg.param_scheduler:
        given = {name: value for name, value in one.items() if name not in ("type", "convert_to_iter_based")}
        if one.type == "CosineAnnealingLR":
            given.setdefault("T_max", 1)  # set to its length by the Runner
        PARAM_SCHEDULERS.get(one.type)(optimizer, **given)


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_are_printed_exist(name, examples):
    """An argument of a reducer is one of some method; another option can be set in some config."""
    *parents, own = name.split(".")
    if parents == ["model", "backbone", "reducer"]:
        assert own == "type" or [r for r in METHODS.values() if own in inspect.signature(r.__init__).parameters]
        return
    for cfg in examples:
        node = cfg
        for key in parents:
            node = node[int(key)] if isinstance(node, list) else node.get(key, {}) if node else {}
        if node is None or node == {}:
            continue
        try:
            cfg = with_options(cfg, {name: node.get(own, 1) if isinstance(node, dict) else node[int(own)]})
            build_schedules(cfg)
        except (ConfigError, ValueError):
            continue
        return
    raise AssertionError(f"no config of {EXAMPLES} has a place for it")


def test_configs_that_are_printed_by_name_exist():
    names = set(config_names())
    printed = [(one, word) for one in COMMANDS for word in one.words if one.words[0] == "token-pruning" and "/" in word]
    assert printed and not [str(one) for one, word in printed if word not in names]


def trained():
    """Return the checkpoints of configs that pages name: (config, epoch, pages)."""
    found = {}
    for page in PAGES:
        for name, epoch in re.findall(r"work_dirs/([\w.-]+)/epoch_(\d+)\.pth", page.read_text()):
            found.setdefault((name, int(epoch)), []).append(page.relative_to(ROOT).as_posix())
    # RUN is the reader's; the report of the demo names its own.
    return [(name, epoch, pages) for (name, epoch), pages in sorted(found.items()) if name != "RUN"]


@pytest.mark.parametrize(("name", "epoch", "pages"), trained(), ids=str)
def test_checkpoints_that_are_printed_are_the_last_of_their_config(name, epoch, pages):
    configs = [config for config in config_names() if config.rpartition("/")[2] == name]
    assert configs, f"{pages} name work_dirs/{name}, which no config writes"
    assert [read_config(config).train_cfg.max_epochs for config in configs] == [epoch], pages


def test_every_tool_ends_in_one_sentence():
    """``run`` turns mistakes and Ctrl-C into one; those of maintainers and parts of others need none."""
    others = {
        "check_site",
        "host_table",
        "torchrun",
        "deformable_cases",
        "forked",
        "full_disk",
        "kills",
        "dead_processes",
    }
    tools = [path for path in [*ROOT.glob("*.py"), *(ROOT / "tools").rglob("*.py")] if path.stem not in others]
    mains = {path: path.read_text() for path in tools if "__main__" in path.read_text()}
    assert len(mains) > 40
    assert not [path for path, text in mains.items() if not re.search(r"^ +(launch\.)?run\(", text, re.MULTILINE)]
