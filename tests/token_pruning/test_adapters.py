"""The block protocol: the documentation's examples run, and an adapter is as good as the block that it is made of."""

import re
from pathlib import Path

import pytest
import torch
from timm.models.eva import EvaBlock
from timm.models.vision_transformer import Block

from token_pruning import TokenSet, run_block
from token_pruning.adapters import BlockAdapter, TimmBlock, TimmEvaBlock, adapt

PAGE = Path(__file__).resolve().parents[2] / "docs/add_a_host.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_of_the_documentation_run(number):
    exec(compile(EXAMPLES[number], f"{PAGE.name}, example {number}", "exec"), {"__name__": "example"})


@pytest.mark.parametrize(("kind", "adapter"), [(Block, TimmBlock), (EvaBlock, TimmEvaBlock)])
@torch.no_grad()
def test_a_block_and_its_adapter_give_the_same(kind, adapter):
    block = kind(24, 3, init_values=0.5).eval()
    tokens = TokenSet.full(torch.randn(2, 20, 24), (4, 5)).select(torch.rand(40) < 0.6)
    made = adapt(block)
    assert type(made) is adapter and adapt(made) is made and [*made.parameters()] == [*block.parameters()]
    assert torch.equal(run_block(block, tokens).x, run_block(made, tokens).x)


class Biased(TimmBlock):
    def __init__(self, block, bias):
        super().__init__(block)
        self.bias = bias


@pytest.mark.parametrize("sizes", [False, True])
@torch.no_grad()
def test_a_bias_by_place_is_that_of_the_dense_attention(sizes):
    block, x, bias = Block(24, 3).eval(), torch.randn(2, 20, 24), 3 * torch.randn(3, 20, 20)
    for keep in (torch.rand(40) < 0.5, torch.arange(40) % 20 < 9, torch.ones(40, dtype=torch.bool)):
        tokens = TokenSet.full(x, (4, 5)).select(keep)
        size = torch.rand(len(tokens.x)) + 1 if sizes else None
        found = run_block(Biased(block, bias), tokens.with_sizes(size), prop_attn=True)
        for b in range(2):
            here = keep.view(2, 20)[b]
            logits = bias[:, here][:, :, here]
            if sizes:
                logits = logits + size[tokens.images() == b].log()
            qkv = block.attn.qkv(block.norm1(x[b, here])).view(-1, 3, 3, 8).permute(1, 2, 0, 3)
            out = (qkv[0] @ qkv[1].mT / 8**0.5 + logits).softmax(-1) @ qkv[2]
            y = x[b, here] + block.attn.proj(out.transpose(0, 1).flatten(1))
            y = y + block.mlp(block.norm2(y))
            torch.testing.assert_close(found.x[tokens.images() == b], y, atol=1e-5, rtol=1e-4)


def test_an_adapter_has_to_say_what_it_projects():
    bare = BlockAdapter(torch.nn.Identity())
    for call in (bare.qkv, lambda x: bare.project(x, x)):
        with pytest.raises(NotImplementedError):
            call(torch.zeros(1, 1))
    assert bare.attn_dropout == 0 and torch.equal(bare.scale1(torch.ones(2)), bare.scale2(torch.ones(2)))
