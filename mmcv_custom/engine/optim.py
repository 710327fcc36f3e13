"""Layer-wise learning-rate decay: the deeper a ViT block, the larger its learning rate."""

from __future__ import annotations

import re

from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS

from ..errors import ConfigError

_EMBEDDINGS = ("pos_embed", "cls_token", "dist_token", "reg_token", "patch_embed", "norm_pre")
_NO_DECAY = ("pos_embed", "cls_token", "dist_token", "reg_token", "level_embed")
_BLOCK = re.compile(r"(?<![^.])blocks\.(\d+)\.")


def layer_id(name: str, num_layers: int) -> int:
    """Return 0 for the ViT's embeddings, i + 1 for its block i, ``num_layers + 1`` for all else (adapter, heads)."""
    parts = name.split(".")
    if "backbone" in parts or parts[0] in (*_EMBEDDINGS, "blocks"):
        block = _BLOCK.search(name)
        if block:
            return int(block.group(1)) + 1
        if any(p in _EMBEDDINGS for p in parts):
            return 0
    return num_layers + 1


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Parameter groups by depth, with learning rate ``lr * layer_decay_rate ** (num_layers + 1 - layer_id)``.

    ``paramwise_cfg`` takes ``layer_decay_rate`` (0 < rate <= 1) and, optionally, ``num_layers`` (default: the number of
    blocks of the backbone). Weight decay is 0 for vectors, biases, position and level embeddings, and tokens.

    Raises:
        ConfigError: another key, a missing or impossible rate, or a ``num_layers`` smaller than the model's.
    """

    def _validate_cfg(self):
        super()._validate_cfg()
        rate = self.paramwise_cfg.get("layer_decay_rate")
        if not isinstance(rate, (int, float)) or not 0 < rate <= 1:
            raise ConfigError(f"paramwise_cfg.layer_decay_rate must be a number in (0, 1], got {rate!r}")
        unknown = sorted(set(self.paramwise_cfg) - {"layer_decay_rate", "num_layers"})
        if unknown:
            raise ConfigError(
                f"paramwise_cfg.{unknown[0]} is not read by LayerDecayOptimWrapperConstructor: "
                "it takes layer_decay_rate and num_layers"
            )

    def add_params(self, params, module, prefix="", is_dcn_module=None):
        """Append one group per depth and weight decay to ``params``, each with its ``lr`` and ``lr_scale``."""
        named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        depth = max((layer_id(n, -1) for n, _ in module.named_parameters()), default=0)  # frozen blocks count too
        num_layers = self.paramwise_cfg.get("num_layers", depth)
        if depth == 0 or depth > num_layers:
            raise ConfigError(
                f"layer decay needs a ViT backbone of at most num_layers={num_layers} blocks, the model has {depth}"
            )
        groups = {}
        for name, param in named:
            plain = param.ndim <= 1 or name.endswith(".bias") or any(p in _NO_DECAY for p in name.split("."))
            depth_id = layer_id(name, num_layers)
            scale = self.paramwise_cfg["layer_decay_rate"] ** (num_layers + 1 - depth_id)
            if (depth_id, plain) not in groups:
                group = dict(params=[], lr=self.base_lr * scale, lr_scale=scale)
                if self.base_wd is not None:
                    group["weight_decay"] = 0.0 if plain else self.base_wd
                groups[depth_id, plain] = group
            groups[depth_id, plain]["params"].append(param)
        params.extend(groups[key] for key in sorted(groups))
