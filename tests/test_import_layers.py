"""Who may import whom, and that nobody edits sys.path. The rule is written down in CONTRIBUTING.md, section Layers."""

import ast
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CORE = {"torch", "timm", "numpy"}
ENGINE = CORE | {"token_pruning", "ops", "mmcv_custom", "mmengine", "mmcv", "safetensors", "tqdm", "torchvision"}
# What each package may import besides the standard library and itself.
ALLOWED = {
    "token_pruning": CORE,
    "ops": {"torch"},
    "mmcv_custom": ENGINE,
    "mmdet_custom": ENGINE | {"mmdet"},
    "mmseg_custom": ENGINE | {"mmseg"},
    "mmpretrain_custom": ENGINE | {"mmpretrain"},
}
# Allowed inside functions only: the core draws pictures but must load without a drawing library; ops measures MMCV;
# data checks read headers of pictures, and results are written in COCO's encoding.
ALLOWED_IN_FUNCTIONS = {"token_pruning": {"PIL", "matplotlib"}, "ops": {"mmcv"}, "mmcv_custom": {"PIL", "pycocotools"}}
# A setup.py is run by the installer and never imported, so it may use the build tool.
BUILD_TOOLS = {"setuptools"}

# What is no code of this project: environments, build output, data, results.
NOT_OURS = {"build", "dist", "data", "pretrained", "work_dirs", "node_modules"}


def python_files(root):
    """All Python files of the project below `root`."""
    for folder, subfolders, names in os.walk(root):
        # A folder with pyvenv.cfg is a virtual environment, whatever its name.
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".")
            and not (Path(folder) == Path(root) and name in NOT_OURS)
            and not Path(folder, name, "pyvenv.cfg").exists()
        )
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def imports(tree):
    """Yields (module, level, line, inside a function) for each import, `import_module("...")` included."""

    def visit(node, in_function):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, node.lineno, in_function
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level, node.lineno, in_function
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            target = node.args[0]
            if called in ("import_module", "__import__") and isinstance(getattr(target, "value", None), str):
                if not target.value.startswith("."):
                    yield target.value, 0, node.lineno, in_function
        in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, in_function)

    yield from visit(tree, False)


def sys_path_edits(tree):
    """Yields the lines that change sys.path: a mutating call, an assignment, a deletion, or a way round those."""

    def is_sys_path(node):
        while isinstance(node, ast.Subscript):
            node = node.value
        return (
            isinstance(node, ast.Attribute)
            and node.attr == "path"
            and isinstance(node.value, ast.Name)
            and node.value.id == "sys"
        )

    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            reading = {"index", "count", "copy"}
            if is_sys_path(node.func.value) and node.func.attr not in reading:
                yield node.lineno
            elif node.func.attr in ("addsitedir", "syspath_prepend"):
                yield node.lineno
            elif node.func.attr == "setattr" and any(is_sys_path(argument) for argument in node.args):
                yield node.lineno
        elif isinstance(node, ast.Assign | ast.Delete):
            if any(is_sys_path(target) for target in node.targets):
                yield node.lineno
        elif isinstance(node, ast.AugAssign | ast.AnnAssign) and is_sys_path(node.target):
            yield node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module == "sys":
            # Under another name the list could be edited unseen.
            if any(alias.name == "path" for alias in node.names):
                yield node.lineno


def violations(root):
    """One sentence for each rule broken below `root`."""
    found = []
    for file in python_files(root):
        name = file.relative_to(root).as_posix()
        package = name.split("/")[0]
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except SyntaxError as error:
            found.append(f"{name}:{error.lineno}: is not valid Python")
            continue
        for line in sys_path_edits(tree):
            found.append(f"{name}:{line}: edits sys.path")
        for module, level, line, in_function in imports(tree):
            if package == "configs":
                # Configs name registered things. MMEngine's own `read_base` and relative bases are its other syntax.
                if level == 0 and module != "mmengine.config":
                    found.append(f"{name}:{line}: a config must not import {module}")
                continue
            if package not in ALLOWED:
                continue  # tools, tests and root scripts may know everything
            if level >= len(Path(name).parts):
                found.append(f"{name}:{line}: a relative import leaves {package}")
                continue
            top = module.split(".")[0]
            if level or top == package or top in sys.stdlib_module_names or top in ALLOWED[package]:
                continue
            if file.name == "setup.py" and top in BUILD_TOOLS:
                continue
            if top in ALLOWED_IN_FUNCTIONS.get(package, ()):
                if not in_function:
                    found.append(f"{name}:{line}: {package} may import {top} inside functions only")
                continue
            found.append(f"{name}:{line}: {package} must not import {top}")
    return found


