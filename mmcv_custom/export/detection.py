"""A two-stage detector as tensor operations of fixed output size: proposals, heads, NMS, masks.

mmdet's own prediction branches on how many boxes are left, which no traced graph can do. Here every output has a fixed
size, and what is missing is padded with label -1 and score 0. NMS and RoIAlign are torchvision's, which all formats
translate.

Shapes: B images, h x w pixels, N boxes of an image, K classes, R regions of all images, M objects kept of an image.
"""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

from ..errors import ConfigError
from .paste import paste_masks

MASKS = ("roi", "full")


def check_detector(model: nn.Module) -> None:
    """Raise ConfigError if ``model`` is not a two-stage detector that ``DetectorGraph`` can follow."""
    kind, roi_head, rpn = type(model).__name__, getattr(model, "roi_head", None), getattr(model, "rpn_head", None)
    if roi_head is None or rpn is None:
        raise ConfigError(
            f"{kind} is not exported as a whole, Faster, Mask and Cascade R-CNN are: export its features "
            "(--outputs features) and keep its head in PyTorch"
        )
    for cfg, where in ((rpn.test_cfg, "rpn"), (roi_head.test_cfg, "rcnn")):
        if cfg.nms.get("type", "nms") != "nms":
            raise ConfigError(f"test_cfg.{where} has {cfg.nms.type}, which no format has: use dict(type='nms')")
    heads = _listed(roi_head.bbox_head)
    if any(getattr(head, "custom_activation", False) for head in heads):
        raise ConfigError(f"the box head of {kind} has an activation of its own, which is not exported")
    for head in (roi_head.bbox_roi_extractor, getattr(roi_head, "mask_roi_extractor", None)):
        for layer in (part for extractor in _listed(head) for part in extractor.roi_layers):
            if type(layer).__name__ != "RoIAlign" or layer.pool_mode != "avg":
                raise ConfigError(f"{kind} pools regions with {type(layer).__name__}, and RoIAlign is exported only")


class DetectorGraph(nn.Module):
    """Faster, Mask or Cascade R-CNN: boxes (B, M, 4), scores (B, M), labels (B, M) and, with masks, masks.

    Boxes are (x1, y1, x2, y2) in pixels of the input, objects come by descending score, and M is the most that
    ``test_cfg.rcnn`` keeps.

    Args:
        model: mmdet's detector in evaluation mode.
        masks: "roi" for probabilities (B, M, m, m) inside each box (m is 28 in Mask R-CNN), which the user pastes, see
            ``paste_masks``; "full" for bool masks (B, M, h, w).

    Raises:
        ConfigError: ``masks`` is unknown.
    """

    task = "detection"

    def __init__(self, model: nn.Module, masks: str = "roi") -> None:
        super().__init__()
        if masks not in MASKS:
            raise ConfigError(f"masks is {masks!r}: choose one of {', '.join(MASKS)}")
        self.model, self.masks = model, masks
        self.names = ("boxes", "scores", "labels", *(("masks",) if model.roi_head.with_mask else ()))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        size = images.shape[-2:]
        maps = self.model.extract_feat(images)
        proposals = _proposals(self.model.rpn_head, maps, size)
        roi_head = self.model.roi_head
        boxes, scores, labels = _objects(roi_head, maps, proposals, size)
        if not roi_head.with_mask:
            return boxes, scores, labels
        masks = _masks(roi_head, maps, boxes, labels)
        if self.masks == "full":
            pasted = paste_masks(masks.flatten(0, 1), boxes.flatten(0, 1), size).unflatten(0, labels.shape)
            masks = (pasted >= roi_head.test_cfg.mask_thr_binary) & (labels >= 0)[..., None, None]
        return boxes, scores, labels, masks


