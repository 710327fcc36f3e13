"""Which package may import which, and that no file edits sys.path; see CONTRIBUTING.md, section Layers."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

CORE = {"torch", "timm", "numpy"}
ENGINE = CORE | {"token_pruning", "mmcv_custom", "mmengine", "mmcv", "safetensors", "tqdm", "torchvision"}
ADAPTER = ENGINE | {"token_pruning_ops"}
# What each package may import besides the standard library and itself.
ALLOWED = {
    "token_pruning": CORE,
    "token_pruning_ops": {"torch"},
    "mmcv_custom": ENGINE,
    "mmdet_custom": ADAPTER | {"mmdet"},
    "mmseg_custom": ADAPTER | {"mmseg"},
    "mmpretrain_custom": ADAPTER | {"mmpretrain"},
}
# Allowed below a folder inside functions only: the core draws but must load without a drawing library, and its command
# starts the tools; ops is compared with MMCV; data checks read image headers, results are written in COCO's
# encoding, own data may come with YAML, and exported files need optional
# packages and no compiled operator.
ALLOWED_IN_FUNCTIONS = {
    "token_pruning/analysis": {"PIL", "matplotlib"},
    "token_pruning/__main__.py": {"mmcv_custom"},
    "ops": {"mmcv"},
    "mmcv_custom": {"PIL", "pycocotools", "yaml"},
    "mmcv_custom/export": {"nncf", "onnx", "onnxruntime", "onnxscript", "openvino", "token_pruning_ops"},
}
# What each folder or file of mmcv_custom (a "room") may import of the others; "" is the package itself, which the
# custom_imports of a config load.
BASE = {"errors", "files", "results"}
TRAINING = BASE | {"checkpoint", "compat", "data", "engine", "models", "shipped", "tasks"}
ROOMS = {
    "": TRAINING,
    "compat": set(),
    "errors": set(),
    "files": {"errors"},
    "results": {"files"},
    "shipped": {"errors"},
    "checkpoint": BASE | {"shipped"},
    "data": BASE,
    "tasks": BASE | {"data"},
    "models": BASE | {"checkpoint"},
    "engine": TRAINING,
    "cli": TRAINING,
    "own_data": BASE | {"data", "shipped"},
    "benchmark": TRAINING | {"cli"},
    "calibration": TRAINING | {"cli", "benchmark"},
    "export": TRAINING,
    "inference": TRAINING | {"cli", "calibration", "export"},
}
# Inside functions only: inference and benchmark code is loaded by the first evaluation that needs it.
ROOMS_IN_FUNCTIONS = {
    "mmcv_custom/engine/hooks": {"benchmark", "inference"},
    "mmcv_custom/__init__.py": {"inference"},
    "mmcv_custom/tasks.py": {"inference"},
    "token_pruning/__main__.py": {"cli"},
}
# Folders with another name than their package.
PACKAGE_OF_FOLDER = {"ops": "token_pruning_ops"}
# A setup.py is run by the installer and never imported, so it may use the build tools.
BUILD_TOOLS = {"setuptools"}

# Does for a fork what the interpreter does when it starts a script.
SETS_SYS_PATH = "tests/scripts.py"
# Folders with code of this project, besides the packages; others hold data, results, or what a user keeps there.
OURS = {"configs", "tools", "tests", "ops"}


def python_files(root):
    """Yield all Python files of the project below `root`."""
    for folder, subfolders, names in os.walk(root):
        # A folder with pyvenv.cfg is a virtual environment, whatever its name.
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".")
            and (Path(folder) != Path(root) or name in OURS or name in ALLOWED)
            and not Path(folder, name, "pyvenv.cfg").exists()
        )
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def imports(tree):
    """Yield (module, level, line, inside a function, names) for each import, `import_module("...")` included.

    Imports under `if TYPE_CHECKING` count as inside a function.
    """

    def visit(node, in_function):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, 0, node.lineno, in_function, ()
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.level, node.lineno, in_function, [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and node.args:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            target = node.args[0]
            if called in ("import_module", "__import__") and isinstance(getattr(target, "value", None), str):
                if not target.value.startswith("."):
                    yield target.value, 0, node.lineno, in_function, ()
        in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        in_function = in_function or isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, in_function)

    yield from visit(tree, False)


def sys_path_edits(tree):
    """Yield the lines that change sys.path: mutating calls, assignments, deletions, and other names for the list."""

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
            # Under another name, edits of the list would not be found.
            if any(alias.name == "path" for alias in node.names):
                yield node.lineno


def below(name, table):
    """Return everything that `table` (folder or file -> set) allows for the file `name`."""
    return set().union(*(more for place, more in table.items() if name == place or name.startswith(f"{place}/")))


def rooms_of(name, module, level, names):
    """Return the rooms of mmcv_custom that an import in the file `name` reaches; "" for the package itself."""
    folders = list(Path(name).parts[:-1])
    path = folders[: len(folders) - level + 1] if level else []
    path += module.split(".") if module else []
    if path[:1] != ["mmcv_custom"]:
        return set()
    return {path[1]} if len(path) > 1 else {one if one in ROOMS else "" for one in names} or {""}


def room_violations(name, module, level, line, in_function, names):
    """Yield one sentence for each room of mmcv_custom that the file `name` must not import."""
    parts = Path(name).parts
    inside = parts[0] == "mmcv_custom"
    own = Path(parts[1]).stem.replace("__init__", "") if inside else ""
    for room in sorted(rooms_of(name, module, level, names)):
        if room in ROOMS[own] or (room == own if inside else room == ""):
            continue
        if room in below(name, ROOMS_IN_FUNCTIONS):
            if not in_function:
                yield f"{name}:{line}: {'/'.join(parts[:-1])} may import mmcv_custom.{room} inside functions only"
            continue
        yield f"{name}:{line}: {'/'.join(parts[:2]) if inside else parts[0]} must not import " + (
            f"mmcv_custom.{room}" if room else "mmcv_custom itself, only the module that it needs"
        )


def violations(root):
    """Return one sentence for each violated rule below `root`."""
    found = []
    for file in python_files(root):
        name = file.relative_to(root).as_posix()
        folder = name.split("/")[0]
        package = PACKAGE_OF_FOLDER.get(folder, folder)
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except SyntaxError as error:
            found.append(f"{name}:{error.lineno}: is not valid Python")
            continue
        for line in () if name == SETS_SYS_PATH else sys_path_edits(tree):
            found.append(f"{name}:{line}: edits sys.path")
        for module, level, line, in_function, names in imports(tree):
            if package == "configs":
                # Configs refer to registered names. MMEngine's `read_base` and relative bases are its other syntax.
                if level == 0 and module != "mmengine.config":
                    found.append(f"{name}:{line}: a config must not import {module}")
                continue
            if package not in ALLOWED:
                continue  # tools, tests and root scripts may import everything
            if level >= len(Path(name).parts):
                found.append(f"{name}:{line}: a relative import leaves {package}")
                continue
            found += room_violations(name, module, level, line, in_function, names)
            top = module.split(".")[0]
            if level or top == package or top in sys.stdlib_module_names or top in ALLOWED[package]:
                continue
            if file.name == "setup.py" and top in BUILD_TOOLS:
                continue
            if top in below(name, ALLOWED_IN_FUNCTIONS):
                if not in_function:
                    found.append(f"{name}:{line}: {package} may import {top} inside functions only")
                continue
            found.append(f"{name}:{line}: {package} must not import {top}")
    return found


def test_layers_of_this_repository():
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_every_package_has_a_layer_and_is_installed():
    folders = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests"}
    packages = {PACKAGE_OF_FOLDER.get(folder, folder) for folder in folders}
    assert packages <= ALLOWED.keys(), f"no layer is defined for {sorted(packages - ALLOWED.keys())}"
    named = re.search(r"^PACKAGES = \[(.*?)\]", (ROOT / "setup.py").read_text(encoding="utf-8"), re.M | re.S)
    assert {"token_pruning_ops", *re.findall(r'"([^"]+)"', named.group(1))} == ALLOWED.keys()


def test_every_room_has_a_layer():
    found = {*(ROOT / "mmcv_custom").glob("*.py"), *(file.parent for file in ROOT.glob("mmcv_custom/*/__init__.py"))}
    assert {path.stem.replace("__init__", "") for path in found} == ROOMS.keys()


LOADED = """
import sys, mmcv_custom
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPER_CONSTRUCTORS, RUNNERS
from mmcv.transforms import TRANSFORMS
for registry, names in ((HOOKS, "AccelerationHook CostHook KeepingCheckpointHook ProgressBarHook PruningCurriculumHook "
                                "ReduceLogsHook SeedByIterHook TokenVisualizationHook WholeStepsHook"),
                        (MODELS, "PlainViTBackbone"), (RUNNERS, "PruningRunner"), (TRANSFORMS, "LoadImageFromFile"),
                        (OPTIM_WRAPPER_CONSTRUCTORS, "LayerDecayOptimWrapperConstructor")):
    assert all(registry.module_dict[name].__module__.startswith("mmcv_custom.") for name in names.split())
