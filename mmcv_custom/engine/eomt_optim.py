"""EoMT's optimisation: layer decay of the encoder, and two warm-ups, the encoder's after the head's."""

from __future__ import annotations

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS

from ..errors import ConfigError
from .optim import LayerDecayOptimWrapperConstructor, layer_id

ENCODER = "encoder"  # key of the parameter groups


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class EoMTOptimWrapperConstructor(LayerDecayOptimWrapperConstructor):
    """Parameter groups of EoMT: block i of L has ``lr * layer_decay_rate ** (L - 1 - i)``, the embeddings block 0's.

    The final norm, queries, head and reducer have the full rate, and every parameter has weight decay. Groups note
    whether they are the pretrained encoder's, for ``EoMTLR``. ``paramwise_cfg`` takes ``layer_decay_rate``.
    """

    def add_params(self, params, module, prefix="", is_dcn_module=None):
        """Append one group per learning rate to ``params``."""
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        depth = max((layer_id(name, -1) for name, _ in module.named_parameters()), default=0)
        if depth == 0:
            raise ConfigError("EoMTOptimWrapperConstructor needs a ViT as backbone, and the model has no blocks in one")
        rate, groups = self.paramwise_cfg["layer_decay_rate"], {}
        for name, param in named:
            of_encoder = name.startswith("backbone.") and not name.startswith(("backbone.query.", "backbone.reducer."))
            layer = layer_id(name, depth)
            decayed = rate ** (depth - max(layer, 1)) if layer <= depth else 1.0
            if (decayed, of_encoder) not in groups:
                group = {"params": [], "lr": self.base_lr * decayed, "lr_scale": decayed, ENCODER: of_encoder}
                if self.base_wd is not None:
                    group["weight_decay"] = self.base_wd
                groups[decayed, of_encoder] = group
            groups[decayed, of_encoder]["params"].append(param)
        params.extend(groups[key] for key in sorted(groups))


@PARAM_SCHEDULERS.register_module()
class EoMTLR(LRSchedulerMixin, _ParamScheduler):
    """Learning rates of EoMT, by iteration.

    Queries and head warm up linearly; the encoder's rate is 0 meanwhile and warms up then. Both fall to 0 as
    (1 - progress) ^ 0.9 at ``end``.

    Args:
        optimizer: whose groups ``EoMTOptimWrapperConstructor`` made.
        head_warmup: iterations in which the head warms up.
        encoder_warmup: iterations after these in which the encoder warms up.
        end: iterations of training.
        power: of the fall.

    Raises:
        ConfigError: training ends in a warm-up, epochs are counted, or the groups are another constructor's.
    """

    def __init__(
        self,
        optimizer,
        head_warmup: int,
        encoder_warmup: int,
        end: int,
        power: float = 0.9,
        by_epoch: bool = False,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        if by_epoch or not 0 <= head_warmup + encoder_warmup < end:
            raise ConfigError(
                f"EoMTLR counts iterations: give by_epoch=False and an end, {end} here, after the warm-ups of "
                f"{head_warmup} and {encoder_warmup}"
            )
        # The wrapper adds one group of its base settings, which no constructor makes.
        if not any(ENCODER in group for group in optimizer.param_groups):
            raise ConfigError("EoMTLR needs optim_wrapper.constructor='EoMTOptimWrapperConstructor'")
        self.head_warmup, self.encoder_warmup, self.total, self.power = head_warmup, encoder_warmup, end, power
        super().__init__(optimizer, end=end, last_step=last_step, by_epoch=False, verbose=verbose)

    def factor(self, step: int, of_encoder: bool) -> float:
        """Return the learning rate at a ``step`` over that of its group."""
        first = self.head_warmup if of_encoder else 0
        warmup = self.encoder_warmup if of_encoder else self.head_warmup
        if step < first:
            return 0.0
        if step < first + warmup:
            return (step - first) / warmup
        return (1 - (step - first - warmup) / (self.total - first - warmup)) ** self.power

    def _get_value(self) -> list[float]:
        groups = zip(self.optimizer.param_groups, self.base_values, strict=True)
        return [base * self.factor(self.last_step, group.get(ENCODER, False)) for group, base in groups]
