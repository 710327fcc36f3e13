"""DToP as a segmentor: a plain ViT, an auxiliary head at each stage end, and the final head that paints the canvas
("Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation", Tang et al., ICCV 2023, section 3).

Shapes: B images, h x w pixels, T packed tokens, N positions, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmcv_custom.errors import ConfigError
from token_pruning import TokenSet

from ..backbones import StagedViT
from ..heads import StageOutput, TokenHead, scatter
from ..losses import Targets
from .pruned import PrunedEncoderDecoder


@MODELS.register_module()
class DToPSegmentor(PrunedEncoderDecoder):
    """A ``StagedViT`` with one ``TokenHead`` at each stage end: the auxiliary heads in order, the decode head last.

    With the reducer ``DToP`` the auxiliary heads decide who leaves: each looks at the tokens that are still there, and
    its mask logits stay on the canvas where tokens leave. Without thresholds, or with another reducer or none, the
    auxiliary heads only train, and do not run at test time.

    Args:
        detach_canvas: stop the gradients that later heads send through the canvas into the head that a token left with;
            the published code lets them through.
        early_scores: what is predicted where a token left early: its mask logit there, "reweighed" by the class
            probability of the last head, as the published code does; or, as the paper says, "final": the scores that it
            left with. Losses are the same.
        encoder_decoder: arguments of mmseg's ``EncoderDecoder``.

    Raises:
        ConfigError: heads that cannot look at tokens, whose number, ``in_index`` or channels do not fit the backbone's
            stage ends, whose classes differ, or a stage of DToP at which no head looks.
    """

    def __init__(
        self, *args, detach_mask_logits: bool = False, early_scores: str = "reweighed", **encoder_decoder
    ) -> None:
        super().__init__(*args, **encoder_decoder)
        if early_scores not in ("reweighed", "final"):
            raise ConfigError(f"early_scores is {early_scores!r}; choose 'reweighed' or 'final'")
        self.detach_mask_logits, self.early_scores = detach_mask_logits, early_scores
        heads = self.heads
        wrong = next((type(head).__name__ for head in heads if not isinstance(head, TokenHead)), None)
        if wrong or not isinstance(self.backbone, StagedViT):
            raise ConfigError(
                f"DToPSegmentor cannot use {wrong or type(self.backbone).__name__}: it needs a StagedViT "
                "and heads that look at tokens (SegViTHead, MLPHead)"
            )
        ends, reducer = self.backbone.out_indices, self.backbone.reducer
        indices = [head.in_index + len(ends) * (head.in_index < 0) for head in heads]
        if sorted(indices) != list(range(len(ends))) or indices[-1] != len(ends) - 1:
            raise ConfigError(
                f"the backbone has {len(ends)} stage ends (out_indices {ends}) and the heads have "
                f"in_index {indices}: give one auxiliary head for each but the last, in_index 0, 1, "
                "..., and the decode head for the last"
            )
        read, classes = {head.in_channels for head in heads}, {head.num_classes for head in heads}
        if read != {self.backbone.embed_dim} or len(classes) > 1:
            raise ConfigError(
                f"the heads have in_channels {sorted(read)} and num_classes {sorted(classes)}: all need "
                f"the backbone's embed_dim {self.backbone.embed_dim}, and the same classes"
            )
        lacking = sorted({*(reducer.stages if reducer and reducer.needs_class_scores else ())} - {*ends[:-1]})
        if lacking:
            raise ConfigError(
                f"the reducer's stages {lacking} have no auxiliary head: they must be among the "
                f"backbone's out_indices {ends}, the last excluded"
            )

    @property
    def heads(self) -> list[nn.Module]:
        """The auxiliary heads, then the decode head."""
        auxiliary = getattr(self, "auxiliary_head", None)
        several = isinstance(auxiliary, nn.ModuleList)
        return [*(auxiliary if several else [] if auxiliary is None else [auxiliary]), self.decode_head]

    def extract_feat(self, inputs: Tensor) -> list[StageOutput | None]:
        """(B, 3, h, w) -> what each stage's head saw, by stage; None of auxiliary heads that nobody needed to ask."""
        ends, size = self.backbone.out_indices, tuple(inputs.shape[-2:])
        head_at = {ends[head.in_index]: head for head in self.heads}
        stages: dict[int, StageOutput] = {}

        def run_head(block: int, tokens: TokenSet) -> tuple[Tensor, Tensor | None]:
            head = head_at[block]
            logits, class_logits = head(tokens)
            before = next((stages[b] for b in reversed(ends) if b < block and b in stages), None)
            mask_logits, scores = (None, None) if before is None else (before.mask_logits, before.scores)
            if mask_logits is not None and self.detach_mask_logits:
                mask_logits = mask_logits.detach()
            if self.early_scores == "final":
                scores = scatter(scores, tokens, head.token_scores(tokens, logits, class_logits))
            stride = self.backbone.strides[0]
            covers = (tokens.grid[0] * stride, tokens.grid[1] * stride)
            stages[block] = StageOutput(
                scatter(mask_logits, tokens, logits), class_logits, tokens.grid, tokens.prefix, covers, size, scores
            )
            return logits, class_logits

        def score_fn(block: int, tokens: TokenSet) -> Tensor:
            return head_at[block].token_scores(tokens, *run_head(block, tokens))

        needs_class_scores = self.backbone.reducer is not None and self.backbone.reducer.needs_class_scores
        sets = self.backbone(inputs, score_fn) if needs_class_scores else self.backbone(inputs)
        # Heads that were not asked on the way. No token left at their stages, so that the set after one is the one that
        # the head should see, and heads that were asked later synthetic over all that these would have synthetic.
        for block, tokens in zip(ends, sets, strict=True):
            if block not in stages and (self.training or block == ends[-1]):
                run_head(block, tokens)
        return [stages.get(block) for block in ends]

    def loss(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> dict:
        """The losses of every head with weight 1, and the reducer's. What the labels ask for is worked out once."""
        targets = Targets.of_samples(data_samples, self.num_classes, self.decode_head.ignore_index)
        return super().loss(inputs, targets)

    def label_maps(self, data_samples: Targets) -> Tensor:
        return data_samples.labels

    def _forward(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None) -> Tensor:
        stages = self.extract_feat(inputs)
        return stages[-1].to_pixels(self.decode_head.score_map(stages[-1]))
