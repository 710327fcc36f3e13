"""MPM, PiToMe and ALGM against the recorded numbers of the published code: pairs, windows and groups exactly."""

from functools import partial

import pytest
import torch
from fixture_files import close, of_kind, of_method
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import token_pruning
from token_pruning import ALGM, MPM, PiToMe, StackForward, TokenSet
from token_pruning.components.matching import best_partners, bipartite_matching, energies, energy_matching
from token_pruning.components.similarity import unit
from token_pruning.components.windows import window_members, window_similarity
from token_pruning.methods.mpm import merge_mutual_pairs, nearest_tokens
from token_pruning.methods.tome import merge

VALUES = dict(atol=2e-5, rtol=0)
SIMILARITY = dict(atol=1e-5, rtol=0)


def trunk_of(record):
    """Return timm's model with the recorded weights."""
    config, weights = record["model"], record["state_dict"]
    if any(name.startswith("encoder.") for name in weights):
        weights = {name[8:]: value for name, value in weights.items() if name.startswith("encoder.")}
    pooled = config.get("global_pool") == "avg" or config.get("pool") == "average_then_fc_norm"
    classes = weights["head.weight"].shape[0] if "head.weight" in weights else 0
    model = VisionTransformer(
        img_size=tuple(config["img_size"]),
        **{key: config[key] for key in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")},
        num_classes=classes,
        class_token="cls_token" in weights,
        reg_tokens=config.get("registers", 0),
        no_embed_class=weights["pos_embed"].shape[1] == config["img_size"][0] * config["img_size"][1] // 16,
        global_pool="avg" if pooled else "token",
        fc_norm="fc_norm.weight" in weights,
        norm_layer=partial(nn.LayerNorm, eps=config["norm_eps"]),
    )
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    return model.eval()


def reducer_of(record, **options):
    config, settings = record["model"], record["settings"]
    host = config["embed_dim"], config["depth"]
    if record["method"] == "mpm":
        return MPM(*host, blocks=settings["blocks"])
    if record["method"] == "algm":
        own = {name: settings[name] for name in ("blocks", "window", "threshold")}
        return ALGM(*host, **own, **options)
    modes = settings["modes"]
    reducer = PiToMe(
        *host,
        keep_ratio=settings["ratio"],
        margin=settings["margins"][0],
        matching=(modes[0], modes[-1]),
        prop_attn=settings["proportional"],
    )
    assert [reducer.mode_of(block) for block in range(config["depth"])] == modes
    assert [reducer.margin_of(block) for block in range(config["depth"])] == pytest.approx(settings["margins"])
    return reducer


def walk(model, reducer, images, watch):
    """Return the stack after its last block and the set behind each block; ``watch(block, tokens)`` before merges."""
    tokens = model._pos_embed(model.patch_embed(images))
    stack = StackForward(model.blocks, reducer, tokens, model.patch_embed.grid_size, model.num_prefix_tokens)
    enter, attend, behind = reducer.enter_block, reducer.after_attention, []

    def entering(block, tokens, state):
        watch(block, tokens, None)
        return enter(block, tokens, state)

    def attended(block, tokens, qkv, state):
        watch(block, tokens, qkv)
        return attend(block, tokens, qkv, state)

    reducer.enter_block, reducer.after_attention = entering, attended
    for block in range(len(model.blocks)):
        stack.run(block, block)
        behind.append(stack.tokens)
    return stack, behind


def groups(tokens, places=True):
    """Return for each image the current token of every position: its place in the set, or its position in the map."""
    own = torch.arange(tokens.batch * tokens.positions)
    assignment = own if tokens.assignment is None else tokens.assignment
    if places:
        index = own if tokens.index is None else tokens.index
        own = own.new_full(own.shape, -1).index_copy(0, index, torch.cat([torch.arange(n) for n in tokens.counts]))
    return list(own[assignment].view(tokens.batch, -1))


def same_partition(a, b):
    """Whether two assignments of positions to tokens group the same positions."""
    return all(torch.equal(x[:, None] == x, y[:, None] == y) for x, y in zip(a, b, strict=True))


def decoded(record, tokens):
    """Return the class scores (B, classes, n) of a recorded decoder for tokens (B, n, C) without a class token."""
    weights, config = record["state_dict"], record["model"]["decoder"]
    weights = {name[8:]: value.float() for name, value in weights.items() if name.startswith("decoder.")}
    if config["kind"] == "linear":
        return (tokens @ weights["head.weight"].T + weights["head.bias"]).transpose(1, 2)
    dim, classes = weights["proj_dec.weight"].shape[0], record["model"]["num_classes"]
    host = VisionTransformer(
        img_size=4, patch_size=4, embed_dim=dim, depth=config["n_layers"], num_heads=config["num_heads"],
        norm_layer=partial(nn.LayerNorm, eps=1e-5),
    )  # fmt: skip
    blocks = {name[7:]: value for name, value in weights.items() if name.startswith("blocks.")}
    host.blocks.load_state_dict(blocks)
    x = tokens @ weights["proj_dec.weight"].T + weights["proj_dec.bias"]
    x = host.blocks(torch.cat([x, weights["cls_emb"].expand(len(x), -1, -1)], dim=1))
    x = nn.functional.layer_norm(x, (dim,), weights["decoder_norm.weight"], weights["decoder_norm.bias"], 1e-5)
    patches = nn.functional.normalize(x[:, :-classes] @ weights["proj_patch"], dim=-1)
    queries = nn.functional.normalize(x[:, -classes:] @ weights["proj_classes"], dim=-1)
    masks = patches @ queries.transpose(1, 2)
    norm = nn.functional.layer_norm(masks, (classes,), weights["mask_norm.weight"], weights["mask_norm.bias"], 1e-5)
    return norm.transpose(1, 2)


def test_there_is_something_to_compare_with():
    assert all(of_method(method) for method in ("mpm", "pitome", "algm"))


@pytest.mark.parametrize("record", of_method("mpm"))
@torch.no_grad()
def test_mpm(record):
    model, images, found = trunk_of(record), record["images"].float(), {}
    reducer, prefix = reducer_of(record), model.num_prefix_tokens

    def watch(block, tokens, qkv):
        if qkv is None:
            found[block] = tokens

    stack, behind = walk(model, reducer, images, watch)
    for layer in record["batch"]["layers"]:
        before, after = found[layer["block"]], behind[layer["block"]]
        nearest = before.counts.split(nearest_tokens(before))
        merged = groups(merge_mutual_pairs(before.with_x(before.x)))
        start = 0
        for image, wanted in enumerate(layer["images"]):
            assert before.counts[image] - prefix == wanted["n_in"] and after.counts[image] - prefix == wanted["n_out"]
            best = nearest[image][prefix:] - start - prefix
            assert torch.equal(best, wanted["best"].long())
            index = torch.arange(before.positions) if before.index is None else before.counts.split(before.index)[image]
            ids = merged[image][index % before.positions][prefix:] - prefix
            assert torch.equal(ids, wanted["ids"].long())
            start += before.counts[image]
    for own, wanted in zip(groups(behind[-1]), record["batch"]["group_of_end"], strict=True):
        assert torch.equal(own[prefix:] - prefix, wanted.long())
    dense_map = stack.finish(with_prefix=True)
    normed = model.norm(dense_map)
    close(normed[:, prefix:], record["batch"]["map"], **VALUES)
    if "prefix_out" in record["batch"]:
        close(normed[:, :prefix], record["batch"]["prefix_out"], **VALUES)
    for given, wanted in ((None, record["dense"]), (reducer_of(record), record["batch"])):
        token_pruning.apply(model, given)
        normed = model.forward_features(images)
        close(normed[:, prefix:], wanted["map"], **VALUES)
        singles = torch.cat([model.forward_features(image[None]) for image in images])
        close(singles, normed, **VALUES)
        if "logits" in wanted:
            close(model(images), wanted["logits"], **VALUES)


@pytest.mark.parametrize("record", of_kind("mpm_units"))
def test_mpm_units(record):
    for case in record["cases"]:
        x = case["x"]
        valid = torch.ones(x.shape[:2], dtype=torch.bool) if case["valid"] is None else case["valid"]
        tokens = TokenSet.full(x, (1, x.shape[1])).select(valid.flatten())
        once = merge_mutual_pairs(tokens)
        _same_merge(tokens, once, case)
        if case.get("second") is None:
            continue
        twice = merge_mutual_pairs(once)
        _same_merge(once, twice, case["second"])
        for image, own in enumerate(groups(twice)):
            here = valid[image]
            assert torch.equal(own[here], case["composed"][image][here])
            close(twice.restore()[image][here], case["restored"][image][here])


def _same_merge(before, after, wanted):
    start = 0
    index = torch.arange(len(before.x)) if before.index is None else before.index
    for image, (own, number) in enumerate(zip(groups(after), before.counts, strict=True)):
        places = own[index[start : start + number] % before.positions]
        assert torch.equal(places, wanted["ids"][image][:number]), wanted
        there = wanted["tokens_valid"][image]
        close(after.counts.split(after.x)[image], wanted["tokens"][image][there])
        assert after.counts[image] == there.sum()
        assert torch.equal(places.bincount().float(), wanted["counts"][image][there])
        start += number


@pytest.mark.parametrize("record", of_method("pitome"))
@torch.no_grad()
def test_pitome(record):
    model, images, seen = trunk_of(record), record["images"].float(), {}
    close(model(images), record["dense"]["logits"], **VALUES)
    reducer, wanted = reducer_of(record), record["batch"]

    def watch(block, tokens, qkv):
        if qkv is not None:
            seen[block] = tokens, qkv.k.mean(1)

    stack, behind = walk(model, reducer, images, watch)
    assert [[before.counts[0], after.counts[0]] for (before, _), after in zip(seen.values(), behind, strict=True)] == (
        wanted["block_tokens"]
    )
    for layer in wanted["layers"]:
        block, (before, keys) = layer["block"], seen[layer["block"]]
        after = behind[block]
        assert reducer.removed_by(block, before) == layer["r"]
        assert same_partition(groups(after), layer["group_of"].long())
        grid = unit(before.by_image(keys)[:, 1:])
        # The order of the release's tokens differs after the first merge, so values are compared sorted.
        energy = energies(grid, layer["margin"])
        close(energy.sort(1).values, layer["energy"].sort(1).values, **SIMILARITY)
        if block == wanted["layers"][0]["block"]:
            close(grid, unit(layer["metric"]), **SIMILARITY)
            assert torch.equal(energy.argsort(dim=1, descending=True, stable=True) + 1, layer["order"].long())
            match = energy_matching(
                before.by_image(keys), layer["r"], layer["margin"], layer["mode"] == "standard", protected=1
            )
            assert torch.equal(match.sources, layer["sources"].long())
            assert torch.equal(match.targets, layer["targets"].long())
        for name, own in (("size", after.sizes()), ("out_norms", after.x.norm(dim=1))):
            theirs = layer[name].float().sort(1).values
            close(after.by_image(own).sort(1).values, theirs, atol=1e-4)
        own, theirs = groups(after), layer["group_of"].long()
        norms = after.by_image(after.x.norm(dim=1))
        for image in range(len(images)):
            close(norms[image][own[image]], layer["out_norms"][image][theirs[image]], atol=1e-4, rtol=0)
            close(after.by_image(after.sizes())[image][own[image]], layer["size"][image].float()[theirs[image]])
    dense_map = model.norm(stack.finish(with_prefix=True))
    close(dense_map[:, 1:], wanted["map"], **VALUES)
    close(dense_map[:, 0], wanted["cls"], **VALUES)
    token_pruning.apply(model, reducer_of(record))
    close(model(images), wanted["logits"], **VALUES)
    close(torch.cat([model(image[None]) for image in images]), wanted["logits"], **VALUES)


@pytest.mark.parametrize("record", of_kind("pitome_units"))
def test_pitome_units(record):
    for case in record["cases"]:
        metric, x, protected = case["metric"], case["x"], int(case["class_token"])
        n = metric.shape[1]
        full = TokenSet.full(x, (1, n - protected), protected)
        sized = full.take(torch.arange(len(full.x)), full.counts).with_sizes(case["size"].flatten())
        if case["mode"] == "tome":
            match = bipartite_matching(metric, case["r"], protected)
        else:
            close(energies(unit(metric[:, protected:]), case["margin"], case["alpha"]), case["energy"], **SIMILARITY)
            match = energy_matching(
                metric, case["r"], case["margin"], case["mode"] == "standard", case["alpha"], protected
            )
        merged = merge(sized, match)
        own, theirs = groups(merged), case["group_of"].long()
        assert same_partition(own, theirs)
        for image in range(len(x)):
            for name, values in (("x_out", merged.x), ("size_out", merged.sizes())):
                close(merged.by_image(values)[image][own[image]], case[name][image][theirs[image]])
    for case in record.get("rounding", ()):
        reducer = PiToMe(24, 4, keep_ratio=case["ratio"])
        tokens = TokenSet.full(torch.zeros(1, case["tokens"], 24), (1, case["tokens"]))
        assert reducer.removed_by(0, tokens) == case["r"], case


def algm_layers(record, model, reducer, images, run):
    """Compare every merge and the results of one run of ALGM with its record."""
    seen = {}

    def watch(block, tokens, qkv):
        if qkv is not None:
            seen[block] = tokens

    stack, behind = walk(model, reducer, images, watch)
    assert [[seen[i].counts[0], after.counts[0]] for i, after in enumerate(behind)] == run["block_tokens"]
    for layer in run["layers"]:
        before, after = seen[layer["block"]], behind[layer["block"]]
        x = before.by_image(before.x)
        if layer["kind"] == "local":
            members = window_members(before.grid, reducer.window, x.device)
            close(window_similarity(x[:, 1:], members), layer["similarity"], **SIMILARITY)
        else:
            best, partner = best_partners(x, before.prefix)
            close(best, layer["best"], **SIMILARITY)
            assert torch.equal(partner[:, 1:], layer["partner"][:, 1:])
        assert torch.equal(torch.stack(groups(after)), layer["group_of"].long())
        close(after.by_image(after.sizes()), layer["size"].float())
        close(after.by_image(after.x.norm(dim=1)), layer["out_norms"], atol=1e-4, rtol=0)
    tokens, grid = stack.tokens, model.patch_embed.grid_size
    own = torch.stack(groups(tokens))
    assert torch.equal(own, run["group_of_end"].long())
    restored = model.norm(stack.finish(with_prefix=True))
    close(restored[:, 1:], run["map"], **VALUES)
    close(restored[:, 0], run["cls"], **VALUES)
    scores = decoded(record, restored[:, 1:]).unflatten(2, grid)
    close(scores, run["logits_grid_restored_first"], atol=5e-5, rtol=0)
    kept = decoded(record, model.norm(tokens.by_image(tokens.x))[:, 1:])
    copied = kept.gather(2, (own[:, None, 1:] - 1).expand(-1, kept.shape[1], -1)).unflatten(2, grid)
    close(copied, run["logits_grid"], atol=5e-5, rtol=0)


@pytest.mark.parametrize("record", of_method("algm"))
@torch.no_grad()
def test_algm(record):
    """The released rule for the batch, and each image by itself."""
    model, images = trunk_of(record), record["images"].float()
    algm_layers(record, model, reducer_of(record, count="batch"), images, record["batch"])
    for image, single in zip(images, record["singles"], strict=True):
        algm_layers(record, model, reducer_of(record), image[None], single)


@pytest.mark.parametrize("record", of_method("algm"))
@torch.no_grad()
def test_algm_lets_each_image_of_a_batch_merge_its_own_number(record):
    model, images = trunk_of(record), record["images"].float()
    token_pruning.apply(model, reducer_of(record))
    found = model.forward_features(images)
    close(found[:, 1:], torch.cat([single["map"] for single in record["singles"]]), **VALUES)
    close(found[:, 0], torch.cat([single["cls"] for single in record["singles"]]), **VALUES)


@pytest.mark.parametrize("record", [r for r in of_method("algm") if r.values[0].get("train")])
def test_algm_training_step(record):
    runs = {"batch": slice(None), "first_alone": slice(0, 1)}
    for name, part in runs.items():
        model, wanted = trunk_of(record).train(), record["train"][name]
        token_pruning.apply(model, reducer_of(record, count="batch"))
        weights = {k[8:]: v.float() for k, v in record["state_dict"].items() if k.startswith("decoder.")}
        head = {k: nn.Parameter(v) for k, v in weights.items()}
        assert record["model"]["decoder"]["kind"] == "linear"
        scores = model.forward_features(record["images"].float()[part])[:, 1:] @ head["head.weight"].T
        loss = (scores + head["head.bias"]).square().mean()
        assert loss.item() == pytest.approx(wanted["loss"], abs=1e-5)
        loss.backward()
        gradients = {f"encoder.{k}": p.grad for k, p in model.named_parameters() if p.grad is not None}
        gradients |= {f"decoder.{k}": p.grad for k, p in head.items()}
        for name, norm in wanted["grad_norms"].items():
            assert gradients[name].norm().item() == pytest.approx(float(norm), rel=1e-4, abs=1e-6), name
        for name, gradient in wanted["grads"].items():
            close(gradients[name], gradient, atol=1e-6)


@pytest.mark.parametrize("record", of_kind("algm_units"))
def test_algm_units(record):
    for case in record.get("local", ()):
        reducer = ALGM(24, 6, blocks=[0], window=case["window"], count="batch")
        reducer.threshold = case["threshold"]  # also the ones out of range
        full = TokenSet.full(case["metric"], tuple(case["grid"]), 1)
        members = window_members(full.grid, reducer.window, full.x.device)
        close(window_similarity(case["metric"][:, 1:], members), case["similarity"], **SIMILARITY)
        _same_values(_merged(case, 1, reducer.windows(full)), case)
    for case in record.get("globals", ()):
        reducer, prefix = ALGM(24, 6, count="batch"), int(case["class_token"])
        full = TokenSet.full(case["metric"], (1, case["metric"].shape[1] - prefix), prefix)
        best, partner = best_partners(case["metric"], prefix)
        close(best, case["best"], **SIMILARITY)
        assert torch.equal(partner[:, prefix:], case["partner"][:, prefix:])
        _same_values(_merged(case, prefix, reducer.pairs(full, case["layer_number"])), case)
    for case in record.get("rectangles", ()):
        reducer = ALGM(24, 6, blocks=[0], window=case["window"], threshold=case["threshold"])
        full = TokenSet.full(case["metric"], tuple(case["grid"]))
        merged = _merged(case, 0, reducer.windows(full))
        for image, wanted in enumerate(case["images"]):
            assert torch.equal(groups(merged)[image], wanted["group_of"].long())
            close(merged.counts.split(merged.x)[image], wanted["x_out"])
            close(merged.counts.split(merged.sizes())[image], wanted["size_out"].float())


def _merged(case, prefix, plan):
    """Merge the recorded values, which are others than those that were compared, as planned."""
    x = case["x"]
    full = TokenSet.full(x, (1, x.shape[1] - prefix), prefix)
    sized = full.take(torch.arange(len(full.x)), full.counts).with_sizes(case["size"].flatten())
    return sized if plan is None else sized.merge(*plan)


def _same_values(merged, case):
    assert torch.equal(torch.stack(groups(merged)), case["group_of"].long())
    close(merged.by_image(merged.x), case["x_out"])
    close(merged.by_image(merged.sizes()), case["size_out"].float())
