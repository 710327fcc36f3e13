"""Replicas compute with their own parameters, and the hooks of blocks, attention and MLP fire as in timm."""

import copy

import pytest
import torch
import torch.distributed as dist
from reducers import DEPTH, DIM, reduced, scattered
from timm.models.eva import Eva
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

import token_pruning
from token_pruning import METHODS, PlainViT
from token_pruning.cache import WeightCache

NAMES = ("", "norm1", "attn", "attn.qkv", "attn.proj", "mlp")
# No reducer, selection before blocks, merging inside, numbers of tokens that differ.
REDUCERS = [None, "Random", "ToMe", "EViT", "SViT", "ATS"]


def model(reducer=None, kind=VisionTransformer, **kwargs):
    torch.manual_seed(0)
    options = dict(img_size=48, patch_size=8, embed_dim=DIM, depth=DEPTH, num_heads=3, num_classes=5)
    host = scattered(kind(**options, **kwargs)).eval()
    return token_pruning.apply(host, reducer and reduced(dict(type=reducer), grid=36))


def images(batch=3):
    return torch.randn(batch, 3, 48, 48, generator=torch.Generator().manual_seed(1))


def watch(host, block=1):
    """Return the list to which the hooks of a block add (name, shape of the output)."""
    seen = []
    for name in NAMES:
        module = host.blocks[block].get_submodule(name)
        module.register_forward_hook(lambda m, x, out, name=name: seen.append((name, tuple(out.shape))))
    return seen


class Backbone(nn.Module):
    """A host that runs its blocks itself, inside another module."""

    def __init__(self, name):
        super().__init__()
        torch.manual_seed(0)
        options = dict(img_size=48, patch_size=8, embed_dim=DIM, depth=DEPTH, num_heads=3, class_token=True)
        self.vit = scattered(PlainViT(**options, reducer=name and reduced(dict(type=name), grid=36))).eval()

    def forward(self, x):
        stack = self.vit.start(x)
        stack.run(0, DEPTH - 1)
        return stack.finish()


HOSTS = {"timm's ViT": model, "Eva": lambda name: model(name, Eva), "own host": Backbone}


@pytest.mark.parametrize("name", [None, *sorted(METHODS)])
@pytest.mark.parametrize("host", HOSTS)
@torch.no_grad()
def test_a_replica_uses_its_own_parameters(host, name):
    pruned = HOSTS[host](name)
    # As DataParallel does it: every module is copied, then children and parameters are exchanged.
    replicas = {m: m._replicate_for_data_parallel() for m in pruned.modules()}
    for original, replica in replicas.items():
        replica._modules = {key: replicas.get(child) for key, child in original._modules.items()}
        replica._parameters = {k: None if p is None else p * 1.5 for k, p in original._parameters.items()}
    scaled = copy.deepcopy(pruned)
    for parameter in scaled.parameters():
        parameter.mul_(1.5)
    assert torch.equal(replicas[pruned](images()), scaled(images()))
    assert not torch.allclose(replicas[pruned](images()), pruned(images()))


@torch.no_grad()
def test_replicas_do_not_share_cached_tables():
    vit = PlainViT(img_size=48, patch_size=8, embed_dim=DIM, depth=2, num_heads=3).eval()
    before = vit.positions((4, 4)).clone()
    replica = vit._replicate_for_data_parallel()
    for factor in (2, 3):  # each time new parameters, maybe at the address of the last
        replica._parameters = {**vit._parameters, "pos_embed": vit.pos_embed * factor}
        torch.testing.assert_close(replica.positions((4, 4)), before * factor)
    cache, weight = WeightCache(), torch.ones(3)
    assert cache.get("key", [weight], lambda: weight * 2) is cache.get("key", [weight], lambda: weight * 3)
    assert torch.equal(copy.deepcopy(cache).get("key", [weight], lambda: weight * 4), weight * 4)


@pytest.mark.parametrize("kind", [VisionTransformer, Eva])
@torch.no_grad()
def test_hooks_of_a_dense_model_see_what_timm_shows(kind):
    dense, applied = model(kind=kind), model(kind=kind)
    wanted = watch(token_pruning.remove(dense))
    seen = watch(applied)
    torch.testing.assert_close(applied(images()), dense(images()))
    assert [name for name, _ in seen] == [name for name, _ in wanted] and len(seen) == len(NAMES) - (kind is Eva)
    whole = ("", "attn", "mlp")
    assert [one for one in seen if one[0] in whole] == [one for one in wanted if one[0] in whole]


