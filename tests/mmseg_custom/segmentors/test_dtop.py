"""The DToP segmentor and its heads: against an explicit loop over images, other reducers, gradients, errors.

Shapes: B images, T packed tokens, N grid tokens, K classes, C channels.
"""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import mmseg_custom  # noqa: F401 - registers
from mmcv_custom.engine.acceleration import compile_backbone
from mmcv_custom.errors import ConfigError
from mmseg_custom.heads.decoder import CrossAttention, Rows
from mmseg_custom.heads.stages import StageOutput
from mmseg_custom.losses import ATMLoss, Targets
from token_pruning import Trace
from token_pruning.counts import Counts

K, P = 5, 8  # classes, pixels of a patch
DTOP = dict(type="DToP", stages=[1, 2], threshold=0.26, keep_per_class=2)
SEGVIT = dict(type="SegViTHead", in_channels=24, channels=12, num_classes=K, num_heads=3, dropout=0.0)
MLP = dict(type="MLPHead", in_channels=24, channels=12, num_classes=K)


def a_segmentor(reducer=DTOP, head=SEGVIT, class_token=False, out_indices=(1, 2, 3), **more):
    init_default_scope("mmseg")
    torch.manual_seed(1)  # with which tokens exit at both stages
    backbone = dict(
        type="StagedViT",
        img_size=64,
        patch_size=P,
        embed_dim=24,
        depth=4,
        num_heads=3,
        out_indices=list(out_indices),
        reducer=reducer,
        class_token=class_token,
    )
    heads = [dict(head, in_index=i) for i in range(len(out_indices))]
    model = MODELS.build(
        ConfigDict(
            type="DToPSegmentor",
            backbone=backbone,
            auxiliary_head=heads[:-1],
            decode_head=heads[-1],
            **{"test_cfg": dict(mode="whole"), **more},
        )
    )
    for module in model.modules():  # freshly initialised layers give the same scores for every class
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
    return model.eval()


def images(batch=3, height=40, width=72):
    return (
        torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))
        * torch.tensor([0.5, 1.0, 2.0])[:batch, None, None, None]
    )


def samples(batch=3, height=40, width=72):
    return [SegDataSample(gt_sem_seg=PixelData(data=torch.randint(0, K, (1, height, width)))) for _ in range(batch)]


def scores_of(model, image):
    size = tuple(image.shape[-2:])
    return model.inference(image, [dict(img_shape=size, ori_shape=size) for _ in image])


def attend(q, k, v, heads):
    """Return attention of q (n, C) to k and v (m, C) by its definition, and the logits (heads, n, m)."""
    q, k, v = (t.unflatten(1, (heads, -1)).transpose(0, 1) for t in (q, k, v))
    logits = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
    return (logits.softmax(2) @ v).transpose(0, 1).flatten(1), logits


def reference_head(head, x):
    """Return the mask logits (n, K) of one image's tokens (n, C) and the probabilities (K,) that a class is present."""
    memory, queries = head.proj_norm(head.input_proj(x)), head.q.weight
    for layer in head.decoder.layers:
        mixed = F.linear(queries, layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias).chunk(3, dim=1)
        queries = layer.norm1(queries + layer.self_attn.out_proj(attend(*mixed, 3)[0]))
        cross = layer.multihead_attn
        read, logits = attend(cross.q(queries), cross.k(memory), cross.v(memory), 3)
        queries = layer.norm2(queries + cross.proj(read))
        queries = layer.norm3(queries + layer.linear2(layer.linear1(queries).relu()))
    return logits.mean(0).T, head.class_embed(queries).softmax(1)[:, 0]


