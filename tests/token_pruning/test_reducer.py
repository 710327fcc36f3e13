"""Contract of every registered reducer, and of the four moments."""

import pytest
import torch

from token_pruning import METHODS, Decision, PlainViT, Reducer, Trace, build_reducer, collect_losses
from token_pruning.methods.svit import GATES

DIM, DEPTH = 24, 4
ALL = sorted(METHODS)
# Every method as it is by default, and the options that change what a forward does.
SVIT = [dict(mode="threshold"), dict(mode="ratio"), dict(mode="sample", seed=3), dict(ratio_scale=0.7),
        dict(inherit=True), dict(inherit=True, mode="ratio"), dict(preserve=False), dict(selectors=[0, 0, 1]),
        dict(selectors=[0, 0, 1], reuse=False), dict(ratio_loss="image"), dict(gate="dynamicvit"),
        dict(gate="dynamicvit", inherit=True)]
VARIANTS = [pytest.param(dict(type=name), id=name) for name in ALL]
VARIANTS += [pytest.param(dict(type="SViT", **kwargs), id="SViT " + " ".join(f"{k}={v}" for k, v in kwargs.items()))
             for kwargs in SVIT]
KEEP_ALL = {"SViT": dict(keep_ratio=1.0, mode="ratio"), "Random": dict(keep_ratio=1.0)}


def a_vit(reducer=None, **kwargs):
    torch.manual_seed(0)
    return PlainViT(img_size=64, embed_dim=DIM, depth=DEPTH, num_heads=3, reducer=reducer, **kwargs).eval()


def forward(vit, image):
    stack = vit.start(image)
    stack.run(0, DEPTH - 1)
    return stack.finish()


def images(batch=3, height=64, width=96):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


