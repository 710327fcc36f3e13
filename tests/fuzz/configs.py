"""Options of every method, and whole configs, with wrong types, ranges and names, through what builds them."""

import copy
import functools
import inspect

import torch
from fuzz.contract import Broken, Case
from mmengine.config import Config
from scripts import ROOT

from mmcv_custom.cli.config_file import read_file
from mmcv_custom.cli.launch import build_model, with_options
from mmcv_custom.errors import UserError
from token_pruning import METHODS, PlainViT
from token_pruning.errors import SettingError

ODD = (
    *(
        None,
        True,
        False,
        "",
        "x",
        "3",
        0,
        -1,
        1,
        2,
        3,
        7,
        0.5,
        -0.5,
        1.5,
        1e9,
        -1e9,
        float("nan"),
        float("inf"),
        10**30,
    ),
    *(
        [],
        [1],
        [0, 1],
        [1, 0],
        [0.5, 0.5, 0.5, 0.5],
        ["x"],
        [None],
        [[1]],
        {},
        dict(type="ToMe"),
        (3,),
        object(),
        [2.5],
    ),
)
CONFIGS = (
    *("configs/quickstart/digits_svit-adapter-nano.py", "configs/cropr/cifar10/deit-nano-cropr_cifar10.py"),
    "configs/segmentation/vit-nano-tome_linear_camvid-352.py",
)


def score_fn(block, tokens):
    """Return class scores (T, 4) of tokens (T, C), as the head of a host does."""
    return (tokens.x[:, :4].float() * 2).softmax(dim=1)


def run_options(case: Case) -> None:
    """Build one method with mutated options, in a small ViT, and run an image through where it is taken."""
    name = case.choose(*sorted(METHODS))
    known = [
        p
        for p in inspect.signature(METHODS[name]).parameters
        if p not in ("embed_dim", "depth", "score_fn", "criterion")
    ]
    options = {}
    for _ in range(case.choose(1, 1, 2, 3)):
        option = case.choose(
            *known, *([case.choose("no_such", "keep", "Threshold")] if case.random.random() < 0.1 else [])
        )
        options[option] = copy.copy(case.choose(*ODD))
    if case.random.random() < 0.05:
        options["type"] = case.choose(None, 3, "tome", [], "")
    case.given = f"{name} {options}"
    reducer = dict(type=name, **options) if "type" not in options else options
    if case.random.random() < 0.03:
        reducer = case.choose("ToMe", ["ToMe"], 3, {}, True)
        case.given = repr(reducer)
    given = dict(img_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2, class_token=True)
    if name == "DToP" and isinstance(reducer, dict):
        reducer = dict(score_fn=score_fn) | reducer
    # The sentence must say which option, or which method, is meant.
    # The default of r may not fit the grid.
    names = (*options, name, "reducer", "class token", "r is ")
    vit = case.allow(PlainViT, **given, reducer=reducer, names=names)
    if vit is None:
        return
    image = torch.randn(2, 3, 32, 40)
    case.allow(forward, vit.eval(), image, names=names)


def forward(vit: PlainViT, image: torch.Tensor) -> None:
    """Run images through the blocks and check that every position has a finite value."""
    with torch.no_grad():
        stack = vit.start(image)
        stack.run_to(vit.depth - 1)
        tokens = stack.finish()
    if tokens.shape != (2, 20, 24) or not torch.isfinite(tokens).all():
        raise Broken(f"the tokens have the shape {tuple(tokens.shape)}, or one is not finite")


@functools.cache
def config(path: str) -> Config:
    """Return a config as it is read from its file."""
    return read_file(ROOT / path)


def nodes(node, path=()):
    """Yield the path of every value below the model and the test data of a config."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for name, value in items:
        yield (*path, name)
        yield from nodes(value, (*path, name))


def run_configs(case: Case) -> None:
    """Change one to three values of a config, and build its model and pipeline."""
    cfg = copy.deepcopy(config(case.choose(*CONFIGS)))
    changed = []
    for _ in range(case.choose(1, 1, 2)):
        part = case.choose("model", "model", "test_dataloader")
        *parents, name = (part, *case.random.choice(list(nodes(cfg[part]))))
        parent = cfg
        for step in parents:
            parent = parent[step]
        how = case.choose("delete", "odd", "odd", "rename", "unknown")
        if isinstance(parent, (tuple, list)):
            continue
        if how == "delete":
            del parent[name]
        elif how == "odd":
            parent[name] = copy.copy(case.choose(*ODD[:-1]))
        elif how == "rename":
            parent[f"{name}_"] = parent.pop(name)
        else:
            parent["family"] = "vit"
        changed.append(
            f"{how} {'.'.join(map(str, (*parents, name)))} {str(parent.get(name))[:40] if how == 'odd' else ''}"
        )
    case.given = "; ".join(changed)
    try:
        build_model(with_options(cfg), None)
    except (UserError, SettingError) as error:
        if "\n" in str(error) or len(str(error).split()) < 4:
            raise Broken(f"no clear sentence: {str(error)[:400]!r}") from error
