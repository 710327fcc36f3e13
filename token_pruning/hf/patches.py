"""``apply`` and ``remove`` for the vision transformers of Hugging Face ``transformers``.

    model = AutoModelForImageClassification.from_pretrained("google/vit-base-patch16-224")
    token_pruning.apply(model, dict(type="ToMe", r=13))
    logits = model(**inputs).logits

No module is replaced or renamed. The tower (the module that embeds the images and holds the layers, anywhere in the
model) becomes the host: it gets the reducer, and its ``forward`` and those of its layers are patched on the instances.
``token_pruning.find_host(model)`` returns it.

Shapes: B images, h x w pixels, H x W grid.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ..calling import release
from ..errors import SettingError
from ..forward import check_execution
from ..patching import patch_method
from ..recording import NO_SCRIPT, refuse_recording
from ..reducer import Reducer, build_reducer
from .embedding import patch_size
from .families import TESTED, Family, family_of, known_class, package_of, why_not
from .run import Run, current

HOST = ("blocks", "embed_dim", "patch_embed", "execution")


def is_hugging_face(model: nn.Module) -> bool:
    """Return whether ``model``, or a module in it, is a model of ``transformers``."""
    return isinstance(model, nn.Module) and any(package_of(type(module)) for module in model.modules())


def apply(model: nn.Module, reducer: dict | Reducer | None, execution: str, output: str) -> nn.Module:
    """Run the layers of the vision tower in ``model`` under ``reducer``, see ``token_pruning.apply``."""
    check_execution(execution)
    if output != "map":
        raise SettingError(
            f"output is {output!r}; models of transformers return every position, so leave output at 'map'"
        )
    tower, family = _only_tower(model)
    layers = family.layers_of(tower)
    _check_layers(tower, family, layers)
    config = tower.config
    built = build_reducer(reducer, config.hidden_size, len(layers))
    if built is not None:
        if built.needs_class_token and not family.class_token:
            raise SettingError(
                f"{type(built).__name__} ranks tokens by the class token's attention and {type(tower).__name__} has "
                "none; use a method that needs none (docs/hugging_face.md has a table)"
            )
        weight = next(p for p in layers.parameters() if p.is_floating_point())
        built.to(weight.device, weight.dtype).train(tower.training)
    tower.reducer = built
    # Not registered as modules or parameters: the keys of the state dict stay those of transformers.
    vars(tower).update(
        blocks=[family.block(layer) for layer in layers],
        embed_dim=config.hidden_size,
        patch_embed=SimpleNamespace(patch_size=patch_size(tower)),
        execution=execution,
    )
    _patch_tower(tower)
    patch_method(tower, "__prepare_scriptable__", _no_script)
    # Partials instead of bound methods: they are saved and copied with the model.
    for i, layer in enumerate(layers):
        patch_method(layer, "forward", partial(_layer, layer, i))
    return model


def is_applied(model: nn.Module) -> bool:
    """Return whether a tower in ``model`` has a reducer."""
    return isinstance(model, nn.Module) and any(_is_ours(module) for module in model.modules())


def remove(model: nn.Module) -> nn.Module:
    """Undo ``apply``: restore the forwards of transformers and keep the current weights."""
    for tower in [module for module in model.modules() if _is_ours(module) and family_of(module)]:
        family = family_of(tower)
        assert family is not None
        del tower.reducer
        for name in HOST:
            del vars(tower)[name]
        for name in ("forward", "predict", "_replicate_for_data_parallel", "__prepare_scriptable__"):
            patch_method(tower, name, None)
        for layer in family.layers_of(tower):
            patch_method(layer, "forward", None)
            release(family.block(layer).attn)
    return model


def _patch_tower(tower: Any) -> None:
    patch_method(tower, "forward", partial(_forward, tower))
    if hasattr(type(tower), "predict"):
        patch_method(tower, "predict", partial(_predict, tower))
    patch_method(tower, "_replicate_for_data_parallel", partial(_replicate, tower))


def _forward(tower: Any, *args: Any, **kwargs: Any) -> Any:
    """Replace the tower's ``forward``: run it with its layers under the reducer."""
    pixels = args[0] if args else kwargs.get("pixel_values")
    if not isinstance(pixels, Tensor):
        return type(tower).forward(tower, *args, **kwargs)  # which says what it needs
    refuse_recording(pixels, tower.reducer)
    family = family_of(tower)
    assert family is not None
    if kwargs.get("output_attentions", getattr(tower.config, "output_attentions", False)):
        raise SettingError(
            "output_attentions asks for N x N weights, and under a reducer no block computes all N tokens: leave it "
            "out (token_pruning.Trace records which tokens each block computed), or call token_pruning.remove(model)"
        )
    if kwargs.get("attention_mask") is not None:
        raise SettingError("a model with a reducer takes no attention_mask: it does not fit a subset of the tokens")
    patch = patch_size(tower)
    grid = (pixels.shape[-2] // patch[0], pixels.shape[-1] // patch[1])
    if family.package == "vit_mae" and kwargs.get("noise") is None:  # ranks of a shuffle: leave patches in their order
        kwargs["noise"] = torch.arange(grid[0] * grid[1], device=pixels.device).expand(pixels.shape[0], -1)
    if kwargs.get("bool_masked_pos") is not None and tower.reducer is not None and tower.reducer.reads_image:
        raise SettingError(
            f"{type(tower.reducer).__name__} makes tokens from the image, so none can be replaced by mask tokens: "
            "leave bool_masked_pos out, or use another method"
        )
    before = current.set(Run(tower, family, grid, pixels))
    try:
        return type(tower).forward(tower, *args, **kwargs)
    finally:
        current.set(before)


def _predict(tower: Any, tokens: Tensor) -> Any:
    """Replace ``predict`` of EoMT, which has it between layers: its mask logits limit what queries attend to."""
    predicted, run = type(tower).predict(tower, tokens), current.get()
    if run is not None:
        run.mask_logits = predicted[0]
    return predicted


def _layer(layer: Any, i: int, x: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Tensor:
    """Replace a layer's ``forward``; called outside of the tower's, it runs as ever."""
    run = current.get()
    if run is None:
        return type(layer).forward(layer, x, attention_mask, **options)
    return run.step(i, x, attention_mask, options)


def _replicate(tower: Any) -> Any:
    """Replace the hook by which ``DataParallel`` copies a module: the copy runs its own layers."""
    replica = type(tower)._replicate_for_data_parallel(tower)
    _patch_tower(replica)
    return replica


def _no_script() -> None:
    raise SettingError(NO_SCRIPT)


def _is_ours(module: nn.Module) -> bool:
    patch = vars(module).get("forward")
    return isinstance(patch, partial) and patch.func is _forward


def _only_tower(model: nn.Module) -> tuple[Any, Family]:
    towers = {name: module for name, module in model.named_modules() if family_of(module)}
    if not towers:
        raise TypeError(why_not(model))
    if len(towers) > 1:
        raise TypeError(
            f"{type(model).__name__} holds {len(towers)} vision transformers ({', '.join(towers)}); call "
            "token_pruning.apply on one of these modules"
        )
    tower: Any = next(iter(towers.values()))
    family = family_of(tower)
    assert family is not None
    if getattr(tower.config, "mask_ratio", 0):
        raise TypeError(
            f"{type(tower).__name__} leaves out {tower.config.mask_ratio:.0%} of the patches by itself, so the map has "
            "no value for them; load it with mask_ratio=0"
        )
    patch = vars(tower).get("forward")
    if patch is not None and not _is_ours(tower):
        raise TypeError(_replaced(f"the forward of {type(tower).__name__}"))
    return tower, family


def _check_layers(tower: Any, family: Family, layers: nn.ModuleList) -> None:
    for i, layer in enumerate(layers):
        kind = type(layer)
        if known_class(kind, family.package, (family.layer,)) is None:
            raise TypeError(
                f"layer {i} of {type(tower).__name__} is a {kind.__name__} and not {family.layer} of transformers "
                f">= {TESTED}, so the core does not know its parts; apply the reducer to the model as transformers "
                "builds it"
            )
        patch = vars(layer).get("forward")
        if patch is not None and not (isinstance(patch, partial) and patch.func is _layer):
            raise TypeError(_replaced(f"the forward of layer {i}"))
        attention = getattr(layer, family.block.ATTENTION)
        if package_of(type(attention)) != family.package:
            raise TypeError(
                f"the attention of layer {i} is a {type(attention).__name__} and not that of {family.layer}; apply "
                "the reducer to the model as transformers builds it"
            )


def _replaced(what: str) -> str:
    return (
        f"{what} was replaced by another library (as accelerate does for a device_map over several devices), and the "
        "core would bypass it; load the model onto one device and apply the reducer first"
    )
