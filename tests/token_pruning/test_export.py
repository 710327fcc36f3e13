"""torch.export of every registered method: one graph for any batch, or one sentence that says why not."""

import pytest
import torch
from reducers import ALL, DEPTH, DIM, reduced, scattered
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.export import Dim, export

import token_pruning
from token_pruning import METHODS, ExportError, PlainViT

# A method is exported with its defaults, or with what fixes the shapes of its graph.
SETTINGS = dict(SViT=dict(mode="ratio"))
# Spellings of a method that run other code.
MORE = [
    dict(type="SViT", capacity_scale=1.9, execution="capacity"),
    dict(type="EViT", fuse=False),
    dict(type="CubistMerge", r=1, window_size=3),
]
FIXED = [name for name in ALL if METHODS[name].fixed_shapes]


class Outputs(nn.Module):
    """Returns the tokens that are left in the end and the logits."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        kept = self.model.forward_features(image)
        return kept, self.model.forward_head(kept)


def outputs(reducer=None, execution="exact"):
    torch.manual_seed(0)
    vit = VisionTransformer(img_size=32, patch_size=8, embed_dim=DIM, depth=DEPTH, num_heads=3, num_classes=5).eval()
    reducer = reducer and reduced(reducer, grid=16)
    return Outputs(scattered(token_pruning.apply(vit, reducer, execution=execution, output="kept")))


def images(batch, height=32, width=32):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(batch))


def any_batch(model, sides=()):
    return export(model, (images(2),), dynamic_shapes=({0: Dim("batch"), **dict(sides)},), strict=False).module()


@pytest.mark.parametrize(
    "reducer",
    [None, *(dict(type=name, **SETTINGS.get(name, {})) for name in FIXED), *MORE],
    ids=lambda reducer: " ".join(map(str, (reducer or dict(type="dense")).values())),
)
@torch.no_grad()
def test_one_graph_for_any_batch_equals_the_model(reducer):
    reducer = reducer and dict(reducer)
    model = outputs(reducer, execution=reducer.pop("execution", "exact") if reducer else "exact")
    graph = any_batch(model)
    for batch in (1, 5):  # the graph was made from two other pictures
        for found, wanted in zip(graph(images(batch)), model(images(batch)), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [*(name for name in ALL if name not in FIXED), "SViT"])
@torch.no_grad()
def test_a_number_of_tokens_that_depends_on_the_images_is_refused(name):
    sentence = f"^torch.export needs a number of tokens that does not depend on the images, and {name} keeps more in "
    with pytest.raises(ExportError, match=sentence) as raised:
        any_batch(outputs(dict(type=name)))
    assert "\n" not in str(raised.value) and ("execution = 'capacity'" in str(raised.value)) == (name == "SViT")


def test_a_method_that_counts_on_the_host_is_refused_where_it_does():
    class Positive(token_pruning.Reducer):
        def after_block(self, block, tokens, state):
            return tokens.select((tokens.x[:, 0] > 0) | tokens.is_prefix())

    model = token_pruning.apply(outputs().model, Positive(DIM, DEPTH))
    with pytest.raises(ExportError, match="^torch.export needs .* `counts`"):
        any_batch(model)


class Plain(PlainViT):
    def forward(self, image):
        stack = self.start(image)
        stack.run(0, self.depth - 1)
        return stack.finish()


SIDES = {2: 8 * Dim("rows", min=4, max=64), 3: 8 * Dim("columns", min=4, max=64)}


def plain(reducer):
    torch.manual_seed(0)
    settings = dict(img_size=32, patch_size=8, embed_dim=DIM, depth=2, num_heads=3, class_token=True)
    return Plain(**settings, reducer=reducer).eval()


@pytest.mark.parametrize(
    "reducer",
    [
        None,
        dict(type="ToMe", r=2),
        dict(type="ToMe", r=0.1),
        dict(type="PiToMe"),
        dict(type="EViT", keep_ratio=0.6, blocks=[0]),
        dict(type="PPT", r=3, blocks=[0]),
        dict(type="Cropr", prune_after=[0], keep_ratio=0.5, fusion=False),
        dict(type="SViT", mode="ratio", keep_ratio=0.5),
        dict(type="DynamicViT", blocks=[1]),
        dict(type="EvoViT", blocks=[1]),
    ],
    ids=lambda reducer: "dense" if reducer is None else " ".join(map(str, reducer.values())),
)
@torch.no_grad()
def test_one_graph_for_any_size_equals_the_model(reducer):
    model = plain(reducer and dict(reducer))
    graph = export(model, (images(2, 64, 64),), dynamic_shapes=({0: Dim("batch"), **SIDES},), strict=False).module()
    for shape in [(2, 64, 64), (1, 96, 72), (3, 64, 128)]:  # odd and even numbers of tokens
        torch.testing.assert_close(graph(images(*shape)), model(images(*shape)), rtol=1e-5, atol=1e-5)


def test_a_random_order_is_of_one_size():
    with pytest.raises(ExportError, match="free height and width cannot hold a random order"):
        any_batch(plain(dict(type="Random")), SIDES)