@pytest.mark.parametrize("name", REDUCERS)
@torch.no_grad()
def test_hooks_change_nothing_and_remove_leaves_nothing(name):
    plain, hooked = model(name), model(name)
    seen = watch(hooked, 2)
    for block in hooked.blocks:
        block.register_forward_pre_hook(lambda *args: None)
    torch.testing.assert_close(hooked(images()), plain(images()))
    assert [key for key, _ in seen] == ["norm1", "attn.qkv", "attn.proj", "attn", "mlp", ""]
    again = copy.deepcopy(hooked)
    again.blocks[2].mlp.fc2.weight.zero_()
    assert not torch.equal(again(images()), hooked(images()))
    token_pruning.remove(hooked)
    assert not any("forward" in vars(module) for module in hooked.modules())
    assert hooked.blocks[2](torch.randn(1, 7, DIM)).shape == (1, 7, DIM)


@torch.no_grad()
def test_a_hook_may_change_what_a_block_gets_and_returns():
    pruned, shapes = model("ToMe"), []
    wanted = pruned(images())
    handle = pruned.blocks[1].register_forward_hook(lambda m, x, out: shapes.append(out.shape) or out * 0)
    assert not torch.allclose(pruned(images()), wanted)
    assert shapes[0][0] == 3 and 2 < shapes[0][1] < 37
    handle.remove()
    for module in (pruned.blocks[1], pruned.blocks[1].attn):
        handle = module.register_forward_pre_hook(lambda m, x: (x[0] * 0,))
        assert not torch.allclose(pruned(images()), wanted)
        handle.remove()
    assert torch.equal(pruned(images()), wanted)


def test_backward_hooks_and_global_hooks_fire():
    pruned, seen = model("SViT").train(), []
    pruned.blocks[0].register_full_backward_hook(lambda m, i, o: seen.append(o[0].shape))
    everywhere = nn.modules.module.register_module_forward_hook(lambda m, x, out: seen.append(m))
    try:
        with token_pruning.collect_losses():
            pruned(images()).sum().backward()
    finally:
        everywhere.remove()
    assert pruned.blocks[3] in seen and pruned.blocks[3].attn in seen and (3, 37, DIM) in seen


@pytest.mark.parametrize("name", [None, "EViT", "SViT", "ATS"])
def test_wrapped_blocks_give_the_same_outputs_and_gradients(name):
    pruned = model(name)
    wrapped = copy.deepcopy(pruned)
    for i, block in enumerate(wrapped.blocks):
        wrapped.blocks[i] = checkpoint_wrapper(block)
    for host in (pruned, wrapped):
        host(images()).square().sum().backward()
    for plain, other in zip(pruned.parameters(), wrapped.parameters(), strict=True):
        torch.testing.assert_close(plain.grad, other.grad)


@pytest.fixture
def one_process(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield dist.device_mesh.init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_fully_sharded_blocks_equal_whole_ones(one_process):
    """FSDP2 gathers a block's parameters in its hooks: without a call they stay sharded."""
    for name in REDUCERS:
        plain, sharded = model(name), model(name)
        for block in sharded.blocks:
            fully_shard(block, mesh=one_process)
        fully_shard(sharded, mesh=one_process)
        outputs = [host(images()) for host in (plain, sharded)]
        torch.testing.assert_close(*outputs)
        for out in outputs:
            out.square().sum().backward()
        for (key, whole), part in zip(plain.named_parameters(), sharded.parameters(), strict=True):
            if whole.grad is not None:
                torch.testing.assert_close(part.grad.full_tensor(), whole.grad, msg=key)


@pytest.mark.filterwarnings("ignore")
def test_blocks_in_fsdp1_equal_whole_ones(one_process):
    for name in (None, "SViT"):
        plain, pruned = model(name), model(name)
        policy = ModuleWrapPolicy({Block})
        sharded = FullyShardedDataParallel(pruned, auto_wrap_policy=policy, device_id=torch.device("cpu"))
        assert not isinstance(pruned.blocks[0], Block)
        torch.testing.assert_close(sharded(images()), plain(images()))
