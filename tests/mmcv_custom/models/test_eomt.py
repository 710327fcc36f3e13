"""EoMT's encoder and head under every method: batches, masks, training, costs, and what they refuse."""

import copy
import pickle

import pytest
import torch
from reducers import VARIANTS, criterion, reduced
from torch.utils.flop_counter import FlopCounterMode

from mmcv_custom.models.eomt import EoMTEncoder, even_windows, on_black, predictions, visible_positions
from mmcv_custom.models.eomt_head import EoMTHead
from token_pruning import METHODS, SettingError, Trace, collect_losses, count_flops
from token_pruning.analysis.flops import FORMULAS
from token_pruning.host import is_host

DIM, DEPTH, QUERIES, SIZE = 24, 4, 5, 96
NAMES = ["vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3_qkvb"]
USABLE = [v for v in VARIANTS if not METHODS[v.values[0]["type"]].needs_class_scores]


def a_model(reducer=None, name=NAMES[0], blocks=2, **kwargs):
    torch.manual_seed(0)
    encoder = EoMTEncoder(
        model_name=name,
        img_size=SIZE,
        embed_dim=DIM,
        depth=DEPTH,
        num_heads=2,
        model_args=dict(init_values=1.0),
        num_queries=QUERIES,
        query_blocks=blocks,
        reducer=reducer,
        **kwargs,
    )
    for parameter_name, parameter in encoder.named_parameters():
        if parameter_name.endswith("qkv.weight"):
            torch.nn.init.normal_(parameter, std=0.3)
    return encoder.eval(), EoMTHead(DIM, 4).eval()


def images(batch=3):
    return torch.randn(batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("masked", [0.0, 1.0])
@pytest.mark.parametrize("reducer", USABLE)
def test_a_batch_equals_its_images(reducer, masked):
    if reducer.get("mode") == "sample":
        pytest.skip("draws its tokens")
    encoder, head = a_model(reduced(reducer, grid=36))
    encoder.mask_probs = [masked] * 2
    with torch.no_grad():
        together = predictions(encoder, head, images())
        alone = [predictions(encoder, head, one[None]) for one in images()]
    assert len(together) == (3 if masked else 1)
    for k, pair in enumerate(together):
        for j, value in enumerate(pair):
            assert value.isfinite().all()
            torch.testing.assert_close(value, torch.cat([one[k][j] for one in alone]), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reducer", [v for v in USABLE if len(v.values[0]) == 1])
def test_training_reaches_everything(reducer, name):
    encoder, head = a_model(reduced(reducer, grid=36), name, with_cp=True)
    encoder.train()
    encoder.mask_probs = [1.0, 0.5]
    with collect_losses(criterion) as losses:
        found = predictions(encoder, head, images(2))
    assert len(found) == 3
    total = sum(classes.square().mean() + masks.square().mean() for classes, masks in found)
    (total + sum(v for k, v in losses.items() if "loss" in k)).backward()
    assert [n for n, p in (*encoder.named_parameters(), *head.named_parameters()) if p.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
def test_tome_before_the_queries_keeps_them_and_the_map(name):
    encoder, head = a_model(dict(type="ToMe", r=8, blocks=[0, 1]), name)
    with torch.no_grad(), Trace() as trace:
        queries, features = encoder(images())
        classes, masks = head(queries, features)
    assert queries.shape == (3, QUERIES, DIM) and features.shape == (3, DIM, 6, 6)
    assert classes.shape == (3, QUERIES, 5) and masks.shape == (3, QUERIES, 24, 24)
    (one,) = trace.passes
    assert one.keep_ratio()[0].tolist() == pytest.approx([1, 28 / 36, 20 / 36, 20 / 36])
    tokens = [one.used[i].sum(1)[0].item() for i in range(4)]
    assert tokens == [41, 33, 25 + QUERIES, 25 + QUERIES]


def test_queries_may_enter_before_the_first_block():
    encoder, head = a_model(dict(type="ToMe", r=4), blocks=DEPTH)
    encoder.train()
    assert len(predictions(encoder, head, images(1))) == DEPTH + 1


def test_a_mask_keeps_a_query_from_patches_only():
    logits = torch.full((1, 2, 24, 24), -1.0)
    logits[:, 0, :12] = 1.0
    visible = visible_positions(logits, (6, 6), prefix=7)
    assert visible.shape == (1, 43, 2) and (visible[:, :7] > 0).all()
    rows = visible[0, 7:].view(6, 6, 2) > 0
    assert rows[:3, :, 0].all() and not rows[3:, :, 0].any() and not rows[..., 1].any()
    drawn = visible_positions(logits.expand(200, -1, -1, -1), (6, 6), 0, probability=0.5)
    shares = (drawn == torch.inf).all(1).float().mean(0)
    assert ((shares - 0.5).abs() < 0.12).all()


def test_without_a_head_nothing_is_masked():
    encoder, head = a_model()
    plain = encoder(images())[0]
    encoder.mask_probs = [1.0, 1.0]
    assert torch.equal(encoder(images())[0], plain)
    assert not torch.allclose(encoder(images(), head)[0], plain)


def test_it_is_a_host_that_copies_and_saves():
    encoder, _ = a_model(dict(type="ToMe", r=4))
    encoder.mask_probs = [0.25, 1.0]
    assert is_host(encoder)
    for other in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert other.mask_probs == (0.25, 1.0)
        assert torch.equal(other(images())[1], encoder(images())[1])
        next(other.parameters()).data.zero_()  # its own
        assert not torch.equal(other(images())[1], encoder(images())[1])


def test_costs_are_told_apart():
    encoder, head = a_model()
    model = torch.nn.ModuleDict(dict(encoder=encoder, head=head))
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=FORMULAS) as counter:
        head(*encoder(images(1)))
    by_module = {name: sum(ops.values()) for name, ops in counter.get_flop_counts().items()}
    product = 2 * QUERIES * DIM * 24 * 24
    stages = sum(2 * 4 * DIM * DIM * cells + 2 * 9 * DIM * 4 * cells for cells in (36, 144))
    assert by_module["EoMTHead.mask_product"] == product
    assert by_module["EoMTHead.upscale"] == stages
    linear = 2 * QUERIES * DIM * (5 + 3 * DIM)
    assert by_module["EoMTHead"] == product + stages + linear
    with torch.no_grad(), count_flops() as flops:
        predictions(encoder, head, images(1))
    assert flops.total == by_module["EoMTEncoder"] + by_module["EoMTHead"]
    assert len(list(model.parameters())) > 0


def test_windows():
    assert even_windows(96, 96) == [0] and even_windows(80, 96) == [0]
    assert even_windows(168, 96) == [0, 72]
    assert even_windows(2048, 1024) == [0, 1024]
    starts = even_windows(1000, 384)
    assert len(starts) == 3 and starts[0] == 0 and starts[-1] + 384 == 1000


def test_padding_is_black():
    class Preprocessor(torch.nn.Module):
        mean, std = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1), torch.tensor([2.0, 2.0, 2.0]).view(3, 1, 1)

    padded = on_black(torch.ones(1, 3, 4, 6), (8, 5), Preprocessor())
    assert padded.shape == (1, 3, 8, 6) and (padded[..., :4, :] == 1).all()
    assert padded[0, :, 4:].flatten(1).unique(dim=1).flatten().tolist() == [-0.5, -1.0, -1.5]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            dict(blocks=5),
            "5 queries in the last 5 blocks do not fit a ViT of 4 blocks: .* from 1 to 4",
        ),
        (dict(blocks=0), "query_blocks from 1 to 4"),
        (dict(name="vit_small_patch14_reg5_dinov2"), "timm has no model 'vit_small_patch14_reg5_dinov2'"),
        (dict(patch_size=20), "img_size is 96: give multiples of the patch of 20 pixels"),
        (dict(reducer=dict(type="DToP")), "DToP drops tokens on class scores of patches, and EoMT predicts classes"),
        (dict(execution="fast"), "choose 'exact' or 'capacity'"),
    ],
)
def test_settings_that_cannot_be(change, message):
    with pytest.raises(SettingError, match=message):
        a_model(**change)


