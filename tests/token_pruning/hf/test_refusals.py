"""What cannot be run is one sentence that says why and what to do."""

import pytest
import torch
from host_models import NO_TOWERS
from hugging_face import FORMS, PAIRS, images, tower, transformers
from reducers import ALL, reduced
from torch import nn

import token_pruning
from token_pruning import METHODS, find_host

TOME = dict(type="ToMe", r=2)


def refused(model, sentence, reducer=TOME, error=TypeError, **options):
    before = {id(module): set(vars(module)) for module in model.modules()}
    with pytest.raises(error, match=sentence) as caught:
        token_pruning.apply(model, reducer, **options)
    assert "\n" not in str(caught.value) and not str(caught.value).endswith(".")
    assert {id(module): set(vars(module)) for module in model.modules()} == before  # nothing is left half done


@pytest.mark.parametrize("name", NO_TOWERS)
def test_windows(name):
    model = NO_TOWERS[name]()
    refused(model, rf"{type(model).__name__} attends in windows .* CubistMerge.* this project's own windowed hosts")


def test_models_that_are_no_vision_transformer():
    tiny = dict(hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=24, vocab_size=9)
    words = transformers.BertModel(transformers.BertConfig(**tiny))
    refused(words, "BertModel holds no vision transformer .* ViT, DeiT, .* YOLOS")
    with torch.device("meta"):
        refused(transformers.ResNetModel(transformers.ResNetConfig()), "ResNetModel holds no vision transformer")
    text = PAIRS["CLIPModel"]().text_model
    refused(text, "CLIPTextModel holds no vision transformer")
    both = nn.ModuleList([tower("ViT"), tower("DINOv2")])
    refused(both, r"ModuleList holds 2 vision transformers \(0, 1\)")
    refused(tower("ViTMAE", mask_ratio=0.75), "ViTMAEModel leaves out 75% of the patches .* mask_ratio=0")


@pytest.mark.parametrize("method", [name for name in ALL if METHODS[name].needs_class_token])
def test_a_class_token_where_there_is_none(method):
    model = FORMS["SiglipForImageClassification"]()[0]
    refused(
        model, f"{method} ranks tokens by the class token.*SiglipVisionModel has none", dict(type=method), ValueError
    )


class OtherLayer(nn.Module):
    def forward(self, x, *args, **kwargs):
        return x


def test_layers_of_another_library():
    model = tower("ViT")
    model.layers[2] = OtherLayer()
    refused(model, "layer 2 of ViTModel is a OtherLayer and not ViTLayer of transformers")
    model = tower("ViT")
    model.layers[1].forward = lambda *args, **kwargs: args[0]
    refused(model, "the forward of layer 1 was replaced by another library")
    model = tower("ViT")
    model.forward = lambda *args, **kwargs: None
    refused(model, "the forward of ViTModel was replaced by another library")
    model = tower("ViT")
    model.layers[3].attention = nn.Identity()
    refused(model, "the attention of layer 3 is a Identity and not that of ViTLayer")

    class Faster(type(tower("ViT").layers[0])):
        def forward(self, x, *args, **kwargs):
            return x

    model = tower("ViT")
    model.layers[0].__class__ = Faster
    refused(model, "layer 0 of ViTModel is a Faster")


def test_settings():
    refused(tower("ViT"), "unknown reducer type 'Tome'", dict(type="Tome"), ValueError)
    refused(tower("ViT"), "execution is 'fast'", error=ValueError, execution="fast")
    refused(
        tower("ViT"), "output is 'kept'; models of transformers return every position", error=ValueError, output="kept"
    )
    with pytest.raises(ValueError, match="ViTModel has no reducer to remove"):
        token_pruning.remove(tower("ViT"))


@torch.no_grad()
def test_a_second_reducer_replaces_the_first():
    model, _ = FORMS["ViTForImageClassification"]()
    wanted = model(images()).logits
    token_pruning.apply(model, reduced(dict(type="SViT"), grid=36))
    token_pruning.apply(model.vit, TOME)  # the same tower, given by itself
    assert type(find_host(model).reducer).__name__ == "ToMe" and not any("reducer" in key for key in model.state_dict())
    token_pruning.remove(model)
    assert torch.equal(model(images()).logits, wanted) and find_host(model) is None


def test_compiled_models():
    model, _ = FORMS["ViTForImageClassification"]()
    refused(torch.compile(model, backend="eager"), "torch.compile has compiled this model already")
    model.vit = torch.compile(model.vit, backend="eager")
    refused(
        model, "torch.compile has compiled this model already: call token_pruning.apply on the model that was given"
    )
    model = tower("ViT")
    model.layers[0].compile(backend="eager")
    refused(model, "torch.compile has compiled")


@torch.no_grad()
def test_calls_that_do_not_fit_a_subset():
    model, x = token_pruning.apply(FORMS["ViTForImageClassification"]()[0], TOME), images()
    with pytest.raises(ValueError, match="output_attentions asks for N x N weights"):
        model(x, output_attentions=True)
    model.set_attn_implementation("eager")
    model.config.output_attentions = True
    with pytest.raises(ValueError, match="output_attentions asks for N x N weights"):
        model(x)
    model.config.output_attentions = False
    with pytest.raises(ValueError, match="takes no attention_mask"):
        model(x, attention_mask=torch.ones(3, 37))
    with pytest.raises(ValueError, match="torch.jit.trace"):
        torch.jit.trace(model, x, strict=False)
    with pytest.raises(ValueError, match="torch.jit.script"):
        torch.jit.script(model.vit)
    with pytest.raises(ValueError, match="doesn't match model"):  # what transformers says of a size, as ever
        model(images(2, 40, 64))
    apt = token_pruning.apply(tower("DINOv2"), dict(type="APT"))
    with pytest.raises(ValueError, match="APT makes tokens from the image, .* leave bool_masked_pos out"):
        apt(x, bool_masked_pos=torch.ones(3, 36, dtype=torch.bool))
    eomt = token_pruning.apply(tower("EoMT masked"), dict(type="SViT", mode="threshold"), execution="capacity")
    with pytest.raises(ValueError, match="masked attention needs .* execution='exact'"):
        eomt(x)
    mae = token_pruning.apply(tower("ViTMAE"), TOME)
    mae.config.mask_ratio = 0.5
    with pytest.raises(
        ValueError, match="ViTMAEModel gives its layers 19 tokens, and the images have 6 x 6 patches and 1"
    ):
        mae(x)
