"""CubistMerge in windows and with rotary positions: the reduced grid is computed as a plain, smaller one."""

import pytest
import timm
import torch
from reducers import images, scattered

import token_pruning
from token_pruning import PlainViT, StackForward, TokenSet, build_reducer, count_flops
from token_pruning.apply import _rope_of
from token_pruning.components.grid_merging import RULES, lines_left, merge_grid

DIM, DEPTH = 24, 4
WINDOWS = dict(window_attn=[True, False, True, False], window_size=4)


def a_vit(reducer=None, **kwargs):
    torch.manual_seed(0)
    return scattered(PlainViT(img_size=64, embed_dim=DIM, depth=DEPTH, num_heads=2, reducer=reducer, **kwargs)).eval()


def reduced_in(r, **kwargs):
    return dict(type="CubistMerge", r=r, window_size=4, **kwargs)


def forward(vit, x):
    stack = vit.start(x)
    stack.run(0, DEPTH - 1)
    return stack.finish()


@pytest.mark.parametrize("grid", [(8, 8), (4, 12), (9, 7), (3, 2), (1, 5)])
@pytest.mark.parametrize("r", [(1, 1), (2, 1), (0, 2)])
def test_each_window_is_reduced_as_if_it_were_alone(grid, r):
    x = torch.randn(2, grid[0] * grid[1], DIM, generator=torch.Generator().manual_seed(0))
    merged = merge_grid(x, grid, r, window=4)
    assert merged.grid == tuple(lines_left(n, lines, 4) for n, lines in zip(grid, r, strict=True))
    found, wanted = merged.x.unflatten(1, merged.grid), x.unflatten(1, grid)
    top = 0
    for y in range(0, grid[0], 4):
        left, high = 0, 0
        for z in range(0, grid[1], 4):
            part = wanted[:, y : y + 4, z : z + 4]
            alone = merge_grid(part.flatten(1, 2), tuple(part.shape[1:3]), r)
            high, wide = alone.grid
            here = found[:, top : top + high, left : left + wide]
            assert torch.equal(here.flatten(1, 2), alone.x)
            # Whole windows of the smaller grid begin where its windowed attention lets them begin.
            assert (top, left) == (y // 4 * (4 - r[0]), z // 4 * (4 - r[1]))
            left += wide
        top += high
    assert (top, left) == merged.grid


@pytest.mark.parametrize("size", [(128, 128), (144, 112), (48, 32)])
@torch.no_grad()
def test_windowed_blocks_run_on_the_smaller_grid(size):
    """The blocks after the merge give what a dense model of smaller windows gives on the merged map."""
    vit, x = a_vit(reduced_in(1, block=1), **WINDOWS), images(2, *size)
    stack = vit.start(x)
    stack.run(0, 0)
    grid = stack.tokens.grid
    merged = merge_grid(stack.map(), grid, (1, 1), window=4)
    stack.run(1, DEPTH - 1)
    assert stack.tokens.subgrid.grid == merged.grid
    small = a_vit(window_attn=WINDOWS["window_attn"], window_size=3)
    small.load_state_dict(vit.state_dict())
    plain = StackForward(small.blocks, None, merged.x, merged.grid)
    plain.run(1, DEPTH - 1)
    torch.testing.assert_close(stack.tokens.by_image(stack.tokens.x), plain.map())
    places = merged.place[..., None].expand(-1, -1, DIM)
    torch.testing.assert_close(stack.finish(), plain.map().gather(1, places))


@torch.no_grad()
def test_windows_of_a_batch_equal_those_of_single_images_and_cost_less():
    dense, vit, x = a_vit(**WINDOWS), a_vit(reduced_in(2, block=0), **WINDOWS), images(3, 144, 112)
    torch.testing.assert_close(forward(vit, x), torch.cat([forward(vit, one[None]) for one in x]))
    with count_flops() as more:
        wanted = forward(dense, x)
    with count_flops() as less:
        forward(vit, x)
    assert less.by_operator["aten.addmm"] < 0.4 * more.by_operator["aten.addmm"]
    attention = "aten._scaled_dot_product_flash_attention_for_cpu"
    assert less.by_operator[attention] < 0.1 * more.by_operator[attention]
    torch.testing.assert_close(forward(a_vit(reduced_in(0), **WINDOWS), x), wanted)


@torch.no_grad()
def test_a_host_may_change_the_map_of_windowed_blocks_between_blocks():
    vit, x = a_vit(reduced_in(1, block=0), **WINDOWS), images(2, 144, 112)
    stack = vit.start(x)
    stack.run(0, 1)
    stack.update(stack.map())
    stack.run(2, DEPTH - 1)
    torch.testing.assert_close(stack.finish(), forward(vit, x), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_rotary_positions_are_those_of_the_smaller_grid():
    vit, x = (
        a_vit(dict(type="CubistMerge", r=(1, 2), block=2), model_name="eva02_tiny_patch14_224", patch_size=16),
        images(2, 96, 96),
    )
    stack = vit.start(x)
    stack.run(0, 1)
    merged = merge_grid(stack.map(), (6, 6), (1, 2))
    start = torch.cat([stack.map(with_prefix=True)[:, :1], merged.x], dim=1)
    plain = StackForward(vit.blocks, None, start, merged.grid, 1, rope=vit.rotary_positions(merged.grid))
    plain.run(2, DEPTH - 1)
    stack.run(2, DEPTH - 1)
    torch.testing.assert_close(stack.tokens.by_image(stack.tokens.x), plain.map(with_prefix=True))


@pytest.mark.parametrize("name, patch", [("eva02_tiny_patch14_224", 14), ("vit_small_patch16_dinov3", 16)])
@torch.no_grad()
def test_rotary_models_of_timm_compile_and_export(name, patch):
    torch._dynamo.reset()
    options = dict(depth=2, embed_dim=48, num_heads=3, num_classes=3)
    model = timm.create_model(name, img_size=5 * patch, **options).eval()
    small = timm.create_model(name, img_size=(3 * patch, 4 * patch), dynamic_img_size=False, **options)
    assert torch.equal(_rope_of(model.rope, (3, 4)), small.rope.get_embed())
    token_pruning.apply(model, dict(type="CubistMerge", r=(1, 2)))
    x = images(2, 5 * patch, 5 * patch)
    wanted = model(x)
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(compiled(x), wanted)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), wanted)