def test_inputs_that_cannot_be():
    encoder, head = a_model()
    with pytest.raises(SettingError, match="an image of 96 x 80 pixels does not fit an EoMTEncoder made for 96 x 96"):
        encoder(torch.zeros(1, 3, 96, 80))
    with pytest.raises(SettingError, match=r"mask_probs is \[1.0\]: give a probability for each of 2 blocks"):
        encoder.mask_probs = [1.0]
    with pytest.raises(SettingError, match="'swin_tiny_patch4_window7_224' cannot be a backbone"):
        EoMTEncoder(model_name="swin_tiny_patch4_window7_224")
    with pytest.raises(SettingError, match="block 3 attends in windows and is one of the last 2"):
        a_model(class_token=False, window_attn=[True, False, False, True], window_size=3)
    a_model(class_token=False, window_attn=[True, True, False, False], window_size=3)
    class_scores_off = dict(type="DToP", threshold=None)  # prunes nothing, so it needs none
    assert a_model(class_scores_off)[0](images())[1].isfinite().all()


def test_masked_attention_needs_known_counts():
    encoder, head = a_model(dict(type="SViT", blocks=[2, 3], keep_ratio=0.5), execution="capacity")
    encoder.mask_probs = [1.0, 1.0]
    with torch.no_grad(), pytest.raises(SettingError, match="masked attention needs .* use execution='exact'"):
        encoder(images(), head)
    encoder.mask_probs = [0.0, 0.0]
    with torch.no_grad():
        assert encoder(images(), head)[1].isfinite().all()


@pytest.mark.parametrize(
    "reducer", [None, dict(type="ToMe", r=6), dict(type="EViT"), dict(type="SViT", keep_ratio=0.5)]
)
def test_plain_inference_is_one_graph(reducer):
    encoder, head = a_model(reducer, execution="capacity")
    with torch.no_grad():
        wanted = encoder(images(2))
        found = torch.compile(encoder.forward, fullgraph=True, dynamic=False, backend="eager")(images(2))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_half_precision():
    encoder, head = a_model(dict(type="ToMe", r=6))
    encoder.mask_probs = [1.0, 1.0]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for classes, masks in predictions(encoder, head, images(2)):
            assert classes.isfinite().all() and masks.isfinite().all()


def test_a_frozen_encoder_learns_queries_only():
    encoder, _ = a_model(frozen=True)
    assert [name for name, parameter in encoder.named_parameters() if parameter.requires_grad] == ["query.weight"]
