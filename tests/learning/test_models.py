from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mien.config.params import Architecture, Dimension, Params
from mien.errors import MienError
from mien.learning import models
from mien.learning.models import backbone

SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"blocks": ((8,), (16, 16))},
    "vgg16": {"width": 0.125},
    "resnet50": {"width": 0.125},
    "efficientnetb0": {"width": 0.25},
}
PARAMETERS_AT_FULL_WIDTH = {"vgg16": (14.7e6, 14.8e6), "resnet50": (23.4e6, 23.7e6), "efficientnetb0": (4.0e6, 4.1e6)}


def small(name: str, **keywords: Any) -> Architecture:
    return Architecture(network=name, **{**SMALL[name], **keywords})


def faces(n: int) -> Any:
    return np.random.default_rng(0).uniform(0, 255, (n, 48, 48, 1)).astype(np.float32)


def test_every_network_has_a_block_in_params(params: Params) -> None:
    assert sorted({family.model.network for family in params.families.values()}) == models.names()


@pytest.mark.parametrize("name", SMALL)
def test_a_face_becomes_seven_probabilities(name: str) -> None:
    network = models.build(small(name))
    assert network.input_shape == (None, 48, 48, 1)
    answers = np.asarray(network(faces(3)))
    assert answers.shape == (3, 7)
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", PARAMETERS_AT_FULL_WIDTH)
def test_full_width_is_the_published_network(name: str) -> None:
    low, high = PARAMETERS_AT_FULL_WIDTH[name]
    network = models.build(Architecture(network=name))
    assert low < network.count_params() < high
    pooling = next(layer for layer in reversed(network.layers) if "global_average" in layer.name)
    assert pooling.input.shape[1:3] == (3, 3), "an ImageNet stem would leave 2×2 of a 48 px face"


@pytest.mark.parametrize("name", SMALL)
def test_every_family_takes_the_same_keywords(name: str) -> None:
    keywords = {"input_size": 32, "width": 0.1, "dense": (16, 8), "dropout": 0.5, "pooling": "flatten"}
    network = models.build(small(name, **keywords))
    assert network.output_shape == (None, 7)
    assert network.layers[1].output.shape == (None, 32, 32, 1)
    assert [layer.units for layer in network.layers if type(layer).__name__ == "Dense"] == [16, 8, 7]


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        # B: two convolutions at 128 px; C: four at 28 px; E: at 48 px with L2 in its later blocks
        (
            Architecture(
                network="cnn", input_size=128, blocks=((32,), (64,)), batch_norm="none", pooling="flatten", dense=(128,)
            ),
            {"Conv2D": 2, "MaxPooling2D": 2, "Dense": 2, "BatchNormalization": 0, "Dropout": 0},
        ),
        (
            Architecture(
                network="cnn", input_size=28, blocks=((64,), (128,), (256,), (512,)), batch_norm="block",
                block_dropout=0.25, pooling="flatten", dense=(512, 256, 128), dropout=0.25,
            ),
            {"Conv2D": 4, "MaxPooling2D": 4, "Dense": 4, "BatchNormalization": 7, "Dropout": 7},
        ),
        (
            Architecture(
                network="cnn", blocks=((32, 64), (128,), (512,), (512,)), batch_norm="block", block_dropout=0.25,
                pooling="flatten", dense=(256, 512), dropout=0.25, l2=(0.0, 0.0, 0.01, 0.01),
            ),
            {"Conv2D": 5, "MaxPooling2D": 4, "Dense": 3, "BatchNormalization": 6, "Dropout": 6},
        ),
    ],
    ids=["B", "C", "E"],
)  # fmt: skip
def test_parameters_alone_express_the_plain_networks(architecture: Architecture, layers: dict[str, int]) -> None:
    network = models.build(architecture)
    kinds = [type(layer).__name__ for layer in network.layers]
    assert {kind: kinds.count(kind) for kind in layers} == layers
    penalised = [bool(layer.kernel_regularizer) for layer in network.layers if type(layer).__name__ == "Conv2D"]
    assert penalised == ([False, False, False, True, True] if architecture.l2 else [False] * len(penalised))


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Architecture(network="vgg19"), "Unknown network 'vgg19': learning/models has cnn"),
        (Architecture(network="resnet50", options={"stem_strides": 3}), r"model.options.stem_strides is 3, .* 1, 2"),
        (Architecture(network="cnn", options={"depth": 3}), "Unknown key model.options.depth: nothing is expected"),
        (Architecture(network="cnn"), "cnn needs model.blocks"),
        (Architecture(network="cnn", blocks=((8,),), weights="imagenet"), "set weights: null for cnn"),
        (Architecture(network="vgg16", blocks=((8,),)), "vgg16 has its own blocks"),
        (Architecture(network="cnn", blocks=((8,), (8,)), l2=(0.1,)), "lists 1 numbers for 2 blocks"),
    ],
)
def test_what_cannot_be_built_says_why(architecture: Architecture, message: str) -> None:
    with pytest.raises(MienError, match=message):
        models.build(architecture)


