"""An exported model as the start of a training: it answers as before, and its normalisation learns again."""

import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from mien.config.params import Architecture, Augmentation, Training
from mien.data.dataset import Split
from mien.errors import MienError
from mien.inference.runtime import Runtime
from mien.learning import models
from mien.learning.training import exported, loop
from mien.learning.training.loop import Plan, train

SHIPPED = Architecture(
    network="cnn",
    weights="shipped",
    blocks=((32, 32), (64, 64), (128, 128), (256, 256), (512,)),
    dropout=0.35598375844802294,
)
KEPT = Training(
    epochs=0, batch_size=16, optimizer="sgd", learning_rate=0.01, schedule="cosine", augmentation=Augmentation()
)


def faces(n: int) -> Split:
    """Blurred noise, which is no face but has its grays."""
    random = np.random.default_rng(0)
    images = np.repeat(np.repeat(random.integers(0, 256, (n, 12, 12, 1)), 4, axis=1), 4, axis=2).astype(np.uint8)
    return Split(images, np.arange(n) % 7, np.zeros(n, bool), np.arange(n))


def plan(architecture: Architecture = SHIPPED, recipe: Training = KEPT) -> Plan:
    return Plan.of(architecture, recipe, faces(70), faces(14), seed=3)


def test_without_an_epoch_the_answers_are_those_of_the_shipped_model(tmp_path: Path) -> None:
    result = train(plan(), tmp_path)
    expected = Runtime(exported.SHIPPED, backend="onnxruntime").predict(faces(14).images.astype(np.float32))
    assert np.allclose(loop.predict(result.network, faces(14)), expected, atol=1e-4)
    assert (result.state.epoch, result.state.best, result.state.history) == (0, 0, {})


def test_normalisation_has_the_statistics_of_the_faces_so_that_training_goes_on_from_there() -> None:
    network = train(plan()).network
    images = faces(70).images.astype(np.float32)
    learning, serving = network(images, training=True), network(images, training=False)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            spread = keras.ops.convert_to_numpy(layer.gamma) / np.sqrt(
                keras.ops.convert_to_numpy(layer.moving_variance) + layer.epsilon
            )
            assert np.allclose(spread, 1, atol=0.02), "what the moving average has not moved away from"
    deterministic = models.build(dataclasses.replace(SHIPPED, dropout=0.0))
    deterministic.set_weights(train(plan()).network.get_weights())
    learning = keras.ops.convert_to_numpy(deterministic(images, training=True))
    assert np.abs(learning - keras.ops.convert_to_numpy(serving)).max() < 0.01


def test_an_epoch_trains_the_shipped_weights_further_and_another_shipped_model_is_another_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = dataclasses.replace(KEPT, epochs=1, learning_rate=1e-6, precision="float32")
    further = train(plan(recipe=recipe)).network.get_weights()
    drawn = train(plan(dataclasses.replace(SHIPPED, weights=None), recipe)).network.get_weights()
    kept = train(plan()).network.get_weights()
    assert np.allclose(further[0], kept[0], atol=1e-3)
    assert not np.allclose(drawn[0], kept[0], atol=1e-2)
    before = plan().fingerprint
    monkeypatch.setattr(exported, "digest", lambda _: "another")
    assert plan().fingerprint != before


def test_a_network_that_differs_is_refused_with_the_kernels_of_the_shipped_one() -> None:
    other = dataclasses.replace(SHIPPED, blocks=((8,), (16,)))
    with pytest.raises(MienError, match=r"network cnn cannot start from .*model.onnx.*\(3, 3, 1, 32\).*\(512, 7\)"):
        train(plan(other))
    with pytest.raises(MienError, match="normalises batches elsewhere"):
        train(plan(dataclasses.replace(SHIPPED, batch_norm="block")))


def test_every_export_of_a_network_like_the_shipped_one_can_be_restored(tmp_path: Path) -> None:
    small = Architecture(network="cnn", blocks=((8,), (16,)), dense=(12,), batch_norm="conv", pooling="flatten")
    plain = dataclasses.replace(small, batch_norm="none")
    for number, architecture in enumerate((dataclasses.replace(small, dense=()), plain)):
        keras.utils.set_random_seed(number)
        network, again = models.build(architecture), models.build(architecture)
        drawn = np.random.default_rng(1)
        network.set_weights([w if w.ndim > 1 else drawn.uniform(0.1, 0.5, w.shape) for w in network.get_weights()])
        loop.export(network, tmp_path / "model.onnx")
        exported.restore(again, faces(70).images, tmp_path / "model.onnx")
        assert np.allclose(loop.predict(again, faces(14)), loop.predict(network, faces(14)), atol=1e-4)


def test_an_installation_without_the_model_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(exported, "SHIPPED", tmp_path / "model.onnx")
    with pytest.raises(MienError, match=r"needs the package's own model, and .*model\.onnx is missing"):
        train(plan())


def test_any_exported_file_can_be_named_and_its_bytes_belong_to_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    shutil.copy(exported.SHIPPED, file)
    named = dataclasses.replace(SHIPPED, weights=str(file))
    assert np.allclose(train(plan(named)).network.get_weights()[0], train(plan()).network.get_weights()[0])
    assert plan(named).start == plan().start
    file.write_bytes(b"no model")
    assert plan(named).start != plan().start


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"weights: .*mine\.onnx is not there"), (b"no model", r"mine\.onnx is no ONNX model")],
)
def test_a_file_that_is_no_export_is_refused_by_name(content: bytes | None, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.onnx"
    if content:
        file.write_bytes(content)
    with pytest.raises(MienError, match=message):
        train(plan(dataclasses.replace(SHIPPED, weights=str(file))))