print(*sys.modules, sep="\\n")
"""


def test_a_config_loads_no_compiled_operator_and_nothing_that_predicts_or_measures():
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    unwanted = (
        "token_pruning_ops",
        "ops",
        "mmcv._ext",
        "mmcv.ops",
        "matplotlib",
        *(f"mmcv_custom.{room}" for room in ROOMS.keys() - TRAINING - {""}),
    )
    assert not [name for name in loaded if name in unwanted or name.startswith(tuple(f"{one}." for one in unwanted))]


def test_the_operators_have_one_name():
    done = subprocess.run(
        [sys.executable, "-c", "import ops"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr.strip().splitlines()[-1].startswith("ImportError: this package is imported as token_pruning_ops")


def test_no_folder_of_tests_is_a_package():
    found = [file.relative_to(ROOT).as_posix() for file in ROOT.glob("tests/**/__init__.py")]
    assert not found, f"remove {found}: a folder of tests with an __init__.py would hide the package of its name"


BAD = {
    "module level": ("token_pruning/a.py", "import mmcv", "token_pruning must not import mmcv"),
    "from a submodule": (
        "ops/a.py",
        "from token_pruning.tokens import x",
        "token_pruning_ops must not import token_pruning",
    ),
    "inside a function": (
        "token_pruning/a.py",
        "def f():\n    import token_pruning_ops",
        "token_pruning must not import token_pruning_ops",
    ),
    "by name": (
        "ops/a.py",
        "import importlib\nimportlib.import_module('numpy')",
        "token_pruning_ops must not import numpy",
    ),
    "sideways": ("mmdet_custom/a.py", "import mmseg_custom", "mmdet_custom must not import mmseg_custom"),
    "upwards": ("mmcv_custom/a.py", "import mmdet_custom", "mmcv_custom must not import mmdet_custom"),
    "a tool": ("mmdet_custom/a.py", "from tools.train import main", "mmdet_custom must not import tools"),
    "a root script": ("mmcv_custom/a.py", "import speed_test", "mmcv_custom must not import speed_test"),
    "relative, out": (
        "token_pruning/methods/a.py",
        "from ...token_pruning_ops import x",
        "a relative import leaves token_pruning",
    ),
    "drawing": ("token_pruning/analysis/a.py", "import PIL", "token_pruning may import PIL inside functions only"),
    "drawing elsewhere": ("token_pruning/plot.py", "def f():\n    import PIL", "token_pruning must not import PIL"),
    "operators": (
        "mmcv_custom/models/a.py",
        "import token_pruning_ops",
        "mmcv_custom must not import token_pruning_ops",
    ),
    "room": (
        "mmcv_custom/engine/a.py",
        "from ..benchmark.timing import now",
        "mmcv_custom/engine must not import mmcv_custom.benchmark",
    ),
    "room, in a function": (
        "mmcv_custom/models/a.py",
        "def f():\n    from .. import inference",
        "mmcv_custom/models must not import mmcv_custom.inference",
    ),
    "room, by its full name": (
        "mmcv_custom/data/checks/a.py",
        "import mmcv_custom.cli.launch",
        "mmcv_custom/data must not import mmcv_custom.cli",
    ),
    "room of a hook": (
        "mmcv_custom/engine/hooks/a.py",
        "from ...inference import Predictor",
        "mmcv_custom/engine/hooks may import mmcv_custom.inference inside functions only",
    ),
    "room of the package": (
        "mmcv_custom/__init__.py",
        "from .cli import launch",
        "mmcv_custom/__init__.py must not import mmcv_custom.cli",
    ),
    "room through the package": (
        "mmcv_custom/data/a.py",
        "from mmcv_custom import Predictor",
        "mmcv_custom/data must not import mmcv_custom itself, only the module that it needs",
    ),
    "room, from an adapter": (
        "mmdet_custom/a.py",
        "from mmcv_custom.inference import Predictor",
        "mmdet_custom must not import mmcv_custom.inference",
    ),
    "config": ("configs/deit/a.py", "import torch", "a config must not import torch"),
    "insert": ("tools/a.py", "import sys\nsys.path.insert(0, '.')", "edits sys.path"),
    "assignment": ("tests/a.py", "import sys\nsys.path = []", "edits sys.path"),
    "slice": ("speed_test.py", "import sys\nsys.path[:0] = ['.']", "edits sys.path"),
    "alias": ("tools/a.py", "from sys import path", "edits sys.path"),
    "broken file": ("ops/a.py", "def f(:", "is not valid Python"),
}
GOOD = {
    "what a user keeps in the checkout": ("mine/run.py", "import sys\nsys.path.append('there')"),
    "core": ("token_pruning/methods/a.py", "import math, timm, torch\nfrom ..tokens import x\nfrom . import y"),
    "drawing in a function": ("token_pruning/analysis/plot.py", "def f():\n    import matplotlib.pyplot"),
    "build script": ("ops/setup.py", "from setuptools import setup"),
    "adapter": ("mmdet_custom/a.py", "import mmdet, token_pruning_ops, token_pruning, mmcv_custom"),
    "room": ("mmcv_custom/inference/a.py", "from ..cli.launch import run\nfrom ..errors import x\nfrom .b import y"),
    "room of a hook": (
        "mmcv_custom/engine/hooks/a.py",
        "from ..utils import x\ndef f():\n    from ... import inference",
    ),
    "room for types": ("mmcv_custom/engine/hooks/a.py", "if TYPE_CHECKING:\n    from ...benchmark.flops import Count"),
    "rooms of an adapter": ("mmdet_custom/a.py", "from mmcv_custom import load_into\nfrom mmcv_custom.errors import x"),
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