def test_a_network_has_hyperparameters_of_its_own() -> None:
    shapes = [
        models.build(small("resnet50", options={"stem_strides": strides})).layers[-3].input.shape[1:3]
        for strides in (1, 2)
    ]
    assert shapes == [(6, 6), (3, 3)]


def test_options_and_networks_that_are_none_are_named_together_and_at_once(params: Params) -> None:
    block = params.family("resnet50")
    wrong = {
        "a": replace(block, model=Architecture("vgg19")),
        "b": replace(block, model=Architecture("resnet50", options={"stem": 1})),
        "c": replace(block, search={"model.options.depth": Dimension(low=1, high=2)}),
        "d": replace(block, search={"model.options.stem_strides": Dimension(choices=(1, 2))}),
    }
    with pytest.raises(MienError) as caught:
        models.check(replace(params, families=wrong, students={}))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "Unknown network 'vgg19'",
        "Unknown key families.b.model.options.stem",
        "families.c.search has model.options.depth, which resnet50 does not have.",
    ]
    models.check(replace(params, families=wrong), ("d",))


def test_pretrained_weights_that_cannot_be_loaded_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    def offline(**_: object) -> None:
        raise Exception("URL fetch failure")  # noqa: TRY002  (what Keras raises)

    monkeypatch.setattr(keras.applications, "VGG16", offline)
    with pytest.raises(MienError, match=r"ImageNet weights of VGG16 could not be loaded .*set weights: null"):
        models.build(Architecture(network="vgg16", weights="imagenet"))


@pytest.mark.parametrize("name", ["vgg16", "resnet50", "efficientnetb0"])
def test_imagenet_faces_arrive_as_keras_preprocesses_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    seen = {}

    def twin(**keywords: Any) -> Any:
        seen.update(keywords)
        return keras.layers.Identity()

    keras_name = models.find(name).PRETRAINED
    monkeypatch.setattr(keras.applications, keras_name, twin)
    network = models.build(replace(small(name), weights="imagenet", blocks=(), pooling="avg", width=1.0))
    assert seen["weights"] == "imagenet"
    gray = np.full((1, 48, 48, 1), 100, np.float32)
    module = {"VGG16": "vgg16", "ResNet50": "resnet50", "EfficientNetB0": "efficientnet"}[keras_name]
    expected = getattr(keras.applications, module).preprocess_input(np.repeat(gray, 3, axis=-1))
    pooled = keras.Model(network.input, network.layers[-1].input)(gray)
    np.testing.assert_allclose(np.asarray(pooled)[0], expected[0, 0, 0], atol=1e-3)


@pytest.mark.parametrize(("shape", "said"), [((None, 64), "(None, 64)"), (None, "NoneType")])
def test_features_that_are_no_maps_are_refused_with_what_was_returned(shape: Any, said: str) -> None:
    import keras

    returned = keras.KerasTensor(shape) if shape else None
    with pytest.raises(MienError, match=r"learning/models/mine\.py returned .*expected feature maps") as error:
        backbone.checked(returned, "mine")
    assert said in str(error.value)
