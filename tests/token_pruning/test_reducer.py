"""Contract of every registered reducer, and of the hooks that ``StackForward`` calls."""

import copy
import importlib.util
import inspect

import pytest
import torch
from reducers import ALL, DEPTH, DIM, SHIFT, VARIANTS, images, keep_all, reduced, scattered, variants

from token_pruning import METHODS, PlainViT, Reducer, Trace, build_reducer, collect_losses
from token_pruning.components.predictors import GATES
from token_pruning.components.token_score import representation_shift
from token_pruning.counts import Counts

# Methods that need no training, each asked to leave as few tokens as it can be asked for.
EXTREMES = [
    dict(type="ALGM", threshold=-1.0),
    dict(type="APT", thresholds=9.0),
    dict(type="ATS", keep_ratio=1e-6),
    dict(type="CubistMerge", r=1000),
    dict(type="EViT", keep_ratio=1e-6),
    dict(type="EViT", keep_ratio=1e-6, **SHIFT),
    dict(type="EvoViT", keep_ratio=1e-6),
    dict(type="MPM", merges=99),
    dict(type="PiToMe", keep_ratio=0.5),
    dict(type="PPT", r=0.99, threshold=0.0),
    dict(type="Random", keep_ratio=1e-6),
    dict(type="ToMe", r=0.99),
]


def a_vit(reducer=None, **kwargs):
    torch.manual_seed(0)
    kwargs.setdefault("class_token", True)
    return PlainViT(img_size=64, embed_dim=DIM, depth=DEPTH, num_heads=3, reducer=reducer, **kwargs).eval()