def reference_scores(model, image, threshold, k):
    """Return the scores (K, H, W) of one image (3, h, w) and the tokens (L, N) that each block computed.

    Token subsets are taken by boolean indexing, and the exit rule is a loop.
    """
    vit = model.backbone
    padded = vit.pad(image[None])
    grid = (padded.shape[-2] // P, padded.shape[-1] // P)
    x = (vit.patch_embed(padded) + vit.positions(grid))[0]
    active, mask_logits, used = torch.ones(len(x), dtype=torch.bool), torch.zeros(len(x), K), []
    for i, block in enumerate(vit.blocks):
        used.append(active.clone())
        x[active] = block(x[active][None])[0]
        if i not in vit.out_indices:
            continue
        logits, present = reference_head(model.heads[vit.out_indices.index(i)], x[active])
        mask_logits[active] = logits
        if i == vit.out_indices[-1]:
            break
        value, label = (mask_logits.sigmoid() * present).max(1)
        easy = active & (value > threshold)
        for c in range(K):
            mine = (easy & (label == c)).nonzero().flatten()
            easy[mine[value[mine].argsort(descending=True)[:k]]] = False
        active = active & ~easy
    return (mask_logits.sigmoid() * present).T.unflatten(1, grid), torch.stack(used)


@pytest.mark.parametrize("size", [(40, 72), (37, 90), (8, 8), (120, 16), (5, 3)])
@torch.no_grad()
def test_a_packed_batch_equals_loops_over_images_on_any_grid(size):
    model, image = a_segmentor(), images(3, *size)
    with Trace() as trace:
        found = scores_of(model, image)
    assert found.shape == (3, K, *size)
    alone = [reference_scores(model, one, DTOP["threshold"], DTOP["keep_per_class"]) for one in image]
    assert torch.equal(trace.passes[0].masks().flatten(2), torch.stack([used for _, used in alone]))
    for ours, (scores, _) in zip(found, alone, strict=True):
        covers = tuple(P * n for n in scores.shape[1:])
        wanted = F.interpolate(scores[None], covers, mode="bilinear")[0, :, : size[0], : size[1]]
        torch.testing.assert_close(ours, wanted, atol=1e-5, rtol=1e-4)
    left = trace.passes[0].keep_ratio()
    if size[0] * size[1] > 2000:  # tokens exit at both stages, and images differ
        assert (left[:, 2] < 1).all() and (left[:, 3] < left[:, 2]).any() and len(left[:, 3].unique()) > 1


@pytest.mark.parametrize("head", [SEGVIT, MLP], ids=lambda h: h["type"])
@pytest.mark.parametrize("class_token", [False, True])
@torch.no_grad()
def test_a_batch_equals_its_images_one_by_one(head, class_token):
    model, image = a_segmentor(dict(DTOP, threshold=0.3), head, class_token), images()
    with Trace() as trace:
        together = scores_of(model, image)
        alone = torch.cat([scores_of(model, one[None]) for one in image])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)
    assert (trace.passes[0].keep_ratio()[:, -1] < 1).all()
    assert trace.passes[0].used[3][:, : int(class_token)].all()


@torch.no_grad()
def test_windows_smaller_than_the_crop_and_images_of_any_size_slide():
    model = a_segmentor(test_cfg=dict(mode="slide", crop_size=(40, 40), stride=(27, 27)))
    for size in ((40, 40), (30, 100), (61, 47)):
        found = scores_of(model, images(2, *size))
        assert found.shape == (2, K, *size) and found.isfinite().all()


@pytest.mark.parametrize(
    "reducer",
    [
        None,
        dict(type="DToP", stages=[1], threshold=None),
        dict(type="ToMe", r=3),
        dict(type="SViT", keep_ratio=0.5),
        dict(type="ATS", keep_ratio=0.5),
    ],
    ids=lambda r: r["type"] if r else "dense",
)
def test_without_thresholds_the_auxiliary_heads_train_and_do_not_run_at_test_time(reducer):
    model = a_segmentor(reducer, class_token=True)
    ran = []
    for head in model.auxiliary_head:
        head.register_forward_hook(lambda *_: ran.append(1))
    with torch.no_grad():
        assert scores_of(model, images()).isfinite().all() and not ran
    losses = model.train().loss(images(), samples())
    assert len(ran) == 2 and {"aux_0.loss_mask", "aux_1.loss_dice", "decode.loss_ce", "decode.acc_seg"} <= set(losses)
    assert ("loss_ratio" in losses) == (reducer is not None and reducer["type"] == "SViT")
    model.parse_losses(losses)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("reducer", [None, dict(type="ToMe", r=3)], ids=["dense", "ToMe"])
@torch.no_grad()
def test_what_has_fixed_shapes_compiles(reducer):
    model = a_segmentor(reducer)
    wanted = scores_of(model, images())
    compile_backbone(model, backend="eager")
    torch.testing.assert_close(scores_of(model, images()), wanted, atol=1e-5, rtol=1e-4)


