"""DToP as a segmentor: a plain ViT with an auxiliary head at each stage end and a final decode head.

"Dynamic Token Pruning in Plain Vision Transformers for Semantic Segmentation", Tang et al., ICCV 2023, section 3.

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

    With the reducer ``DToP`` the auxiliary heads supply the class scores on which tokens exit: each head runs on the
    tokens that are still kept, and the mask logits of tokens that exit are carried to the later stages. Without
    thresholds, or with another reducer or none, the auxiliary heads are for training only and do not run at test time.

    Args:
        detach_mask_logits: stop the gradients of later heads through the mask logits that exited tokens got from an
            earlier head; the published code lets them through.
        early_scores: the prediction at tokens that exited early. "reweighed", as in the published code: their mask
            logits with the class probability of the last head. "final", as in the paper: the scores they exited with.
            The losses are the same.
        encoder_decoder: arguments of mmseg's ``EncoderDecoder``.

    Raises:
        ConfigError: a head that does not take token sets; heads whose number, ``in_index`` or channels do not fit the
            backbone's stage ends, or whose classes differ; a stage of DToP without a head.
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
                "and heads on token sets (SegViTHead, MLPHead)"
            )
        ends, reducer = self.backbone.out_indices, self.backbone.reducer
        indices = [head.in_index + len(ends) * (head.in_index < 0) for head in heads]
        if sorted(indices) != list(range(len(ends))) or indices[-1] != len(ends) - 1:
            raise ConfigError(
                f"the backbone has {len(ends)} stage ends (out_indices {ends}) and the heads have "
                f"in_index {indices}: give one auxiliary head for each but the last, in_index 0, 1, "
                "..., and the decode head for the last"
            )
        channels, classes = {head.in_channels for head in heads}, {head.num_classes for head in heads}
        if channels != {self.backbone.embed_dim} or len(classes) > 1:
            raise ConfigError(
                f"the heads have in_channels {sorted(channels)} and num_classes {sorted(classes)}: all need "
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
        """Run the backbone on images (B, 3, h, w) and return each stage's output.

        It is None for auxiliary heads that did not run: at test time, those at which no token can exit.
        """
        run = _StageRun(self, tuple(inputs.shape[-2:]))
        reducer, ends = self.backbone.reducer, self.backbone.out_indices
        needs_class_scores = reducer is not None and reducer.needs_class_scores
        sets = self.backbone(inputs, run.score_fn) if needs_class_scores else self.backbone(inputs)
        # The heads that the reducer did not call. No token exits at their stages, so the token set after such a stage
        # is the one that its head must see, and the later heads' mask logits already cover all of its tokens.
        for block, tokens in zip(ends, sets, strict=True):
            if block not in run.outputs and (self.training or block == ends[-1]):
                run.run_head(block, tokens)
        return [run.outputs.get(block) for block in ends]

    def loss(self, inputs: Tensor, data_samples: Sequence[SegDataSample]) -> dict:
        """Return the losses of every head, each with weight 1, and the reducer's."""
        targets = Targets.of_samples(data_samples, self.num_classes, self.decode_head.ignore_index)
        return super().loss(inputs, targets)

    def label_maps(self, data_samples: Targets) -> Tensor:
        """Return the label maps (B, h, w)."""
        return data_samples.labels

    def _forward(self, inputs: Tensor, data_samples: Sequence[SegDataSample] | None = None) -> Tensor:
        stages = self.extract_feat(inputs)
        return stages[-1].to_pixels(self.decode_head.score_map(stages[-1]))


class _StageRun:
    """The stage outputs of one forward pass, filled in as the heads run.

    Args:
        segmentor: whose heads run.
        size: (h, w) of the images, without padding.

    Attributes:
        outputs: those of the heads that have run, by the block after which they stand.
    """

    def __init__(self, segmentor: DToPSegmentor, size: tuple[int, int]) -> None:
        ends = segmentor.backbone.out_indices
        self.head_at = {ends[head.in_index]: head for head in segmentor.heads}
        self.stride, self.size = segmentor.backbone.strides[0], size
        self.detach, self.keep_scores = segmentor.detach_mask_logits, segmentor.early_scores == "final"
        self.outputs: dict[int, StageOutput] = {}

    def score_fn(self, block: int, tokens: TokenSet) -> Tensor:
        """Run the head after ``block`` and return its class scores (T, K) of the tokens."""
        return self.head_at[block].token_scores(tokens, *self.run_head(block, tokens))

    def run_head(self, block: int, tokens: TokenSet) -> tuple[Tensor, Tensor | None]:
        """Run the head after ``block``, add its output and return its logits as ``TokenHead.forward`` does."""
        head = self.head_at[block]
        logits, class_logits = head(tokens)
        earlier = [b for b in self.outputs if b < block]
        before = self.outputs[max(earlier)] if earlier else None
        mask_logits, scores = (None, None) if before is None else (before.mask_logits, before.scores)
        if mask_logits is not None and self.detach:
            mask_logits = mask_logits.detach()
        if self.keep_scores:
            scores = scatter(scores, tokens, head.token_scores(tokens, logits, class_logits))
        covers = (tokens.grid[0] * self.stride, tokens.grid[1] * self.stride)
        self.outputs[block] = StageOutput(
            scatter(mask_logits, tokens, logits), class_logits, tokens.grid, tokens.prefix, covers, self.size, scores
        )
        return logits, class_logits