@pytest.mark.parametrize(
    "reducer, windows, sentence",
    [
        (
            dict(type="CubistMerge", block=0),
            WINDOWS,
            "block 0 attends in windows of 4, and CubistMerge reduces the grid",
        ),
        (reduced_in(1), dict(WINDOWS, window_size=5), "windows of 5, and CubistMerge reduces windows of 4; set its"),
        (dict(type="ToMe", blocks=[2]), WINDOWS, "block 2 attends in windows, which need every token"),
    ],
)
def test_windows_that_do_not_fit_are_one_sentence(reducer, windows, sentence):
    with pytest.raises(ValueError, match=sentence):
        a_vit(reducer, **windows)


def test_windowed_blocks_before_the_merge_may_have_any_window():
    a_vit(dict(type="CubistMerge", block=3), **WINDOWS)
    a_vit(reduced_in(1, block=1), **dict(WINDOWS, window_size=[5, None, 4, None]))


def test_a_merge_of_too_many_or_after_another_reduction():
    x = torch.zeros(2, 24, DIM)
    for r in (3, 4, 100, 0.9):  # at most half goes
        merge = build_reducer(dict(type="CubistMerge", r=r), DIM, DEPTH)
        assert merge.enter_block(1, TokenSet.full(x, (4, 6)), None).subgrid.grid == (2, 3)
    one = TokenSet.full(x[:, :1], (1, 1))
    assert merge.enter_block(1, one, None) is one
    broken = TokenSet.full(x, (4, 6)).select(torch.arange(48) % 2 == 0)
    with pytest.raises(ValueError, match="needs all tokens of the grid, and some were dropped or merged before"):
        merge.enter_block(1, broken, None)


@torch.no_grad()
def test_a_token_of_nan_changes_no_other_image():
    x = torch.randn(3, 24, DIM, generator=torch.Generator().manual_seed(0))
    broken = x.clone()
    broken[1, 7] = torch.nan
    for rule in RULES:  # place 7 is merged away, and its NaN stays
        merge = build_reducer(dict(type="CubistMerge", r=1, rule=rule), DIM, DEPTH)
        clean, found = (merge.enter_block(1, TokenSet.full(part, (4, 6)), None).restore() for part in (x, broken))
        assert torch.equal(found[[0, 2]], clean[[0, 2]]) and found[1].isnan().any()


def test_a_host_with_one_rotary_table_is_one_sentence():
    vit = a_vit(dict(type="CubistMerge"), model_name="eva02_tiny_patch14_224", patch_size=16, class_token=False)
    stack = StackForward(vit.blocks, vit.reducer, torch.zeros(1, 16, DIM), (4, 4), rope=vit.rotary_positions((4, 4)))
    with pytest.raises(ValueError, match="pass rope_of to StackForward"):
        stack.run(0, 1)