def test_dtop_is_not_compiled():
    with pytest.raises(ConfigError, match="DToP keeps as many tokens as an image needs"):
        compile_backbone(a_segmentor(), backend="eager")


def test_a_stage_without_a_threshold_changes_nothing_for_the_others():
    """Its head trains on the kept tokens, and the mask logits of later heads are as if it had not run."""
    model = a_segmentor(dict(DTOP, threshold=[0.26, None]))
    with torch.no_grad(), Trace() as trace:
        tested = model.extract_feat(images())
        model.train()
        trained = model.extract_feat(images())
    assert tested[1] is None and trained[1] is not None
    assert torch.equal(tested[2].mask_logits, trained[2].mask_logits)
    gone = ~trace.passes[1].used[2]
    assert gone.any() and torch.equal(trained[1].mask_logits[gone], trained[0].mask_logits[gone])


@pytest.mark.parametrize("detach", [False, True])
def test_gradients_go_through_carried_mask_logits_unless_detached(detach):
    model = a_segmentor(detach_mask_logits=detach).train()
    losses = model.loss(images(), samples())
    sum(v for k, v in losses.items() if k.startswith("decode.loss")).backward()
    grads = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.auxiliary_head[0].parameters()]
    assert any(grads) != detach


@torch.no_grad()
def test_early_scores_can_be_final():
    """An exited token is then predicted with its scores at that stage; mask logits and other tokens do not change."""
    model = a_segmentor(early_scores="final")
    with Trace() as trace:
        first, _, last = model.extract_feat(images())
    left = trace.passes[0].last_use() == 1
    final, early = model.decode_head.score_map(last), model.auxiliary_head[0].score_map(first)
    model.early_scores = "reweighed"
    _, _, published = model.extract_feat(images())
    reweighed = model.decode_head.score_map(published)
    there = trace.passes[0].used[3].unflatten(1, (5, 9))
    assert left.any() and there.any() and torch.equal(last.mask_logits, published.mask_logits)
    for ours, theirs, where in ((final, early, left), (final, reweighed, there)):
        # Of packed tokens and of a map, the same products may round differently in the last bit.
        torch.testing.assert_close(ours.movedim(1, -1)[where], theirs.movedim(1, -1)[where], atol=1e-6, rtol=1e-6)
    assert not torch.equal(final, reweighed)


def test_training_reaches_every_parameter_and_logs_what_goes_on():
    model = a_segmentor(class_token=True).train()
    losses = model.loss(images(), samples())
    assert 0 < losses["keep_ratio.2"] < losses["keep_ratio.1"] < 1
    model.parse_losses(losses)[0].backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []
    assert {k.split(".")[0] for k in losses} == {"decode", "aux_0", "aux_1", "keep_ratio"}


@torch.no_grad()
def test_no_state_is_left_and_an_image_of_nan_harms_no_other():
    model, image = a_segmentor(), images()
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    wanted = scores_of(model, image)
    image[1] = torch.nan
    found = scores_of(model, image)
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]], atol=1e-5, rtol=1e-4)
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()


@torch.no_grad()
def test_half_precision_decides_in_single():
    model, seen = a_segmentor(), []
    score_fn = model.auxiliary_head[0].token_scores
    model.auxiliary_head[0].token_scores = lambda *args: seen.append(score_fn(*args)) or seen[-1]
    with torch.autocast("cpu", torch.bfloat16):
        assert scores_of(model, images()).isfinite().all()
    assert seen[0].dtype == torch.float32


@torch.no_grad()
def test_an_image_may_lose_all_its_tokens():
    model = a_segmentor(dict(DTOP, threshold=1e-6, keep_per_class=0))
    with Trace() as trace:
        assert scores_of(model, images()).isfinite().all()
    assert not trace.passes[0].used[2].any()