def forward(vit, image):
    stack = vit.start(image)
    stack.run(0, DEPTH - 1)
    return stack.finish(with_prefix=True)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_keep_all_equals_dense(name):
    dense, pruned = scattered(a_vit()), scattered(a_vit(keep_all(name)))
    pruned.load_state_dict(dense.state_dict(), strict=False)
    torch.testing.assert_close(forward(pruned, images()), forward(dense, images()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reducer", VARIANTS)
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@torch.no_grad()
def test_batch_equals_singles(reducer, autocast):
    vit = scattered(a_vit(reduced(reducer, 0.6)))
    x = images()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), Trace() as trace:
        together = forward(vit, x)
        singles = torch.cat([forward(vit, one[None]) for one in x])
    masks = [p.masks() for p in trace.passes]
    assert torch.equal(masks[0], torch.cat(masks[1:]))
    assert masks[0].float().mean() < 1
    for block, assignment in trace.passes[0].assignment.items():
        assert torch.equal(assignment, torch.cat([p.assignment[block] for p in trace.passes[1:]]))
    torch.testing.assert_close(together, singles, atol=5e-2 if autocast else 1e-5, rtol=1e-4)


def test_ppt_prunes_and_pools_the_images_of_these_tests():
    vit, seen = scattered(a_vit(reduced(dict(type="PPT")))), []
    decide = vit.reducer.decide
    vit.reducer.decide = lambda *args: seen.append(decide(*args)) or seen[-1]
    forward(vit, images())
    pooled = torch.cat([pool for pool, _ in seen])
    assert pooled.any() and not pooled.all()


@pytest.mark.parametrize("name", ["Random", "SViT"])
@torch.no_grad()
def test_tokens_that_no_block_used_are_untouched(name):
    vit = scattered(a_vit(dict(type=name, blocks=[0, 1, 2, 3], keep_ratio=0.3)))
    before = vit.start(images()).map()
    with Trace() as trace:
        after = forward(vit, images())[:, 1:]
    unused = ~trace.passes[0].masks().any(dim=1).flatten(1)
    assert unused.any() and torch.equal(after[unused], before[unused])


@pytest.mark.parametrize("reducer", [v for v in VARIANTS if "preserve=False" not in v.id])
@torch.no_grad()
def test_every_position_has_the_value_of_its_token(reducer):
    """Positions of dropped tokens keep their last value until the tokens return; those of merged tokens share one."""
    vit = scattered(a_vit(reduced(reducer, 0.4)))
    stack = vit.start(images())
    gone, last = torch.zeros(3, 25, dtype=torch.bool), None
    for block in range(DEPTH):
        stack.run(block, block)
        dense_map, tokens = stack.map(with_prefix=True), stack.tokens
        assignment = torch.arange(75) if tokens.assignment is None else tokens.assignment
        there = tokens.members().flatten()[assignment].view(3, 25)
        assert torch.equal(dense_map.flatten(0, 1), dense_map.flatten(0, 1)[assignment])
        returned = getattr(vit.reducer, "fusion", False) and block == DEPTH - 2
        assert (gone & there).any() == returned and there[:, 0].all()
        if last is not None:
            assert torch.equal(dense_map[gone], last[gone])
        gone, last = ~there, dense_map


def state_of(vit):
    """Return every public attribute of every module of ``vit``, and copies of its weights and buffers."""
    attributes = {
        (path, name): value
        for path, module in vit.named_modules()
        for name, value in vars(module).items()
        if not name.startswith("_")
    }
    tensors = {name: tensor.clone() for name, tensor in (*vit.named_parameters(), *vit.named_buffers())}
    # deepcopy: a list or a schedule that a forward changes in place would otherwise be compared with itself.
    return copy.deepcopy(attributes), tensors, vit.reducer.signature()


@pytest.mark.parametrize("reducer", VARIANTS)
@torch.no_grad()
def test_evaluation_is_deterministic_and_leaves_no_state(reducer):
    vit = scattered(a_vit(reduced(reducer)))
    attributes, tensors, signature = state_of(vit)
    first = forward(vit, images())
    forward(vit, images(1, 48, 32))
    assert torch.equal(forward(vit, images()), first)
    attributes_after, tensors_after, signature_after = state_of(vit)
    assert attributes_after.keys() == attributes.keys() and signature_after == signature
    for key, value in attributes.items():
        assert plain(attributes_after[key]) == plain(value), key
    assert tensors_after.keys() == tensors.keys()
    assert all(torch.equal(tensors_after[key], tensors[key]) for key in tensors)


def plain(value):
    """Return ``value`` with plain objects replaced by their attributes, so that copies compare equal."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if type(value).__module__.startswith("token_pruning") and hasattr(value, "__dict__"):
        return plain(vars(value))
    return value


def changed(value):
    """Yield versions of a setting, each with one plain value in it changed."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, (int, float)):
        yield value + 1
    elif isinstance(value, str):
        yield value + "_other"
    elif value is None:
        yield 0
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            for other in changed(item):
                yield type(value)([*value[:i], other, *value[i + 1 :]])
        yield type(value)([*value, 1])
    elif isinstance(value, dict):
        for key, item in value.items():
            for other in changed(item):
                yield {**value, key: other}
    elif type(value).__module__.startswith("token_pruning") and hasattr(value, "__dict__"):
        for name, item in vars(value).items():
            for other in changed(item):
                copied = copy.copy(value)
                vars(copied)[name] = other
                yield copied


@pytest.mark.parametrize("reducer", VARIANTS)
@torch.no_grad()
def test_signature_changes_with_every_setting_and_with_no_weight(reducer):
    method = build_reducer(reduced(reducer), DIM, DEPTH)
    signature = method.signature()
    assert hash(signature) == hash(method.signature()) and signature == method.signature()
    assert build_reducer(reduced(reducer), DIM, DEPTH).signature() == signature
    for parameter in method.parameters():
        parameter.add_(1)
    assert method.eval().signature() == method.train().signature() == signature
    seen = 0
    for name, value in list(vars(method).items()):
        if name.startswith("_") or name == "training":
            continue
        for other in changed(value):
            setattr(method, name, other)
            assert method.signature() != signature, f"{name}: {value} and {other}"
            seen += 1
        setattr(method, name, value)
    assert seen > 2 and method.signature() == signature


def test_signature_sees_a_list_that_changes_in_place_and_an_annealed_schedule():
    svit = build_reducer(dict(type="SViT", keep_ratio=[0.7, 0.5, 0.3]), DIM, DEPTH)
    before = svit.signature()
    svit.keep_ratio[1] = 0.4
    assert svit.signature() != before
    cropr = build_reducer(dict(type="Cropr", r=[2, 3]), DIM, DEPTH)
    before = cropr.signature()
    cropr.anneal(0.5)
    assert cropr.signature() != before
    cropr.anneal(1)
    assert cropr.signature() == before


@pytest.mark.parametrize("reducer", VARIANTS)
def test_training_reaches_every_parameter(reducer):
    vit = a_vit(reduced(reducer)).train()
    for parameter in vit.reducer.parameters():
        if not parameter.any():  # zeros at the start of training pass no gradient on
            torch.nn.init.normal_(parameter, std=0.02)
    with collect_losses() as reported:
        out = forward(vit, images())
    loss = out.square().mean() + sum(v for k, v in reported.items() if "loss" in k)
    loss.backward()
    for key, parameter in vit.reducer.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, f"no gradient reaches {key}"
    assert vit.blocks[0].attn.qkv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_any_grid(name):
    vit = scattered(a_vit(reduced(dict(type=name), grid=4)))
    for size in ((16, 16), (16, 112), (80, 48)):
        assert forward(vit, images(2, *size)).shape == (2, 1 + size[0] * size[1] // 256, DIM)


@pytest.mark.parametrize("reducer", VARIANTS)
@torch.no_grad()
def test_an_image_of_nan_does_not_change_the_others(reducer):
    vit = scattered(a_vit(reduced(reducer)))
    x = images()
    wanted = forward(vit, x)
    x[1] = torch.nan
    found = forward(vit, x)
    torch.testing.assert_close(found[[0, 2]], wanted[[0, 2]], atol=1e-5, rtol=1e-4)
    assert found[1].isnan().any()


@pytest.mark.parametrize("reducer", EXTREMES, ids=lambda reducer: " ".join(map(str, reducer.values())))
@torch.no_grad()
def test_the_strongest_setting_leaves_a_finite_map(reducer):
    """On a single token, a row of tokens and a rectangle."""
    vit = scattered(a_vit(reducer))
    for size in ((16, 16), (16, 112), (64, 96)):
        found = forward(vit, images(2, *size))
        assert found.shape == (2, 1 + size[0] * size[1] // 256, DIM) and found.isfinite().all()


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_a_host_may_change_the_map_between_blocks(name):
    """As in ViT-Adapter: dropped positions take the new value, positions of a merged token the mean of theirs."""
    vit = scattered(a_vit(reduced(dict(type=name))))
    stack = vit.start(images())
    stack.run(0, 1)
    stack.update(stack.map())
    stack.run(2, DEPTH - 1)
    torch.testing.assert_close(stack.finish(with_prefix=True), forward(vit, images()), atol=1e-5, rtol=1e-5)
    stack = vit.start(images())
    stack.run(0, 1)
    tokens, new = stack.tokens, torch.randn(stack.map().shape, generator=torch.Generator().manual_seed(4))
    assignment = torch.arange(75) if tokens.assignment is None else tokens.assignment
    alive, wanted = (
        tokens.members().flatten()[assignment],
        torch.cat([torch.zeros(3, 1, DIM), new], dim=1).flatten(0, 1),
    )
    means = torch.stack(
        [wanted[(assignment == assignment[p]) & alive].mean(0) if alive[p] else wanted[p] for p in range(75)]
    )
    stack.update(new)
    torch.testing.assert_close(stack.map().flatten(0, 1), means.view(3, 25, DIM)[:, 1:].flatten(0, 1))


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_weights(name):
    vit = scattered(a_vit(reduced(dict(type=name)))).bfloat16()
    with torch.no_grad():
        assert forward(vit, images().bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", [name for name in ALL if METHODS[name].needs_class_token])
def test_no_class_token_is_one_sentence(name):
    with pytest.raises(ValueError, match=f"{name} ranks tokens by the class token's attention and this model has none"):
        a_vit(dict(type=name), class_token=False)


@pytest.mark.parametrize("name", [name for name in ALL if not METHODS[name].needs_class_token])
@torch.no_grad()
def test_without_a_class_token(name):
    vit = scattered(a_vit(reduced(dict(type=name)), class_token=False))
    singles = torch.cat([forward(vit, one[None]) for one in images()])
    torch.testing.assert_close(forward(vit, images()), singles, atol=1e-5, rtol=1e-4)


RANKING = [name for name in ALL if METHODS[name].needs_class_token]


@pytest.mark.parametrize("name", RANKING)
@torch.no_grad()
def test_representation_shift_needs_no_class_token(name):
    vit = scattered(a_vit(reduced(dict(SHIFT, type=name)), class_token=False, layer_scale=True))
    with Trace() as trace:
        together = forward(vit, images())
        singles = torch.cat([forward(vit, one[None]) for one in images()])
    torch.testing.assert_close(together, singles, atol=1e-5, rtol=1e-4)
    assert trace.passes[0].masks()[:, -1].float().mean() < 1
    # With class attention, the sentence says what to set.
    with pytest.raises(ValueError, match="rank by score='representation_shift', or use a method that needs none"):
        a_vit(dict(type=name), class_token=False)


@torch.no_grad()
def test_representation_shift_is_of_the_mlp_before_layer_scale():
    seen = []

    class Watch(Reducer):
        def after_mlp(self, block, tokens, branch, state):
            seen.append((tokens.x, branch, representation_shift(tokens, branch)))

    vit = scattered(a_vit(Watch(DIM, DEPTH), layer_scale=True))
    for block in vit.blocks:
        block.ls2.gamma.fill_(0.25)
    stack = vit.start(images())
    for i, block in enumerate(vit.blocks):
        stack.run(i, i)
        x, branch, shift = seen[i]
        torch.testing.assert_close(branch, block.mlp(block.norm2(x)))
        torch.testing.assert_close(stack.tokens.x, x + 0.25 * branch)
        torch.testing.assert_close(shift, (branch - x).norm(dim=1))


@pytest.mark.parametrize("name", ["PPT", "ToMe"])
def test_a_rising_fraction_of_the_grid_stays_at_most_a_half(name):
    reducer = build_reducer(dict(type=name, r=0.4, inflection=1.0), DIM, 12)
    assert all(0 <= r <= 0.5 for r in reducer.r_of.values()) and max(reducer.r_of.values()) == 0.5


@pytest.mark.parametrize("name", ["PPT", "ToMe"])
def test_dropping_more_tokens_than_there_are_is_one_sentence(name):
    with pytest.raises(ValueError, match="r is 25, but a grid of 4 x 6 has 24 tokens"):
        forward(a_vit(dict(type=name, r=25)), images())


@pytest.mark.parametrize(
    "reducer, sentence",
    [
        (dict(type="PPT", blocks=[3, 4]), "blocks = .3, 4.: list block numbers from 0 to 3, ascending, each once"),
        (dict(type="ToMe", blocks=[]), "blocks = ..: list block numbers"),
        (dict(type="EViT", keep_ratio=0.0), "keep_ratio = 0.0: give one ratio in .0, 1."),
        (dict(type="ATS", keep_ratio=[0.5, 0.5]), "or one for each of the 3 blocks"),
        (dict(type="PPT", r=[1, 2, 3, 4]), "give at most 3 numbers, one for each block"),
        (dict(type="ToMe", r=-1), "r = -1: give whole numbers of tokens, or fractions of the grid below 1"),
        (dict(type="ToMe", r=2.5), "r = 2.5: give whole numbers"),
        (dict(type="PPT", threshold=-1.0), "threshold is -1.0; it must be 0 .always prune. or more"),
        (dict(type="ToMe", inflection=2.0), "inflection is 2.0; it must lie in .-1, 1."),
        (dict(type="ToMe", order="random"), "order is 'random'; choose one of published, map"),
        (dict(type="APT", thresholds=9.5), "thresholds = 9.5 .*: give an entropy from 0 to 9 bits"),
        (dict(type="APT", thresholds=(5.75, -1)), "give an entropy from 0 to 9 bits"),
        (dict(type="APT", thresholds=float("nan")), "thresholds is nan and must be a list, each entry a number"),
        (dict(type="APT", thresholds=5.0, scales=1), "and 2 to 16 scales"),
        (dict(type="APT", thresholds=()), "and 2 to 16 scales"),
        (dict(type="APT", thresholds=(5.0, 4.0), scales=4), "or one for each of the sizes above the smallest"),
        (dict(type="APT", std=(1.0, 0.0, 1.0)), "give three numbers each, in 0..255, std above 0"),
        (dict(type="APT", mean=(0.5,)), "give three numbers each"),
        (
            dict(type="APT", then=dict(type="SViT")),
            "SViT cannot go on .* `then` takes ATS, EViT, MPM, PPT, PiToMe, Random, ToMe",
        ),
        (dict(type="APT", then=dict(type="CubistMerge")), "or needs the whole grid"),
        (dict(type="APT", then=dict(type="ALGM")), "ALGM cannot go on .* or needs the whole grid"),
        (dict(type="APT", then=dict(type="APT")), "APT cannot go on with the tokens of APT"),
        (dict(type="CubistMerge", r=-1), "r = -1: give a whole number of rows and columns, a fraction of each side"),
        (dict(type="CubistMerge", r=(1, 2.5)), "or a pair of them .rows, columns."),
        (dict(type="CubistMerge", r=(1, 1, 1)), "or a pair of them"),
        (dict(type="CubistMerge", r=float("nan")), "r is nan and must be a number"),
        (dict(type="CubistMerge", block=4), "block is 4; give the number of a block, 0 to 3"),
        (dict(type="CubistMerge", rule="mean"), "rule is 'mean'; choose one of released, group"),
        (dict(type="CubistMerge", r=2, window_size=3), "window can lose at most half of its rows and columns, 1"),
        (dict(type="CubistMerge", window_size=0), "window_size is 0; give the side of the windows in tokens"),
        (dict(type="EvoViT", blocks=[0, 1]), "from 1 .the selection needs the class attention of block 0."),
        (dict(type="EvoViT", decide=[3]), "the first of them included"),
        (dict(type="EvoViT", tradeoff=2), "tradeoff is 2; give one number in .0, 1., or one for each of 4 blocks"),
        (dict(type="EViT", score="attention"), "score is 'attention'; choose one of class_attention, representation_"),
        (dict(type="MPM", blocks=[4]), "blocks = .4.: list block numbers from 0 to 3"),
        (dict(type="MPM", blocks=[1], merges=1), "give blocks or merges, not both"),
        (dict(type="MPM", merges=-1), "merges is -1; give a whole number of blocks, 0 or more"),
        (dict(type="MPM", merges=0.5), "merges is 0.5 and must be a whole number"),
        (dict(type="PiToMe", keep_ratio=0.49), "keep_ratio = 0.49: give one share in .0.5, 1."),
        (dict(type="MPM", merges=float("nan")), "merges is nan and must be a whole number"),
        (dict(type="MPM", merges=float("inf")), "merges is inf and must be a whole number"),
        (dict(type="PiToMe", keep_ratio=float("nan")), "keep_ratio is nan and must be a number"),
        (dict(type="PiToMe", margin=float("nan")), "margin is nan and must be a number"),
        (dict(type="PiToMe", keep_ratio=[0.9, 0.8]), "keep_ratio is .0.9, 0.8. and must be a number"),
        (dict(type="PiToMe", margin=1.5), "margin is 1.5; it is a cosine similarity, in .-1, 1."),
        (
            dict(type="PiToMe", matching="tome"),
            "matching is 'tome'; choose standard or bsm, or one of them",
        ),
        (dict(type="PiToMe", matching=["bsm"]), "or one of them for each half"),
        (dict(type="PiToMe", blocks=[]), "blocks = ..: list block numbers"),
        (dict(type="ALGM", threshold=1.1), "threshold is 1.1; it is a cosine similarity, in .-1, 1., or None"),
        (dict(type="ALGM", threshold=float("nan")), "threshold is nan"),
        (dict(type="ALGM", window=1), "window is 1; give a height and a width, together of two positions or more"),
        (dict(type="ALGM", window=[2, 0]), "window is .2, 0.; give a height and a width"),
        (dict(type="ALGM", window=[2, 2, 2]), "window is .2, 2, 2.; give a height and a width"),
        (dict(type="ALGM", order="random"), "order is 'random'; choose one of published, map"),
        (dict(type="ALGM", count="minimum"), "count is 'minimum'; choose one of image, batch"),
        (dict(type="ToMe", r=float("nan")), "r is nan and must be a number"),
        (dict(type="ToMe", r="5"), "r is '5' and must be a number"),
        (dict(type="Random", blocks=[3, 1]), "ascending, each once"),
        (dict(type="DynamicViT", blocks=[0, 2]), "tokens are scored after the previous block"),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_arguments_out_of_range_are_one_sentence(reducer, sentence):
    with pytest.raises(ValueError, match=sentence):
        build_reducer(reducer, DIM, DEPTH)


def checkpointing_changes_nothing(name, device, **options):
    vit = a_vit(reduced(dict(type=name, **options)), drop_path_rate=0.5).train().to(device)
    grads = []
    for with_cp in (False, True):
        vit.with_cp = with_cp
        vit.zero_grad()
        torch.manual_seed(3)
        with collect_losses():
            forward(vit, images(8).to(device)).square().sum().backward()
        grads.append([p.grad.clone() for p in vit.blocks.parameters()])
    # On CUDA, backward passes add in an order that differs from run to run; other random numbers would change far more.
    tolerance = dict(atol=1e-3, rtol=1e-3) if device == "cuda" else dict(atol=None, rtol=None)
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(recomputed, plain, **tolerance)


@pytest.mark.parametrize("name", ALL)
def test_checkpointing_changes_nothing(name):
    """Stochastic depth included: the recomputation must draw the same random numbers."""
    checkpointing_changes_nothing(name, "cpu")


@pytest.mark.parametrize("name", RANKING)
def test_checkpointing_changes_nothing_with_representation_shift(name):
    checkpointing_changes_nothing(name, "cpu", **SHIFT)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ALL)
def test_checkpointing_changes_nothing_on_cuda(name):
    checkpointing_changes_nothing(name, "cuda")


@pytest.mark.cuda
@pytest.mark.parametrize("reducer", VARIANTS)
@torch.no_grad()
def test_cuda_equals_cpu(reducer):
    vit = scattered(a_vit(reduced(reducer, 0.6)))
    wanted = forward(vit, images())
    torch.testing.assert_close(forward(vit.cuda(), images().cuda()).cpu(), wanted, atol=1e-3, rtol=1e-3)
    with torch.autocast("cuda", torch.float16):
        assert forward(vit, images().cuda()).isfinite().all()


@pytest.mark.parametrize("gate", GATES)
def test_gates_take_images_of_any_number_of_tokens(gate):
    torch.manual_seed(0)
    network, x, counts = GATES[gate](DIM), torch.randn(9, DIM), Counts.of([6, 0, 1, 2])
    logp = network(x, counts)
    singles = torch.cat([network(part, Counts.equal(len(part), 1)) for part in counts.split(x)])
    torch.testing.assert_close(logp, singles)
    logp.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_an_unknown_gate_is_one_sentence():
    with pytest.raises(ValueError, match="gate is 'attention'; choose one of mlp, dynamicvit"):
        build_reducer(dict(type="SViT", gate="attention"), DIM, DEPTH)


class AllHooks(Reducer):
    """A reducer with the hooks that SViT does not use.

    Half of the tokens are dropped between attention and MLP of block 1, all but two of each image after block 2.
    """

    def start(self, tokens, score_fn=None):
        return []

    def before_block(self, block, tokens, state):
        state.append(("before", block, tokens.counts))
        return None

    def after_attention(self, block, tokens, qkv, state):
        assert qkv.q.shape == qkv.k.shape == qkv.v.shape == (len(tokens.x), 3, DIM // 3)
        return tokens.select(torch.arange(len(tokens.x)) % 2 == 0) if block == 1 else tokens

    def after_block(self, block, tokens, state):
        if block != 2:
            return tokens
        keep = torch.cat([torch.arange(n) < 2 for n in tokens.counts])
        return tokens.select(keep)

    def losses(self, state):
        return {"steps": torch.tensor(float(len(state)))}


@torch.no_grad()
def test_tokens_dropped_inside_and_after_blocks_keep_their_position():
    vit = a_vit(AllHooks(DIM, DEPTH), class_token=False)
    stack = vit.start(images(2))
    seen = []
    for block in range(DEPTH):
        stack.run(block, block)
        seen.append((stack.tokens.counts, stack.map()))
    assert [counts for counts, _ in seen] == [(24, 24), (12, 12), (2, 2), (2, 2)]
    assert stack.state[-1] == ("before", 3, (2, 2))
    # After block 2 only positions 0 and 2 are active, so block 3 must not change the others.
    inactive = torch.ones(24, dtype=torch.bool)
    inactive[[0, 2]] = False
    assert torch.equal(seen[3][1][:, inactive], seen[2][1][:, inactive])
    assert not torch.equal(seen[3][1][:, ~inactive], seen[2][1][:, ~inactive])


def test_losses_are_reported_in_training_only():
    vit = a_vit(AllHooks(DIM, DEPTH), class_token=False)
    with collect_losses() as reported:
        forward(vit, images())
    assert reported == {}
    with collect_losses() as reported:
        forward(vit.train(), images())
    assert reported["steps"] == DEPTH


def test_unknown_names_are_one_sentence():
    with pytest.raises(
        ValueError, match="unknown reducer type 'SVIT'; known are ALGM, APT, ATS, Cropr, CubistMerge, DToP, DynamicV"
    ):
        build_reducer(dict(type="SVIT"), DIM, DEPTH)
    with pytest.raises(ValueError, match="reads no key 'keep_rate'"):
        build_reducer(dict(type="SViT", keep_rate=0.7), DIM, DEPTH)


TOY = '''"""Keep every second token, or all."""

import torch

from token_pruning import Decision, Reducer, register


@register
class EveryOther(Reducer):
    """Runs the last block on every ``step``-th token of the grid."""

    cost_param = ("step", 1, 8)
    keep_all = {"step": 1}

    def __init__(self, embed_dim, depth, step=2):
        super().__init__(embed_dim, depth)
        self.step = step

    @property
    def pruned_blocks(self):
        return [self.depth - 1]

    def before_block(self, block, tokens, state):
        if block < self.depth - 1:
            return None
        place = torch.arange(len(tokens.x), device=tokens.x.device) % tokens.positions
        return Decision((place < tokens.prefix) | (place % self.step == 0))
'''
CONTRACT = [
    test_keep_all_equals_dense,
    test_batch_equals_singles,
    test_every_position_has_the_value_of_its_token,
    test_evaluation_is_deterministic_and_leaves_no_state,
    test_signature_changes_with_every_setting_and_with_no_weight,
    test_training_reaches_every_parameter,
    test_any_grid,
    test_an_image_of_nan_does_not_change_the_others,
    test_a_host_may_change_the_map_between_blocks,
    test_bfloat16_weights,
    test_without_a_class_token,
    test_checkpointing_changes_nothing,
]


def test_a_new_method_is_one_file(tmp_path):
    """Everything that tests ask of a method works for one that no list mentions."""
    file = tmp_path / "every_other.py"
    file.write_text(TOY)
    spec = importlib.util.spec_from_file_location("every_other", file)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        reducer = variants("EveryOther")[0].values[0]
        given = dict(name="EveryOther", reducer=reducer, autocast=False)
        for test in CONTRACT:
            names = inspect.signature(test).parameters
            test(**{name: value for name, value in given.items() if name in names})
    finally:
        METHODS.pop("EveryOther", None)
    assert "EveryOther" not in METHODS
