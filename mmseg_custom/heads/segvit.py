"""SegViT's head on the tokens of one stage, of which DToP has one at each stage end.

"SegViT", Zhang et al., NeurIPS 2022, sections 3.1 and 3.2.

Shapes: B images, T packed tokens, K classes, C channels.
"""

from __future__ import annotations

from mmseg.registry import MODELS
from torch import Tensor, nn

from token_pruning import TokenSet
from token_pruning.errors import SettingError
from token_pruning.vit import init_linear

from ..losses import Targets
from .decoder import Decoder, Rows
from .stages import StageOutput
from .token_head import TokenHead


@MODELS.register_module()
class SegViTHead(TokenHead):
    """Attention-to-mask head: one query per class attends to the tokens in a few decoder layers.

    The last layer's attention logits are the masks, and the final query is classified as present or absent. The score
    of a token for a class is the product of the class's probability and its mask.

    Linear layers are initialised by a truncated normal of 0.02, the joint projections of the queries' self-attention by
    Xavier. The published auxiliary heads were left at PyTorch's defaults by accident.

    Args:
        layers_per_decoder, num_heads, dropout: of the decoder.
        head: arguments of ``TokenHead``.

    Raises:
        SettingError: ``channels`` cannot be split into the heads, or there is no layer.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_classes: int,
        layers_per_decoder: int = 2,
        num_heads: int = 6,
        dropout: float = 0.1,
        in_index: int = -1,
        loss_decode: dict | None = None,
        **head,
    ) -> None:
        super().__init__(in_channels, channels, num_classes, in_index, loss_decode or dict(type="ATMLoss"), **head)
        if layers_per_decoder < 1:
            raise SettingError(
                f"layers_per_decoder is {layers_per_decoder}; masks come from the last layer, so give 1 or more"
            )
        self.input_proj = nn.Linear(in_channels, channels)
        self.proj_norm = nn.LayerNorm(channels)
        self.q = nn.Embedding(num_classes, channels)
        self.decoder = Decoder(channels, num_heads, layers_per_decoder, dropout)
        self.class_embed = nn.Linear(channels, 2)
        self.apply(init_linear)

    def forward(self, tokens: TokenSet) -> tuple[Tensor, Tensor]:
        """Return the mask logits (T, K) and the class logits (B, K, 2)."""
        memory = self.proj_norm(self.input_proj(tokens.x))
        queries = self.q.weight.repeat(tokens.batch, 1, 1)  # a view of a parameter would confuse FLOP counters
        queries, masks = self.decoder(queries, memory, Rows(tokens.counts, memory.device))
        return masks.float(), self.class_embed(queries).float()

    def scores(self, logits: Tensor, class_logits: Tensor) -> Tensor:
        """Return the probability that a class is present times the sigmoid of its mask logit."""
        return class_logits.softmax(-1)[..., 0] * logits.sigmoid()

    def losses(self, stage: StageOutput, targets: Targets) -> dict[str, Tensor]:
        """Return the losses of class logits and masks."""
        return self.loss_decode(
            stage.class_logits,
            stage.map(stage.mask_logits),
            targets,
            lambda masks: stage.to_pixels(masks, targets.labels.shape[-2:]),
        )