@pytest.mark.parametrize("counts", [(4, 4), (5, 0, 3, 1), (0, 0), (7,)])
def test_queries_look_at_their_own_image(counts):
    torch.manual_seed(0)
    attention, tokens = CrossAttention(12, 3, 0.0), torch.randn(sum(counts), 12, requires_grad=True)
    queries = torch.randn(len(counts), K, 12)
    out, masks = attention(queries, tokens, Rows(Counts.of(counts), tokens.device), True)
    assert masks.shape == (sum(counts), K)
    parts = zip(queries, tokens.split(counts), masks.split(counts), out, strict=True)
    for query, own, mask, read in parts:
        wanted, logits = attend(attention.q(query), attention.k(own), attention.v(own), 3)
        torch.testing.assert_close(read, attention.proj(wanted), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mask, logits.mean(0).T, atol=1e-5, rtol=1e-4)
    (out.sum() + masks.sum()).backward()
    assert tokens.grad.isfinite().all()


def test_ignored_pixels_can_be_left_out_of_the_masks():
    torch.manual_seed(0)
    labels, masks, logits = torch.randint(0, K, (2, 16, 16)), torch.randn(2, K, 16, 16), torch.randn(2, K, 2)
    labels[:, :, 8:] = 255
    narrow = Targets.of(labels[..., :8], K)
    found = ATMLoss(ignored="left_out")(logits, masks, Targets.of(labels, K))
    wanted = ATMLoss()(logits, masks[..., :8], narrow)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name])
    assert not torch.isclose(ATMLoss()(logits, masks, Targets.of(labels, K))["loss_mask"], found["loss_mask"])


def test_labels_of_another_size_are_compared_at_their_own():
    torch.manual_seed(0)
    model, image = a_segmentor().train(), images()
    losses = model.loss(image, samples(3, 20, 36))
    assert all(v.isfinite() for k, v in losses.items() if "loss" in k)
    stage = StageOutput(torch.randn(1, 6, 2), None, (2, 3), 0, (16, 24), (13, 20))
    maps = stage.map(stage.mask_logits)
    pixels = F.interpolate(maps, (16, 24), mode="bilinear")[..., :13, :20]
    assert torch.equal(stage.to_pixels(maps), pixels)
    assert torch.equal(stage.to_pixels(maps, (26, 40)), F.interpolate(pixels, (26, 40), mode="bilinear"))


@pytest.mark.parametrize(
    "kwargs, error, sentence",
    [
        (dict(out_indices=(1, 3)), ConfigError, "the reducer's stages .2. have no auxiliary head"),
        (dict(head=dict(SEGVIT, num_heads=5)), ValueError, "12 channels cannot be split into 5 heads"),
        (dict(head=dict(SEGVIT, layers_per_decoder=0)), ValueError, "layers_per_decoder is 0"),
        (
            dict(head=dict(SEGVIT, loss_decode=dict(type="ATMLoss", ignored="no"))),
            ValueError,
            "ignored is 'no'; choose",
        ),
        (dict(early_scores="late"), ConfigError, "early_scores is 'late'; choose 'reweighed' or 'final'"),
        (dict(auxiliary_head=None), ConfigError, "the backbone has 3 stage ends .* and the heads have in_index .2."),
        (dict(decode_head=dict(SEGVIT, in_index=1)), ConfigError, "heads have in_index .0, 1, 1."),
        (
            dict(decode_head=dict(type="FCNHead", in_channels=24, channels=24, num_classes=K)),
            ConfigError,
            "cannot use FCNHead: it needs a StagedViT and heads on token sets",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(kwargs, error, sentence):
    init_default_scope("mmseg")
    heads = {k: kwargs.pop(k) for k in ("auxiliary_head", "decode_head") if k in kwargs}
    with pytest.raises(error, match=sentence):
        if not heads:
            a_segmentor(**kwargs)
        backbone = dict(type="StagedViT", img_size=64, embed_dim=24, depth=4, num_heads=3, out_indices=[1, 2, 3])
        ours = dict(auxiliary_head=[dict(SEGVIT, in_index=i) for i in (0, 1)], decode_head=dict(SEGVIT, in_index=2))
        MODELS.build(ConfigDict(type="DToPSegmentor", backbone=backbone, **{**deepcopy(ours), **heads}))


def test_a_frozen_segmentor_trains_its_reducer():
    model = a_segmentor(reducer=dict(type="SViT", blocks=[2, 3]), frozen=True).train()
    assert not model.backbone.training and model.backbone.reducer.training
    losses = model.loss(images(), samples())
    model.parse_losses(losses)[0].backward()
    assert losses["loss_ratio"] > 0
    assert {n.split(".")[1] for n, p in model.named_parameters() if p.grad is not None} == {"reducer"}