def test_layers_of_this_repository():
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_every_package_has_a_layer_and_is_installed():
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py") if file.parent.name != "tests"}
    assert packages <= ALLOWED.keys(), f"no layer is written down for {sorted(packages - ALLOWED.keys())}"
    # Read as text: Python 3.10 has no TOML parser.
    include = re.search(r"^include = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M | re.S)
    installed = {name for name in re.findall(r'"([^"]+)"', include.group(1)) if not name.endswith(".*")}
    assert installed == ALLOWED.keys()


def test_no_folder_of_tests_is_a_package():
    found = [file.relative_to(ROOT).as_posix() for file in ROOT.glob("tests/**/__init__.py")]
    assert not found, f"remove {found}: tests/ops with an __init__.py would hide the package ops"


BAD = {
    "module level": ("token_pruning/a.py", "import mmcv", "token_pruning must not import mmcv"),
    "from a submodule": ("ops/a.py", "from token_pruning.tokens import x", "ops must not import token_pruning"),
    "inside a function": ("token_pruning/a.py", "def f():\n    import ops", "token_pruning must not import ops"),
    "by name": ("ops/a.py", "import importlib\nimportlib.import_module('numpy')", "ops must not import numpy"),
    "sideways": ("mmdet_custom/a.py", "import mmseg_custom", "mmdet_custom must not import mmseg_custom"),
    "upwards": ("mmcv_custom/a.py", "import mmdet_custom", "mmcv_custom must not import mmdet_custom"),
    "a tool": ("mmdet_custom/a.py", "from tools.train import main", "mmdet_custom must not import tools"),
    "a root script": ("mmcv_custom/a.py", "import speed_test", "mmcv_custom must not import speed_test"),
    "relative, out": ("token_pruning/methods/a.py", "from ...ops import x", "a relative import leaves token_pruning"),
    "drawing": ("token_pruning/a.py", "import PIL", "token_pruning may import PIL inside functions only"),
    "config": ("configs/deit/a.py", "import torch", "a config must not import torch"),
    "insert": ("tools/a.py", "import sys\nsys.path.insert(0, '.')", "edits sys.path"),
    "assignment": ("tests/a.py", "import sys\nsys.path = []", "edits sys.path"),
    "slice": ("speed_test.py", "import sys\nsys.path[:0] = ['.']", "edits sys.path"),
    "alias": ("tools/a.py", "from sys import path", "edits sys.path"),
    "broken file": ("ops/a.py", "def f(:", "is not valid Python"),
}
GOOD = {
    "core": ("token_pruning/methods/a.py", "import math, timm, torch\nfrom ..tokens import x\nfrom . import y"),
    "drawing in a function": ("token_pruning/plot.py", "def f():\n    import matplotlib.pyplot"),
    "build script": ("ops/setup.py", "from setuptools import setup"),
    "adapter": ("mmdet_custom/a.py", "import mmdet, ops, token_pruning, mmcv_custom"),
    "tool": ("tools/a.py", "import sys, mmdet_custom, mmseg_custom\nprint(sys.path)"),
    "config": ("configs/deit/a.py", "_base_ = ['../b.py']\nmodel = dict(type='X')"),
    "no code of ours": ("env/lib/a.py", "import sys\nsys.path.append('.')"),
}


def plant(root, name, text):
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("name", "text", "sentence"), BAD.values(), ids=BAD.keys())
def test_checker_finds(tmp_path, name, text, sentence):
    plant(tmp_path, name, text)
    found = violations(tmp_path)
    assert len(found) == 1 and found[0].startswith(f"{name}:") and found[0].endswith(sentence)


@pytest.mark.parametrize(("name", "text"), GOOD.values(), ids=GOOD.keys())
def test_checker_accepts(tmp_path, name, text):
    plant(tmp_path, name, text)
    plant(tmp_path, "env/pyvenv.cfg", "")
    assert violations(tmp_path) == []
