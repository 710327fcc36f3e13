"""APT: patches of several sizes on images that no size divides, on timm's models, and methods that go on with them."""

import pytest
import timm
import torch
from reducers import scattered

import token_pruning
from token_pruning import PlainViT, StackForward, Trace
from token_pruning.components.per_image import change, join, split

DIM, DEPTH = 24, 4
FOLLOWERS = [
    dict(type="ToMe", r=1),
    dict(type="EViT", blocks=[1, 2], keep_ratio=0.6),
    dict(type="PPT", r=1, blocks=[1, 2]),
    dict(type="ATS", blocks=[1, 2], keep_ratio=0.6),
    dict(type="Random", blocks=[1, 2], keep_ratio=0.6),
]


def a_vit(then=None, **kwargs):
    torch.manual_seed(0)
    reducer = dict(type="APT", thresholds=(5.0, 4.0), then=then)
    options = dict(img_size=96, patch_size=8, embed_dim=DIM, depth=DEPTH, num_heads=3, class_token=True)
    vit = scattered(PlainViT(**{**options, "reducer": reducer, **kwargs})).eval()
    if vit.reducer is not None and hasattr(vit.reducer, "zero_conv"):
        torch.nn.init.normal_(vit.reducer.zero_conv.weight, std=0.1)
    return vit


def images(*flat, size=(96, 96)):
    """Return noise in which the first ``flat`` rows of pixels of each image are of one colour."""
    x = torch.randn(len(flat), 3, *size, generator=torch.Generator().manual_seed(3))
    for image, rows in zip(x, flat, strict=True):
        image[:, :rows] = image[:, :1, :1]
    return x


def forward(vit, x):
    stack = vit.start(x)
    stack.run(0, DEPTH - 1)
    return stack.finish(with_prefix=True)


@torch.no_grad()
def test_flat_parts_are_large_patches_and_fill_their_positions():
    vit = a_vit()
    tokens = vit.start(images(0, 16, 32, 96)).tokens
    # 12 x 12 patches; 16 rows hold 6 of 2 x 2, 32 rows 3 of 4 x 4.
    assert tokens.counts == (1 + 144, 1 + 120 + 6, 1 + 96 + 3, 1 + 9)
    dense = tokens.restore()[:, 1:].unflatten(1, (12, 12))
    large = dense[2].view(3, 4, 3, 4, DIM)[0]
    assert torch.equal(large, large[:1, :, :1].expand_as(large)) and not torch.equal(large[:, 0], large[:, 1])
    vit.reducer = None
    plain = vit.start(images(0, 16, 32, 96)).map().unflatten(1, (12, 12))
    assert torch.equal(dense[0], plain[0]) and torch.equal(dense[2, 4:], plain[2, 4:])


