"""What reducers need from a tower besides its tokens: how it embeds patches, and rotary positions of another grid."""

import pytest
import torch
from hugging_face import PATCH, TOWERS, images, tower
from reducers import reduced

import token_pruning
from token_pruning import TokenSet
from token_pruning.hf import family_of
from token_pruning.methods.apt import APT
from token_pruning.methods.cubist_merge import CubistMerge

NATIVE = [(name, 48, 48, {}) for name in TOWERS]
ANY_SIZE = [
    (name, 44, 67, {}) for name in ("DINOv2", "DINOv2 with registers", "DINOv3 ViT", "BEiT", "BEiT shared", "YOLOS")
]
ASKED = [
    (name, 40, 64, dict(interpolate_pos_encoding=True)) for name in ("ViT", "DeiT", "CLIP (vision)", "SigLIP (vision)")
]
ROTARY = ["DINOv3 ViT", "EoMT DINOv3"]


@pytest.mark.parametrize("name, height, width, options", [*NATIVE, *ANY_SIZE, *ASKED])
@torch.no_grad()
def test_the_embedding_makes_the_tokens_of_the_tower(name, height, width, options, monkeypatch):
    model, seen = tower(name), []

    def spied(reducer, tokens, embedding, state):
        seen.append((tokens, embedding))
        return tokens

    monkeypatch.setattr(APT, "embed", spied)
    token_pruning.apply(model, dict(type="APT"))
    x = images(2, height, width)
    model(x, **options)
    ((tokens, embedding),) = seen
    rows, columns = embedding.grid
    assert (rows, columns) == (height // PATCH, width // PATCH)
    assert torch.equal(embedding.image, x[..., : rows * PATCH, : columns * PATCH])
    patches = embedding.image.unflatten(2, (rows, PATCH)).unflatten(4, (columns, PATCH)).permute(0, 2, 4, 1, 3, 5)
    made = embedding.embed(patches.flatten(0, 2))
    torch.testing.assert_close(made, embedding.patches.flatten(0, 1), atol=1e-5, rtol=1e-5)
    if embedding.positions is not None:
        made = (made.unflatten(0, (2, -1)) + embedding.positions).flatten(0, 1)
    found = tokens.by_image(tokens.x)[:, tokens.prefix :].flatten(0, 1)
    torch.testing.assert_close(embedding.finish(made), found, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_without_absolute_positions_there_is_no_table():
    model = tower("BEiT")
    assert model.embeddings.position_embeddings is None
    with_table = tower("BEiT", use_absolute_position_embeddings=True)
    for one in (model, with_table):
        together = token_pruning.apply(one, reduced(dict(type="APT"), grid=36))(images()).last_hidden_state
        singles = [one(x[None]).last_hidden_state for x in images()]
        torch.testing.assert_close(together, torch.cat(singles), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ROTARY)
@torch.no_grad()
def test_a_smaller_grid_is_rotated_as_the_tower_rotates_one_of_its_size(name):
    """CubistMerge before the first block: from there on, the model is the plain one on a grid of 5 x 4."""
    model, x = tower(name), images()
    reducer = dict(type="CubistMerge", r=(1, 2), block=0)
    prefix = family_of(model).front(model.config)
    merged = CubistMerge(24, 4, r=(1, 2), block=0)
    small = merged.enter_block(0, TokenSet.full(model.embeddings(x), (6, 6), prefix), None)
    assert small.subgrid.grid in ((5, 4), (4, 5))
    rows, columns = small.subgrid.grid
    rotary = model.rope_embeddings(torch.zeros(1, 3, rows * PATCH, columns * PATCH))
    wanted = small.by_image(small.x)
    late = 0
    for i, layer in enumerate(family_of(model).layers_of(model)):
        if name == "EoMT DINOv3" and i == 2:
            wanted, late = torch.cat([model.query.weight.expand(3, -1, -1), wanted], dim=1), len(model.query.weight)
        wanted = layer(wanted, position_embeddings=rotary)
    wanted = (model.layernorm if late else model.norm)(wanted)
    found = token_pruning.apply(model, reducer)(x).last_hidden_state
    places = small.by_image(small.index % small.positions) + late
    found = torch.cat([found[:, :late], found.gather(1, places[..., None].expand(-1, -1, 24))], dim=1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