def _proposals(head: nn.Module, maps: tuple[Tensor, ...], size: tuple[int, int]) -> Tensor:
    """Return the region proposals (B, N, 4), best first; padding has no area."""
    cfg = head.test_cfg
    priors = head.prior_generator.grid_priors([m.shape[-2:] for m in maps], device=maps[0].device)
    found: list[tuple[Tensor, ...]] = []
    for level, (logits, deltas, anchors) in enumerate(zip(*head(maps), priors, strict=True)):
        logits = logits.permute(0, 2, 3, 1).flatten(1)
        deltas = deltas.permute(0, 2, 3, 1).reshape(logits.shape[0], -1, 4)
        keep = min(cfg.nms_pre, logits.shape[1]) if cfg.get("nms_pre", -1) > 0 else logits.shape[1]
        scores, order = logits.sigmoid().topk(keep)
        deltas = deltas.gather(1, order[..., None].expand(-1, -1, 4))
        found.append((scores, _decoded(head.bbox_coder, anchors[order], deltas, size), torch.full_like(order, level)))
    scores, boxes, levels = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    least = cfg.get("min_bbox_size", -1)
    sides = boxes[..., 2:] - boxes[..., :2]
    alive = (sides > least).all(-1) if least >= 0 else torch.ones_like(scores, dtype=torch.bool)
    places, kept, _ = _nms(boxes, scores, levels, len(maps), alive, cfg.nms, cfg.max_per_img)
    return boxes.gather(1, places[..., None].expand(-1, -1, 4)) * kept[..., None]


