"""EoMT of transformers: queries that enter late, masked attention, hooks around the entry, training."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from hugging_face import TOWERS, images, tower
from reducers import ALL, keep_all, reduced, scattered

import token_pruning
from token_pruning import StackForward, Trace, attention, find_host

NAMES = ["EoMT", "EoMT DINOv3"]
OUTPUTS = ("class_queries_logits", "masks_queries_logits", "last_hidden_state")
GRID, QUERIES, PREFIX = 36, 5, 3


def masked(name, *probabilities):
    model = tower(name)
    model.attn_mask_probs.copy_(torch.tensor(probabilities))
    return model


def outputs(model, x, **options):
    torch.manual_seed(3)  # which queries keep their mask is drawn
    found = model(x, **options)
    return [found[name] for name in OUTPUTS]


def assert_equal(found, wanted, atol=1e-5):
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("probabilities", [(0, 0), (1, 1), (0, 1), (1, 0), (0.5, 0), (0.5, 0.5)])
@pytest.mark.parametrize("method", [None, *ALL])
@torch.no_grad()
def test_keeping_all_is_the_plain_model(name, probabilities, method):
    """With masks of (1, 0), transformers keeps the first block's mask in the second."""
    model, x = masked(name, *probabilities), images()
    wanted = outputs(model, x)
    token_pruning.apply(model, method and keep_all(method))
    if method == "Random" and any(0 < p < 1 for p in probabilities):
        return  # it draws, too, so that other queries keep their mask
    assert_equal(outputs(model, x), wanted)
    token_pruning.remove(model)
    assert "predict" not in vars(model) and all(map(torch.equal, outputs(model, x), wanted))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_masks_matter_here(name):
    plain, limited = (outputs(masked(name, *p), images()) for p in ((0, 0), (1, 1)))
    assert not torch.allclose(plain[1], limited[1], atol=1e-2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("blocks", [1, 4])
@torch.no_grad()
def test_queries_may_enter_before_any_layer(name, blocks):
    model, x = TOWERS[name](num_blocks=blocks, probability=1.0), images()
    wanted = outputs(model, x)
    assert_equal(outputs(token_pruning.apply(model, None), x), wanted)
    token_pruning.apply(model, dict(type="ToMe", r=4))
    together, singles = outputs(model, x), [outputs(model, one[None]) for one in x]
    assert_equal(together, [torch.cat(parts) for parts in zip(*singles, strict=True)], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("probability, restores", [(0, 1), (1, 3)])
@torch.no_grad()
def test_the_map_is_restored_once_and_before_each_earlier_prediction(name, probability, restores, monkeypatch):
    model = token_pruning.apply(masked(name, probability, probability), dict(type="ToMe", r=4))
    calls, plain = [], StackForward.map

    def counted(stack, *args, **kwargs):
        calls.append(stack)
        return plain(stack, *args, **kwargs)

    monkeypatch.setattr(StackForward, "map", counted)
    with Trace() as trace:
        outputs(model, images())
    assert len(calls) == restores
    prefixes = [used.shape[1] - GRID for used in trace.passes[0].used.values()]
    assert prefixes == [PREFIX, PREFIX, PREFIX + QUERIES, PREFIX + QUERIES]
    assert trace.passes[0].keep_ratio()[:, -1].max() < 0.7


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_a_query_sees_a_token_by_the_mean_of_its_mask_logits(name, monkeypatch):
    model, seen, logits = masked(name, 1, 1), [], []
    token_pruning.apply(model, dict(type="ToMe", r=5))
    plain = attention.visible_tokens

    def spied(tokens, visible):
        seen.append((tokens, plain(tokens, visible)))
        return seen[-1][1]

    monkeypatch.setattr(attention, "visible_tokens", spied)
    model.upscale_block.register_forward_hook(lambda *_: None)  # hooks elsewhere change nothing
    predict = model.predict
    model.predict = lambda x: logits.append(predict(x)) or logits[-1]
    outputs(model, images())
    assert len(seen) == 2 and any((tokens.size > 1).any() for tokens, _ in seen)
    for (tokens, found), (masks, _) in zip(seen, logits, strict=False):
        at_patches = F.interpolate(masks, (6, 6), mode="bilinear").flatten(2)
        row_of = {place: row for row, place in enumerate(tokens.index.tolist())}
        owner = tokens.assignment.view(3, -1)[:, -GRID:]  # of each patch, the place of its token
        for image in range(3):
            for place in owner[image].unique().tolist():
                members = at_patches[image][:, owner[image] == place]
                assert torch.equal(found[row_of[place]], members.mean(1) > 0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("grad", [False, True])
def test_what_hooks_around_the_entry_return_is_taken_over(name, grad):
    wanted, found = tower(name), token_pruning.apply(tower(name), None)
    for model in (wanted, found):
        model.layers[1].register_forward_hook(lambda layer, args, out: out * 1.5)
        model.layers[2].register_forward_pre_hook(lambda layer, args: (args[0] - 0.25, *args[1:]))
    with torch.set_grad_enabled(grad):
        assert_equal(outputs(found, images()), outputs(wanted, images()))


@pytest.mark.parametrize("name", NAMES)
def test_training_has_the_losses_and_gradients_of_the_plain_model(name):
    pytest.importorskip("scipy", reason="transformers matches masks by scipy")
    masks = [(torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(i)) > 0.5).float() for i in range(3)]
    labels = dict(mask_labels=masks, class_labels=[torch.tensor([0, 1])] * 3)
    plain = masked(name, 1, 0.5).train()
    model = token_pruning.apply(copy.deepcopy(plain), None)
    losses = []
    for one in (plain, model):
        torch.manual_seed(4)
        losses.append(one(images(), **labels).loss)
        losses[-1].backward()
    torch.testing.assert_close(*losses, atol=1e-4, rtol=1e-5)
    for (key, p), q in zip(plain.named_parameters(), model.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), key
        if p.grad is not None:
            torch.testing.assert_close(q.grad, p.grad, atol=1e-4 * max(1, p.grad.abs().max().item()), rtol=1e-3)


@pytest.mark.parametrize("name", ["EoMT", "EoMT DINOv3 masked"])
@pytest.mark.parametrize("method", ALL)
def test_a_training_step_reaches_every_parameter(name, method):
    model = token_pruning.apply(tower(name), reduced(dict(type=method), grid=GRID)).train()
    scattered(find_host(model))
    with token_pruning.collect_losses() as reported:
        found = model(images())
    loss = sum(found[name].square().mean() for name in OUTPUTS) + sum(v for k, v in reported.items() if "loss" in k)
    loss.backward()
    assert {key for key, p in model.named_parameters() if p.grad is None} == set()


@pytest.mark.parametrize("name", ["EoMT masked", "EoMT DINOv3"])
@torch.no_grad()
def test_copies_pickles_and_replicas_predict_by_themselves(name):
    model = token_pruning.apply(tower(name), dict(type="ToMe", r=4))
    wanted = outputs(model, images())
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert again.predict.args == (again,)
        model.class_predictor.weight.data.add_(1)  # no copy predicts by the model's weights
        assert all(map(torch.equal, outputs(again, images()), wanted))
        model.class_predictor.weight.data.sub_(1)
    replica = model._replicate_for_data_parallel()
    assert replica.predict.args == replica.forward.args == (replica,)


@torch.no_grad()
def test_a_compiled_model_gives_the_same():
    """Not as one graph: transformers reads ``attn_mask_probs`` between layers."""
    torch._dynamo.reset()
    model = token_pruning.apply(tower("EoMT masked"), dict(type="ToMe", r=4))
    wanted = outputs(model, images())
    assert_equal(outputs(torch.compile(model, backend="eager"), images()), wanted)
