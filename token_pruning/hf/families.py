"""Which vision transformers of Hugging Face ``transformers`` the core runs, and why it does not run the others.

A family is recognised by the names of its classes, so that nothing of ``transformers`` is imported here.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

from torch import nn

from ..host import attends_in_windows
from . import blocks, window_blocks
from .blocks import HuggingFaceBlock
from .layout import MAP, ROWS, SEQUENCE, Layout

# The first version whose modules have the names that the adapters know.
TESTED = "5.24"


@dataclass(frozen=True)
class Family:
    """One family of models.

    Attributes:
        title: its name in the documentation.
        package: its folder in ``transformers.models``.
        towers: names of the classes that embed the images and hold the layers.
        layer: name of the class of a layer.
        layers: path of the layers in a tower.
        block: adapter of a layer.
        front: config -> number of prefix tokens before the patches.
        back: config -> number of tokens after the patches; they are prefix tokens to the core.
        class_token: whether the first token is a class token.
        moves: config -> whether the tower changes or keeps the tokens between two layers.
        queries: config -> number of queries that enter in front of all tokens, and of the last layers that run them.
        layout: how a layer takes and returns the tokens.
        windowed: whether layers attend in windows, or on the whole grid as a grid: what leaves no grid cannot run.
    """

    title: str
    package: str
    towers: tuple[str, ...]
    layer: str
    layers: str
    block: type[HuggingFaceBlock]
    front: Callable[[Any], int] = lambda config: 1
    back: Callable[[Any], int] = lambda config: 0
    class_token: bool = True
    moves: Callable[[Any], bool] = lambda config: False
    queries: Callable[[Any], tuple[int, int]] = lambda config: (0, 0)
    layout: Layout = SEQUENCE
    windowed: bool = False

    def layers_of(self, tower: nn.Module) -> nn.ModuleList:
        """Return the layers of a tower."""
        return reduce(getattr, self.layers.split("."), tower)  # type: ignore[return-value]


def _with_registers(config: Any) -> int:
    return 1 + config.num_register_tokens


def _queries(config: Any) -> tuple[int, int]:
    return config.num_queries, config.num_blocks


FAMILIES: tuple[Family, ...] = (
    Family("ViT", "vit", ("ViTModel",), "ViTLayer", "layers", blocks.ViTBlock),
    Family("DeiT", "deit", ("DeiTModel",), "DeiTLayer", "layers", blocks.ViTBlock, front=lambda config: 2),
    Family("ViTMAE", "vit_mae", ("ViTMAEModel",), "ViTMAELayer", "layers", blocks.ViTBlock),
    Family("DINOv2", "dinov2", ("Dinov2Model", "Dinov2Backbone"), "Dinov2Layer", "encoder.layer", blocks.Dinov2Block),
    Family(
        "DINOv2 with registers",
        "dinov2_with_registers",
        ("Dinov2WithRegistersModel", "Dinov2WithRegistersBackbone"),
        "Dinov2WithRegistersLayer",
        "encoder.layer",
        blocks.Dinov2Block,
        front=_with_registers,
    ),
    Family(
        "DINOv3 ViT",
        "dinov3_vit",
        ("DINOv3ViTModel", "DINOv3ViTBackbone"),
        "DINOv3ViTLayer",
        "model.layer",
        blocks.DINOv3Block,
        front=_with_registers,
    ),
    Family("CLIP (vision)", "clip", ("CLIPVisionModel",), "CLIPEncoderLayer", "encoder.layers", blocks.CLIPBlock),
    Family(
        "SigLIP (vision)",
        "siglip",
        ("SiglipVisionModel",),
        "SiglipEncoderLayer",
        "encoder.layers",
        blocks.CLIPBlock,
        front=lambda config: 0,
        class_token=False,
    ),
    Family("BEiT", "beit", ("BeitModel",), "BeitLayer", "layers", blocks.BeitBlock),
    Family(
        "YOLOS",
        "yolos",
        ("YolosModel",),
        "YolosLayer",
        "encoder.layer",
        blocks.YolosBlock,
        back=lambda config: config.num_detection_tokens,
        moves=lambda config: config.use_mid_position_embeddings,
    ),
    Family(
        "EoMT",
        "eomt",
        ("EomtForUniversalSegmentation",),
        "EomtLayer",
        "layers",
        blocks.EomtBlock,
        front=_with_registers,
        queries=_queries,
    ),
    Family(
        "EoMT DINOv3",
        "eomt_dinov3",
        ("EomtDinov3ForUniversalSegmentation",),
        "EomtDinov3Layer",
        "layers",
        blocks.DINOv3Block,
        front=_with_registers,
        queries=_queries,
    ),
)


def _windowed(title: str, package: str, towers: tuple[str, ...], layer: str, **settings: Any) -> Family:
    return Family(title, package, towers, layer, front=lambda config: 0, class_token=False, windowed=True, **settings)


FAMILIES += (
    _windowed(
        "SAM",
        "sam",
        ("SamVisionEncoder",),
        "SamVisionLayer",
        layers="layers",
        block=window_blocks.SamBlock,
        layout=ROWS,
    ),
    _windowed(
        "SAM-HQ",
        "sam_hq",
        ("SamHQVisionEncoder",),
        "SamHQVisionLayer",
        layers="layers",
        block=window_blocks.SamBlock,
        layout=ROWS,
        moves=lambda config: True,  # it keeps the outputs of global layers
    ),
    _windowed(
        "SAM 3", "sam3", ("Sam3ViTModel",), "Sam3ViTLayer", layers="layers", block=window_blocks.Sam3Block, layout=ROWS
    ),
    _windowed(
        "ViTDet",
        "vitdet",
        ("VitDetModel", "VitDetBackbone"),
        "VitDetLayer",
        layers="encoder.layer",
        block=window_blocks.VitDetBlock,
        layout=MAP,
        moves=lambda config: True,  # it keeps the outputs of layers as its feature maps
    ),
)

# Folders of ``transformers.models`` whose blocks attend in windows, and which the core does not run.
WINDOWED = frozenset("sam2 sam2_video edgetam swin swinv2 swin2sr donut hiera lw_detr maskformer".split())


def package_of(kind: type) -> str | None:
    """Return the folder of ``transformers.models`` that a class or one of its bases is from, or None."""
    for base in kind.__mro__:
        parts = base.__module__.split(".")
        if parts[:2] == ["transformers", "models"] and len(parts) > 2:
            return parts[2]
    return None


def known_class(kind: type, package: str, names: tuple[str, ...]) -> type | None:
    """Return the class of ``package`` with one of these names that ``kind`` is or inherits its forward from."""
    for base in kind.__mro__:
        if base.__name__ in names and base.__module__.startswith(f"transformers.models.{package}."):
            # FSDP2 makes a subclass of each class that it shards, and a layer's subclass has its forward wrapped.
            same = inspect.unwrap(kind.forward) is inspect.unwrap(base.forward)  # type: ignore[attr-defined]
            return base if same else None
    return None


def family_of(module: nn.Module) -> Family | None:
    """Return the family of a tower; None for any other module."""
    kind = type(module)
    return next((family for family in FAMILIES if known_class(kind, family.package, family.towers)), None)


def why_not(model: nn.Module) -> str:
    """Return the sentence that says why the core runs nothing in ``model``, which holds no known tower."""
    found = {package_of(type(module)): type(module).__name__ for module in reversed([*model.modules()])}
    name = type(model).__name__
    windowed = next((kind for package, kind in found.items() if package in WINDOWED), None)
    if windowed:
        return attends_in_windows(name, windowed)
    titles = ", ".join(family.title for family in FAMILIES)
    return (
        f"{name} holds no vision transformer that the core can run on a subset of the tokens; of transformers "
        f">= {TESTED} it runs {titles} (docs/hugging_face.md)"
    )