@pytest.mark.parametrize("size", [(104, 88), (40, 72), (24, 8), (8, 8)])
@torch.no_grad()
def test_what_holds_no_whole_patch_of_a_size_has_smaller_ones(size):
    x, vit = images(size[0], size[0], size=size), a_vit()
    tokens, (rows, columns) = vit.start(x).tokens, (size[0] // 8, size[1] // 8)
    fours = (rows // 4) * (columns // 4)
    twos = (rows // 2) * (columns // 2) - 4 * fours
    assert tokens.counts == (1 + fours + twos + rows * columns - 16 * fours - 4 * twos,) * 2
    assert forward(vit, x).shape == (2, 1 + rows * columns, DIM)


@torch.no_grad()
def test_at_the_start_of_training_a_large_patch_is_the_resized_patch():
    vit = a_vit(class_token=False)
    torch.nn.init.zeros_(vit.reducer.zero_conv.weight)
    vit.pos_embed.zero_()
    x = images(0)
    x[:, :, :16, :16] = x[:, :, ::2, ::2][:, :, :8, :8].repeat_interleave(2, 2).repeat_interleave(2, 3).mul(0.01)
    tokens = vit.start(x).tokens
    wanted = vit.patch_embed(x[:, :, :16:2, :16:2])
    torch.testing.assert_close(tokens.x[:1], wanted[0])


@pytest.mark.parametrize("then", FOLLOWERS, ids=lambda then: then["type"])
@torch.no_grad()
def test_a_method_goes_on_with_these_tokens_image_by_image(then):
    vit, x = a_vit(then), images(0, 16, 32, 96)
    with Trace() as trace:
        together = forward(vit, x)
        singles = torch.cat([forward(vit, one[None]) for one in x])
    assert torch.equal(trace.passes[0].masks(), torch.cat([one.masks() for one in trace.passes[1:]]))
    torch.testing.assert_close(together, singles, atol=1e-5, rtol=1e-4)
    plain = a_vit(reducer=then)
    plain.load_state_dict(vit.state_dict(), strict=False)
    torch.testing.assert_close(forward(plain, x[:1]), together[:1], atol=1e-5, rtol=1e-4)  # it has no large patch
    alone = a_vit()
    alone.load_state_dict(vit.state_dict())
    assert not torch.allclose(forward(alone, x[1:2]), together[1:2], atol=1e-3)


@torch.no_grad()
def test_split_sets_join_to_the_same_set():
    vit = a_vit(dict(type="PPT", r=2, blocks=[1, 2], threshold=0.0))
    stack = vit.start(images(16, 32, 96))
    stack.run(0, 1)
    tokens = stack.tokens
    again = join(split(tokens))
    assert again.counts == tokens.counts and torch.equal(again.index, tokens.index)
    assert torch.equal(again.x, tokens.x) and torch.equal(again.assignment, tokens.assignment)
    assert torch.equal(again.restore(), tokens.restore())
    assert change(lambda part: part, tokens) is tokens


@pytest.mark.parametrize(
    "name, options",
    [
        ("vit_tiny_patch16_224", dict(img_size=64)),
        ("vit_tiny_patch16_224", dict(img_size=64, dynamic_img_size=True)),
        ("vit_tiny_patch16_224", dict(img_size=64, dynamic_img_size=True, dynamic_img_pad=True)),
        ("vit_small_patch14_reg4_dinov2", dict(img_size=56)),
        ("vit_base_patch32_clip_224", dict(img_size=128)),
        ("eva02_tiny_patch14_224", dict(img_size=56)),
        ("vit_small_patch16_dinov3", dict(img_size=64)),
    ],
)
@torch.no_grad()
def test_timm_models(name, options):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, depth=2, embed_dim=48, num_heads=3, **options).eval()
    side = options["img_size"] + 8 * ("dynamic_img_pad" in options)
    x = images(0, side, size=(side, side))
    dense = model.forward_features(x)
    token_pruning.apply(model, dict(type="APT"))
    with Trace() as trace:
        found = model.forward_features(x)
    assert trace.passes[0].masks()[1].float().mean() < 0.5
    torch.testing.assert_close(found[:1], dense[:1], atol=1e-4, rtol=1e-4)  # it has no large patch
    torch.testing.assert_close(found[1:], model.forward_features(x[1:]), atol=1e-4, rtol=1e-4)
    # At the start of training, the table of a model of larger patches in place of the smaller ones.
    grid = model.patch_embed.dynamic_feat_size(x.shape[-2:])
    assert found.shape[1] == model.num_prefix_tokens + grid[0] * grid[1]


@torch.no_grad()
def test_a_host_that_keeps_the_image_to_itself_is_one_sentence():
    vit = a_vit()
    with pytest.raises(ValueError, match="APT makes tokens from the image, and this host does not hand it over"):
        StackForward(vit.blocks, vit.reducer, torch.zeros(1, 17, DIM), (4, 4), 1)
    with pytest.raises(ValueError, match="reads the grey values of RGB images, and these have 4 channels"):
        a_vit(in_channels=4).start(torch.zeros(1, 4, 32, 32))


def test_what_the_following_method_needs_is_checked():
    with pytest.raises(ValueError, match="EViT ranks tokens by the class token's attention and this model has none"):
        a_vit(dict(type="EViT"), class_token=False)


def test_windowed_blocks_are_one_sentence():
    with pytest.raises(ValueError, match="block 1 attends in windows, which need every token"):
        a_vit(class_token=False, window_attn=[False, True, False, False])


def test_images_without_a_flat_part_train_every_parameter():
    vit = a_vit().train()
    forward(vit, images(0, 0)).square().mean().backward()
    assert all(p.grad is not None and not p.grad.any() for p in vit.reducer.parameters())