def _objects(
    roi_head: nn.Module, maps: tuple[Tensor, ...], proposals: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return boxes (B, M, 4), scores (B, M) and labels (B, M)."""
    heads, extractors = _listed(roi_head.bbox_head), _listed(roi_head.bbox_roi_extractor)
    total, rois = 0.0, proposals
    for stage, (head, extractor) in enumerate(zip(heads, extractors, strict=True)):
        features = _pooled(extractor, maps, rois)
        if roi_head.with_shared_head:
            features = roi_head.shared_head(features)
        logits, deltas = head(features)
        logits, total = logits.unflatten(0, rois.shape[:2]), total + logits.unflatten(0, rois.shape[:2])
        classes = 1 if head.reg_class_agnostic else head.num_classes
        deltas = deltas.unflatten(0, rois.shape[:2]).unflatten(-1, (classes, 4))
        if stage < len(heads) - 1:
            best = (
                logits[..., :-1].argmax(-1, keepdim=True) if classes > 1 else torch.zeros_like(logits[..., :1]).long()
            )
            deltas = deltas.gather(2, best[..., None].expand(-1, -1, -1, 4))[:, :, 0]
            # A padded proposal stays one, whatever the head says about it.
            rois = _decoded(head.bbox_coder, rois, deltas, size) * _has_area(rois)[..., None]
    scores = (total / len(heads)).softmax(-1)[..., :-1]
    boxes = _decoded(head.bbox_coder, rois[:, :, None].expand(deltas.shape), deltas, size)
    boxes = boxes.expand(*scores.shape, 4).flatten(1, 2)
    cfg = roi_head.test_cfg
    alive = (scores > cfg.score_thr) & _has_area(rois)[..., None]
    labels = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores).flatten(1)
    places, kept, scores = _nms(
        boxes, scores.flatten(1), labels, heads[-1].num_classes, alive.flatten(1), cfg.nms, cfg.max_per_img
    )
    boxes = boxes.gather(1, places[..., None].expand(-1, -1, 4)) * kept[..., None]
    return boxes, scores * kept, torch.where(kept, labels.gather(1, places), -1)


def _masks(roi_head: nn.Module, maps: tuple[Tensor, ...], boxes: Tensor, labels: Tensor) -> Tensor:
    """Return the mask probabilities (B, M, m, m) inside the boxes, each of its object's class."""
    extractors = _listed(roi_head.bbox_roi_extractor if roi_head.share_roi_extractor else roi_head.mask_roi_extractor)
    heads = _listed(roi_head.mask_head)
    total = 0.0
    for head, extractor in zip(heads, extractors * (len(heads) // len(extractors)), strict=True):
        features = _pooled(extractor, maps, boxes)
        if roi_head.with_shared_head:
            features = roi_head.shared_head(features)
        total = total + head(features).sigmoid()
    masks = (total / len(heads)).unflatten(0, labels.shape)
    if heads[-1].class_agnostic:
        return masks[:, :, 0]
    place = labels.clamp(min=0)[..., None, None, None].expand(-1, -1, 1, *masks.shape[-2:])
    return masks.gather(2, place)[:, :, 0]


def _pooled(extractor: nn.Module, maps: tuple[Tensor, ...], boxes: Tensor) -> Tensor:
    """Return the features (R, C, ph, pw) of the regions ``boxes`` (B, N, 4), each from the level of its size."""
    layers = extractor.roi_layers
    images = torch.arange(boxes.shape[0], device=boxes.device, dtype=boxes.dtype)
    rois = torch.cat([images[:, None, None].expand_as(boxes[..., :1]), boxes], -1).flatten(0, 1)
    levels = extractor.map_roi_levels(rois, len(layers))
    pooled, order = [], []
    for level, (layer, features) in enumerate(zip(layers, maps[: len(layers)], strict=True)):
        rows = (levels == level).nonzero()[:, 0]
        pooled.append(
            torchvision.ops.roi_align(
                features.contiguous(),
                rois.index_select(0, rows),
                layer.output_size,
                layer.spatial_scale,
                layer.sampling_ratio,
                layer.aligned,
            )
        )
        order.append(rows)
    # The levels hold every region once; the size says so to the tracer.
    places = torch.zeros_like(levels).scatter(0, torch.cat(order), torch.arange(rois.shape[0], device=rois.device))
    return torch.cat(pooled).index_select(0, places)


def _nms(
    boxes: Tensor, scores: Tensor, groups: Tensor, number: int, alive: Tensor, cfg: dict, most: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the places (B, M) of the boxes that NMS within each group keeps, best first, whether they exist, scores.

    Args:
        boxes: (B, N, 4).
        scores: (B, N).
        groups: (B, N) from 0 to ``number`` - 1; boxes of different groups do not suppress each other.
        alive: (B, N); the others are left out.
        cfg: of mmdet's NMS.
        most: M.
    """
    batch, total = scores.shape
    offsets = groups + number * torch.arange(batch, device=groups.device)[:, None]
    if cfg.get("class_agnostic", False):
        offsets = torch.zeros_like(groups) + torch.arange(batch, device=groups.device)[:, None]
    # One call for all images and groups, which it sees as far apart.
    moved = boxes + offsets[..., None].to(boxes) * (boxes.max() + 1)
    rows = alive.flatten().nonzero()[:, 0]
    flat, threshold = scores.flatten(), cfg.get("iou_threshold", cfg.get("iou_thr", 0.5))
    chosen = torchvision.ops.nms(moved.flatten(0, 1).index_select(0, rows), flat.index_select(0, rows), threshold)
    rows = rows.index_select(0, chosen)
    kept = torch.full_like(flat, -1.0).scatter(0, rows, flat.index_select(0, rows)).view(batch, total)
    best, places = kept.topk(min(most, total))
    return places, best >= 0, best


def _decoded(coder: nn.Module, anchors: Tensor, deltas: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the boxes (..., 4) of ``deltas`` (..., 4) at ``anchors`` (..., 4)."""
    boxes = coder.decode(anchors.reshape(-1, 4), deltas.reshape(-1, 4), max_shape=tuple(size))
    return boxes.reshape(deltas.shape)


def _has_area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] > boxes[..., :2]).all(-1)


def _listed(part: object) -> list:
    return [] if part is None else [part] if not isinstance(part, (nn.ModuleList, list)) else list(part)