def scattered(vit):
    """Selectors with opinions: default ones are close to undecided."""
    for name, parameter in vit.reducer.named_parameters():
        if name.endswith("fc2.weight"):
            torch.nn.init.normal_(parameter, std=2.0, generator=torch.Generator().manual_seed(2))
    return vit


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_keep_all_equals_dense(name):
    assert name in KEEP_ALL, f"tell this test how {name} keeps everything"
    dense, pruned = a_vit(), a_vit(dict(type=name, **KEEP_ALL[name]))
    pruned.load_state_dict(dense.state_dict(), strict=False)
    torch.testing.assert_close(forward(pruned, images()), forward(dense, images()), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reducer", VARIANTS)
@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@torch.no_grad()
def test_batch_equals_singles(reducer, autocast):
    vit = scattered(a_vit(dict(reducer, keep_ratio=0.6)))
    x = images()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast), Trace() as trace:
        together = forward(vit, x)
        singles = torch.cat([forward(vit, one[None]) for one in x])
    masks = [p.masks() for p in trace.passes]
    assert torch.equal(masks[0], torch.cat(masks[1:]))
    assert masks[0].float().mean() < 1
    torch.testing.assert_close(together, singles, atol=5e-2 if autocast else 1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
@torch.no_grad()
def test_tokens_that_no_block_used_are_untouched(name):
    vit = scattered(a_vit(dict(type=name, blocks=[0, 1, 2, 3], keep_ratio=0.3)))
    before = vit.start(images()).map()
    with Trace() as trace:
        after = forward(vit, images())
    unused = ~trace.passes[0].masks().any(dim=1).flatten(1)
    assert unused.any() and torch.equal(after[unused], before[unused])


@pytest.mark.parametrize("reducer", VARIANTS)
@torch.no_grad()
def test_evaluation_is_deterministic_and_leaves_no_state(reducer):
    vit = scattered(a_vit(dict(reducer, keep_ratio=0.5)))
    before = {k: v for module in vit.modules() for k, v in vars(module).items() if not k.startswith("_")}
    first = forward(vit, images())
    forward(vit, images(1, 32, 32))
    assert torch.equal(forward(vit, images()), first)
    assert {k: v for module in vit.modules() for k, v in vars(module).items() if not k.startswith("_")} == before


@pytest.mark.parametrize("reducer", VARIANTS)
def test_training_reaches_every_parameter(reducer):
    vit = a_vit(dict(reducer, keep_ratio=0.5)).train()
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
    vit = scattered(a_vit(dict(type=name, keep_ratio=0.5)))
    for size in ((16, 16), (16, 112), (80, 48)):
        assert forward(vit, images(2, *size)).shape == (2, size[0] * size[1] // 256, DIM)


def checkpointing_changes_nothing(name, device):
    vit = a_vit(dict(type=name, keep_ratio=0.5), drop_path_rate=0.5).train().to(device)
    grads = []
    for with_cp in (False, True):
        vit.with_cp = with_cp
        vit.zero_grad()
        torch.manual_seed(3)
        with collect_losses():
            forward(vit, images(8).to(device)).square().sum().backward()
        grads.append([p.grad.clone() for p in vit.blocks.parameters()])
    for plain, recomputed in zip(*grads, strict=True):
        torch.testing.assert_close(recomputed, plain)


@pytest.mark.parametrize("name", ALL)
def test_checkpointing_changes_nothing(name):
    """Stochastic depth included: the recomputation must draw the same numbers."""
    checkpointing_changes_nothing(name, "cpu")


@pytest.mark.cuda
@pytest.mark.parametrize("name", ALL)
def test_checkpointing_changes_nothing_on_cuda(name):
    checkpointing_changes_nothing(name, "cuda")


@pytest.mark.cuda
@pytest.mark.parametrize("reducer", VARIANTS)
@torch.no_grad()
def test_cuda_equals_cpu(reducer):
    vit = scattered(a_vit(dict(reducer, keep_ratio=0.6)))
    wanted = forward(vit, images())
    torch.testing.assert_close(forward(vit.cuda(), images().cuda()).cpu(), wanted, atol=1e-3, rtol=1e-3)
    with torch.autocast("cuda", torch.float16):
        assert forward(vit, images().cuda()).isfinite().all()


@pytest.mark.parametrize("gate", GATES)
def test_gates_take_images_of_any_number_of_tokens(gate):
    torch.manual_seed(0)
    network, x, counts = GATES[gate](DIM), torch.randn(9, DIM), (6, 0, 1, 2)
    logp = network(x, counts)
    singles = torch.cat([network(part, (len(part),)) for part in x.split(counts)])
    torch.testing.assert_close(logp, singles)
    logp.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_an_unknown_gate_is_one_sentence():
    with pytest.raises(ValueError, match="gate is 'attention'; choose one of mlp, dynamicvit"):
        build_reducer(dict(type="SViT", gate="attention"), DIM, DEPTH)


class Moments(Reducer):
    """A toy that uses the three moments SViT does not need: half of the tokens leave between attention and MLP of
    block 1, all but two of each image leave after block 2."""

    def start(self, tokens):
        return []

    def before_block(self, block, tokens, memory):
        memory.append(("before", block, tokens.counts))
        return None

    def after_attention(self, block, tokens, qkv, memory):
        assert qkv.q.shape == qkv.k.shape == qkv.v.shape == (len(tokens.x), 3, DIM // 3)
        return tokens.select(torch.arange(len(tokens.x)) % 2 == 0) if block == 1 else tokens

    def after_block(self, block, tokens, memory):
        if block != 2:
            return tokens
        keep = torch.cat([torch.arange(n) < 2 for n in tokens.counts])
        return tokens.select(keep)

    def losses(self, memory):
        return {"steps": torch.tensor(float(len(memory)))}


@torch.no_grad()
def test_tokens_leave_between_and_after_and_keep_their_place():
    vit = a_vit(Moments(DIM, DEPTH))
    stack = vit.start(images(2))
    seen = []
    for block in range(DEPTH):
        stack.run(block, block)
        seen.append((stack.tokens.counts, stack.map()))
    assert [counts for counts, _ in seen] == [(24, 24), (12, 12), (2, 2), (2, 2)]
    assert stack.memory[-1] == ("before", 3, (2, 2))
    # After block 2 all but positions 0 and 2 rest, whatever block 3 does.
    resting = torch.ones(24, dtype=torch.bool)
    resting[[0, 2]] = False
    assert torch.equal(seen[3][1][:, resting], seen[2][1][:, resting])
    assert not torch.equal(seen[3][1][:, ~resting], seen[2][1][:, ~resting])


def test_losses_are_reported_in_training_only():
    vit = a_vit(Moments(DIM, DEPTH))
    with collect_losses() as reported:
        forward(vit, images())
    assert reported == {}
    with collect_losses() as reported:
        forward(vit.train(), images())
    assert reported["steps"] == DEPTH


def test_unknown_names_are_one_sentence():
    with pytest.raises(ValueError, match="unknown reducer type 'SVIT'; known are Random, SViT"):
        build_reducer(dict(type="SVIT"), DIM, DEPTH)
    with pytest.raises(ValueError, match="reads no key 'keep_rate'"):
        build_reducer(dict(type="SViT", keep_rate=0.7), DIM, DEPTH)


def test_a_decision_without_gate_is_packed():
    assert Decision(torch.ones(3, dtype=torch.bool)).gate is None
