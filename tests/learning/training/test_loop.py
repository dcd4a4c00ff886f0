import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from mien.config.params import Architecture, Augmentation, DistillationRecipe, Training
from mien.data import dataset
from mien.data.dataset import Split
from mien.errors import MienError
from mien.learning import models
from mien.learning.training import hardware, loop
from mien.learning.training.batches import Batches
from mien.learning.training.checkpoints import State
from mien.learning.training.cost import macs
from mien.learning.training.distillation import DistillationLoss, Teachers
from mien.learning.training.loop import Plan, train
from mien.learning.training.optimizers import optimizer, plateau, rate

NETWORK = Architecture(network="cnn", blocks=((8,), (16,)), dropout=0.2)
RECIPE = Training(
    epochs=2,
    batch_size=16,
    optimizer="sgd",
    learning_rate=0.05,
    schedule="cosine",
    augmentation=Augmentation(flip=True, rotation=10, shift=0.05, zoom=0.1, brightness=0.1, contrast=0.1, erasing=0.5),
    weight_decay=0.001,
    label_smoothing=0.1,
    mixup=0.2,
)


def faces(n: int, seed: int = 0) -> Split:
    """Faces whose left half is the brighter the higher the label, so that a few batches learn something."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 7
    images = random.integers(0, 60, (n, 48, 48, 1))
    images[:, :24] += (labels * 25)[:, None, None, None]
    return Split(images.astype(np.uint8), labels.astype(np.int64), np.zeros(n, bool), np.arange(n))


def plan(**changes: Any) -> Plan:
    return Plan.of(NETWORK, dataclasses.replace(RECIPE, **changes), faces(70), faces(35, seed=1), seed=3)


def weights(result: loop.Result) -> Any:
    return np.concatenate([np.ravel(array) for array in result.network.get_weights()])


class KilledError(Exception):
    """Stands in for a kill -9 between two epochs."""


def cut_short(made: Plan, folder: Path) -> None:
    """Train one epoch, and be killed."""

    def kill(epoch: int, numbers: dict[str, float]) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        train(made, folder, on_epoch=kill)


def test_the_same_seed_trains_the_same_network_bit_for_bit() -> None:
    first, again = train(plan()), train(plan())
    assert np.array_equal(weights(first), weights(again))
    assert first.state.history["loss"] == again.state.history["loss"]


def test_a_training_cut_short_carries_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = train(plan(ema=0.9))
    cut_short(plan(ema=0.9), tmp_path)
    epochs: list[int] = []
    resumed = train(plan(ema=0.9), tmp_path, on_epoch=lambda epoch, numbers: epochs.append(epoch))
    assert epochs == [2]
    assert resumed.state.history == whole.state.history
    assert np.array_equal(weights(resumed), weights(whole))


def test_a_checkpoint_of_another_plan_is_not_carried_on(tmp_path: Path) -> None:
    train(plan(epochs=1), tmp_path)
    epochs: list[int] = []
    train(plan(epochs=2), tmp_path, on_epoch=lambda epoch, numbers: epochs.append(epoch))
    assert epochs == [1, 2]


@pytest.mark.parametrize("which", ["last-*.npz", "best-*.npz"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, which: str) -> None:
    cut_short(plan(), tmp_path)
    (path,) = tmp_path.glob(which)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(MienError, match=rf"{path.name} cannot be carried on from.*Remove the folder .* to begin"):
        train(plan(), tmp_path)


@pytest.mark.parametrize("change", [lambda arrays: arrays[:-1], lambda arrays: arrays[::-1]])
def test_a_checkpoint_of_other_networks_is_named(tmp_path: Path, change: Any) -> None:
    cut_short(plan(), tmp_path)
    with np.load(tmp_path / "last-0001.npz") as file:
        arrays = list(file.values())
    np.savez(tmp_path / "last-0001.npz", *change(arrays))
    with pytest.raises(MienError, match="another version of Mien or Keras wrote it"):
        train(plan(), tmp_path)


def test_only_the_last_and_the_best_epoch_are_kept(tmp_path: Path) -> None:
    state = train(plan(), tmp_path).state
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"state.json", "last-0002.npz", f"best-{state.best:04d}.npz"}


def test_training_learns() -> None:
    state = train(
        plan(epochs=12, precision="float32", mixup=0.0, augmentation=Augmentation(), label_smoothing=0.0)
    ).state
    assert state.history["loss"][-1] < state.history["loss"][0]
    assert max(state.history["val_accuracy"]) > 2 / 7


def test_the_best_epochs_weights_are_kept() -> None:
    result = train(plan(epochs=3))
    guesses = loop.predict(result.network, plan().validation).argmax(axis=1)
    assert np.mean(guesses == plan().validation.labels) == result.state.history["val_accuracy"][result.state.best - 1]


def test_leaked_validation_faces_choose_nothing() -> None:
    leaked = dataclasses.replace(faces(35), leaked=np.arange(35) < 20)
    assert len(Plan.of(NETWORK, RECIPE, faces(70), leaked, seed=3).validation) == 15


def test_patience_ends_a_training() -> None:
    state = train(plan(epochs=9, learning_rate=0.0, schedule="constant", patience=2)).state
    assert state.epoch == state.best + 2 < 9


@pytest.mark.parametrize("balance", ["none", "weights", "sampling"])
def test_an_epoch_is_the_same_after_a_restart_and_differs_from_the_next(balance: Any) -> None:
    recipe = dataclasses.replace(RECIPE, balance=balance)
    first, again, following = (Batches(faces(70), recipe, 3, epoch) for epoch in (4, 4, 5))
    assert np.array_equal(first.order, again.order)
    assert np.array_equal(first[0][0], again[0][0])
    assert not np.array_equal(first.order, following.order)


class Late(Batches):
    """Every other batch takes its thread so long that the other's is ready first."""

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.05 * (index % 2 == 0))
        return super().__getitem__(index)


def test_batches_of_a_split_too_large_for_memory_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.write_split(tmp_path, "train", faces(70))
    monkeypatch.setattr(dataset, "GROUP", 32)
    mapped = dataset.read_split(tmp_path, "train")
    assert isinstance(mapped.images, np.memmap)
    batches, again = (Batches(split, RECIPE, 3, 0) for split in (faces(70), mapped))
    for index in range(len(batches)):
        for one, other in zip(batches[index], again[index], strict=True):
            np.testing.assert_array_equal(one, other)


def test_threads_hand_their_batches_over_in_order() -> None:
    batches = Late(faces(128), dataclasses.replace(RECIPE, mixup=0.0), 3, 0)
    scale, flat, answer = keras.layers.Rescaling(0.001), keras.layers.Flatten(), keras.layers.Dense(7)
    network = keras.Sequential([keras.Input((48, 48, 1)), scale, flat, answer])
    network.compile("sgd", "mse")
    start = network.get_weights()
    network.fit(batches, epochs=2, shuffle=False, verbose=0)  # in the first, all wait while the step is traced
    fitted = network.get_weights()
    network.set_weights(start)
    for index in 2 * list(range(len(batches))):
        network.train_on_batch(*batches[index])
    assert np.abs(fitted[0] - start[0]).max() > 1e-4
    np.testing.assert_array_equal(fitted[0], network.get_weights()[0])


def unbalanced() -> Split:
    split = faces(700)
    return split.take(np.flatnonzero((split.labels != 1) | (split.rows < 70)))


def test_class_weights_give_every_emotion_the_same_say() -> None:
    batches = Batches(unbalanced(), dataclasses.replace(RECIPE, balance="weights"), 3, 0)
    sums = np.bincount(batches.split.labels, weights=batches.weights)
    np.testing.assert_allclose(sums, sums[0], rtol=1e-5)
    assert batches.weights.mean() == pytest.approx(1, rel=1e-5)


def test_balanced_sampling_shows_every_emotion_alike() -> None:
    split = unbalanced()
    assert np.bincount(split.labels)[1] == 10
    shown = np.bincount(split.labels[Batches(split, dataclasses.replace(RECIPE, balance="sampling"), 3, 0).order])
    assert shown[1] > 50


def test_mixup_blends_answers_as_it_blends_faces() -> None:
    batches = Batches(faces(70), dataclasses.replace(RECIPE, mixup=1.0), 3, 0)
    mixed, answers, _ = batches[0]
    rows = batches.order[:16]
    plain = batches.split.images[rows].astype(np.float32)
    share = batches.mixes[0]
    np.testing.assert_allclose(mixed, share * plain + (1 - share) * plain[::-1], rtol=1e-4)
    np.testing.assert_allclose(answers.sum(axis=1), 1, rtol=1e-5)


def test_the_learning_rate_rises_to_its_peak_and_falls_to_nothing() -> None:
    schedule = rate(dataclasses.replace(RECIPE, epochs=10, warmup=0.2), steps=10)
    values = [float(schedule(step)) for step in (0, 10, 20, 60, 100)]
    assert values[0] == pytest.approx(0.002)
    assert values[2] == pytest.approx(0.05)
    assert values[0] < values[1] < values[2] > values[3] > values[4] == pytest.approx(0, abs=1e-6)


def test_a_restart_begins_again_at_half_the_peak() -> None:
    whole = rate(dataclasses.replace(RECIPE, epochs=10, warmup=0.2), steps=10)
    restarted = rate(dataclasses.replace(RECIPE, epochs=15, restart=10, warmup=0.2), steps=10)
    for step in (0, 7, 20, 60, 99):
        assert float(restarted(step)) == pytest.approx(float(whole(step)), abs=1e-9)
    assert max(float(restarted(step)) for step in range(100, 150)) == pytest.approx(0.025)
    assert float(restarted(150)) == pytest.approx(0, abs=1e-6)


def test_a_plateau_of_five_epochs_lowers_the_learning_rate() -> None:
    assert plateau([]) == 1
    assert plateau([0.5] + [0.4] * 4) == 1
    assert plateau([0.5] + [0.4] * 5) == 0.75
    assert plateau([0.5] + [0.4] * 5 + [0.6] + [0.4] * 5) == 0.75**2


def test_several_steps_in_one_call_learn_what_single_ones_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    single = train(plan(ema=0.9))
    monkeypatch.setattr(hardware, "steps_per_call", lambda: 3)  # of the four steps of an epoch
    several = train(plan(ema=0.9))
    assert several.state.history == single.state.history
    assert np.array_equal(weights(several), weights(single))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_every_optimizer_takes_the_recipe(name: Any) -> None:
    made = optimizer(dataclasses.replace(RECIPE, optimizer=name, ema=0.99, schedule="constant"), steps=3)
    assert type(made).__name__.lower() == name
    assert made.weight_decay == 0.001
    assert made.use_ema


def test_bfloat16_is_chosen_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpus", list)
    monkeypatch.setattr(hardware, "cpu_flags", lambda: {"avx2", "amx_bf16"})
    assert hardware.precision("auto") == "mixed_bfloat16"
    monkeypatch.setattr(hardware, "cpu_flags", lambda: {"avx2"})
    assert hardware.precision("auto") == "float32"
    assert hardware.precision("mixed_bfloat16") == "mixed_bfloat16"


def test_mixed_precision_answers_in_float32() -> None:
    result = train(plan(epochs=1, precision="mixed_bfloat16"))
    assert {layer.compute_dtype for layer in result.network.layers if "conv" in layer.name} == {"bfloat16"}
    assert loop.predict(result.network, faces(3)).dtype == np.float32
    assert keras.config.dtype_policy().name == "float32"


def test_faces_of_several_batches_are_answered_in_their_order() -> None:
    network, mixed = models.build(NETWORK), faces(1100).take(np.random.default_rng(5).permutation(1100))
    answers = np.asarray(network(mixed.images.astype(np.float32), training=False))
    np.testing.assert_allclose(loop.predict(network, mixed), answers, atol=1e-5)


@pytest.mark.parametrize("size", [48, 32])
def test_the_exported_file_answers_like_the_network_in_float32(tmp_path: Path, size: int) -> None:
    from mien.inference.runtime import Runtime

    made = dataclasses.replace(NETWORK, input_size=size)
    trained = train(dataclasses.replace(plan(epochs=1, precision="mixed_bfloat16"), architecture=made))
    network = loop.in_float32(trained, made).network
    loop.export(network, tmp_path / "model.onnx")
    for n in (1, 5):
        served = Runtime(tmp_path / "model.onnx", backend="onnxruntime").predict(faces(n).images.astype(np.float32))
        np.testing.assert_allclose(served, loop.predict(network, faces(n)), atol=1e-5)
        np.testing.assert_allclose(served, loop.predict(trained.network, faces(n)), atol=0.05)


def test_averages_of_the_weights_are_judged_and_not_trained_on() -> None:
    plain, averaged = train(plan(epochs=3)), train(plan(epochs=3, ema=0.9))
    assert averaged.state.history["loss"] == plain.state.history["loss"]
    assert averaged.state.history["val_loss"] != plain.state.history["val_loss"]


def test_a_state_remembers_its_best_epoch() -> None:
    state = State("plan")
    for score in (0.3, 0.5, 0.4):
        state.record({"val_macro_f1": score}, seconds=1)
    assert (state.epoch, state.best, state.seconds) == (3, 2, 3)


def teacher(folder: Path, name: str, seed: int) -> None:
    """A network of other weights, saved as `train` saves it."""
    keras.utils.set_random_seed(seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    models.build(NETWORK).save(folder / name / "model.keras")


def load(folder: Path) -> keras.Model:
    return keras.saving.load_model(folder / "model.keras", compile=False)


def teachers(folder: Path, **recipe: Any) -> Teachers:
    """Two teachers, in five places."""
    for seed, name in enumerate("ab"):
        teacher(folder, name, seed)
    return Teachers.of(DistillationRecipe(("a", "b", "a", "a", "a"), **recipe), folder)


def test_a_student_learns_what_its_teachers_answer(tmp_path: Path) -> None:
    told = teachers(tmp_path, weight=1.0, temperature=1.0)
    recipe = {"epochs": 30, "mixup": 0.0, "augmentation": Augmentation(), "label_smoothing": 0.0, "restart": 0}
    student = dataclasses.replace(plan(**recipe), teachers=told)
    result = train(student)
    taught = np.mean([loop.predict(master, student.validation) for master in told.networks.values()], axis=0)
    # The best epoch is chosen by the labels, of which these teachers know nothing; the last one has learnt most.
    assert result.state.history["loss"][-1] < result.state.history["loss"][0] / 2
    ignorant = loop.predict(train(plan(**recipe)).network, student.validation)
    assert np.abs(loop.predict(result.network, student.validation) - taught).mean() < np.abs(ignorant - taught).mean()


def test_teachers_stay_as_they_were_and_out_of_the_students_file(tmp_path: Path) -> None:
    told = teachers(tmp_path)
    before = told.to_dict()
    student = dataclasses.replace(plan(), teachers=told)
    result = train(student)
    assert told.to_dict() == before
    assert result.network.count_params() == models.build(NETWORK).count_params()
    _, learner = loop.compile_learner(student)
    assert len(learner.trainable_variables) == len(result.network.trainable_variables)


def test_the_teachers_part_of_the_loss_is_theirs_alone(tmp_path: Path) -> None:
    layer = DistillationLoss(teachers(tmp_path, weight=0.5, temperature=3.0), "float32")
    some = faces(5).images.astype(np.float32)
    in_turn = np.stack([np.asarray(layer.teachers[i % 2](some[i : i + 1]))[0] for i in range(5)])
    layer(some, in_turn, training=True)
    assert float(layer.losses[0]) == pytest.approx(0, abs=1e-5), "who answers like the teachers has nothing to learn"
    layer(some, in_turn[::-1], training=True)
    assert float(layer.losses[-1]) > 1e-3, "each face has its teacher"
    even = np.full((5, 7), 1 / 7, np.float32)
    layer(some, even, training=True)
    assert float(layer.losses[-1]) > 0
    np.testing.assert_array_equal(np.asarray(layer(some, even, training=False)), even)


def test_teachers_compute_in_the_precision_of_the_training(tmp_path: Path) -> None:
    result, some = teachers(tmp_path), faces(64).images.astype(np.float32)
    exact, quick = (DistillationLoss(result, policy).teachers[0](some) for policy in ("float32", "mixed_bfloat16"))
    assert quick.dtype == exact.dtype
    assert 0 < float(np.abs(np.asarray(quick) - np.asarray(exact)).max()) < 0.02


def test_a_student_cut_short_carries_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    student = dataclasses.replace(plan(), teachers=teachers(tmp_path / "models"))
    whole = train(student)
    cut_short(student, tmp_path / "kept")
    resumed = train(student, tmp_path / "kept")
    assert resumed.state.history == whole.state.history
    assert np.array_equal(weights(resumed), weights(whole))


def test_teachers_are_part_of_the_plan_and_their_absence_is_not(tmp_path: Path) -> None:
    result = teachers(tmp_path)
    prints = {plan().fingerprint, dataclasses.replace(plan(), teachers=result).fingerprint}
    colder = dataclasses.replace(result, recipe=dataclasses.replace(result.recipe, temperature=1.0))
    prints.add(dataclasses.replace(plan(), teachers=colder).fingerprint)
    teacher(tmp_path / "other", "a", 5)
    other = dataclasses.replace(result, networks={**result.networks, "a": load(tmp_path / "other" / "a")})
    prints.add(dataclasses.replace(plan(), teachers=other).fingerprint)
    assert len(prints) == 4


def test_the_same_weights_in_another_file_are_the_same_teacher(tmp_path: Path) -> None:
    result = teachers(tmp_path)
    load(tmp_path / "a").save(tmp_path / "b" / "again.keras")
    again = keras.saving.load_model(tmp_path / "b" / "again.keras", compile=False)
    copied = dataclasses.replace(result, networks={**result.networks, "a": again})
    assert copied.to_dict() == result.to_dict()


def test_a_plan_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "precision", lambda _: "mixed_bfloat16")
    there = plan().fingerprint
    monkeypatch.setattr(hardware, "precision", lambda _: "float32")
    assert plan().fingerprint == there


def test_a_training_keeps_the_precision_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "precision", lambda _: "mixed_bfloat16")
    cut_short(plan(), tmp_path)
    monkeypatch.setattr(hardware, "precision", lambda _: "float32")
    resumed = train(plan(), tmp_path)
    assert resumed.state.precision == "mixed_bfloat16"
    assert {layer.compute_dtype for layer in resumed.network.layers if "conv" in layer.name} == {"bfloat16"}


def test_a_training_that_is_over_needs_its_best_epoch_alone(tmp_path: Path) -> None:
    done = train(plan(), tmp_path, origin={"commit": "abc"})
    for last in tmp_path.glob("last-*"):
        last.unlink()
    again = train(plan(), tmp_path)
    assert np.array_equal(weights(again), weights(done))
    assert again.state.history == done.state.history
    assert again.state.origin == hardware.describe() | {"commit": "abc"}
    assert len(again.state.ended) == again.state.epoch


def test_a_student_starts_from_the_teacher_of_its_choice(tmp_path: Path) -> None:
    result = teachers(tmp_path, start="b")
    student = dataclasses.replace(plan(epochs=1, learning_rate=1e-9, schedule="constant"), teachers=result)
    trained = train(student).network.trainable_weights
    for began, weight in zip(result.networks["b"].trainable_weights, trained, strict=True):
        np.testing.assert_allclose(weight, began, atol=1e-6)
    wider = Architecture(network="cnn", blocks=((16,),))
    with pytest.raises(MienError, match=r"cannot start from b: its network differs"):
        train(dataclasses.replace(student, architecture=wider))


def test_a_missing_teacher_is_named(tmp_path: Path) -> None:
    teacher(tmp_path, "a", 0)
    with pytest.raises(MienError, match=r"teacher .*b/model.keras is missing. Train it first: dvc repro train@b"):
        Teachers.of(DistillationRecipe(("a", "b")), tmp_path)


def test_multiply_accumulates_are_counted_layer_by_layer() -> None:
    blocks = models.build(Architecture(network="cnn", blocks=((8,), (16,)), dense=(32,)))
    assert macs(blocks) == 48 * 48 * 9 * 8 + 24 * 24 * 9 * 8 * 16 + 16 * 32 + 32 * 7
    # The papers count about 0.31 G for VGG16's convolutions on 32 px; a 48 px face has 2.25 times as many places.
    assert macs(models.build(Architecture(network="vgg16"))) / 1e9 == pytest.approx(0.313 * 2.25, rel=0.02)


def started(script: str, folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script that can import this file as `tests_training`, with its first argument an empty folder."""
    (folder / "tests_training.py").write_text(Path(__file__).read_text())
    return subprocess.run(
        [sys.executable, "-c", script, str(folder / "checkpoints"), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def run_script(script: str, folder: Path, *arguments: str, **variables: str) -> list[str]:
    """What a script prints."""
    done = started(script, folder, *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_training_runs_on_jax_without_tensorflow(tmp_path: Path) -> None:
    script = """
import sys
class Absent:
    def find_spec(self, name, *rest):
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from pathlib import Path
from tests_training import NETWORK, RECIPE, faces, teachers
from mien.learning.training.loop import Plan, train
made = Plan.of(NETWORK, RECIPE, faces(70), faces(35, 1), 3)
state = train(made, Path(sys.argv[1])).state
import keras
print(keras.backend.backend(), state.epoch, train(made, Path(sys.argv[1])).state.epoch)
taught = Plan.of(NETWORK, RECIPE, faces(70), faces(35, 1), 3, teachers(Path(sys.argv[1]) / "models"))
print(train(taught, Path(sys.argv[1]) / "student").state.epoch)
"""
    assert run_script(script, tmp_path, KERAS_BACKEND="jax", JAX_PLATFORMS="cpu") == ["jax", "2", "2", "2"]


SCANNED = """
import sys
import keras, numpy as np
from dataclasses import replace
from pathlib import Path
from tests_training import NETWORK, RECIPE, KilledError, faces, teachers
from mien.learning.training import hardware
from mien.learning.training.loop import Plan, train

recipe = replace(RECIPE, precision="float32", ema=0.9, balance="weights", epochs=int(sys.argv[2]))
taught = teachers(Path(sys.argv[1]) / "models", start="a")
made = Plan.of(NETWORK, recipe, faces(330), faces(35, 1), 3, taught)
stepwise = train(made) if made.recipe.epochs == 1 else None
hardware.scans = lambda size: True
"""


def test_an_epoch_as_one_compiled_call_learns_what_single_steps_learn(tmp_path: Path) -> None:
    script = (
        SCANNED
        + """
scanned = train(made)
for name in ("loss", "val_loss", "learning_rate"):  # the mean of 20 steps, and what they lead to
    np.testing.assert_allclose(scanned.state.history[name], stepwise.state.history[name], atol=1e-4, err_msg=name)
print("alike")
"""
    )
    assert run_script(script, tmp_path, "1", KERAS_BACKEND="jax", JAX_PLATFORMS="cpu") == ["alike"]


def test_on_jax_too_an_epoch_that_was_killed_is_repeated_exactly(tmp_path: Path) -> None:
    script = (
        SCANNED
        + """
def kill(epoch, numbers):
    raise KilledError
for way in (hardware.scans, lambda size: False):
    hardware.scans = way
    kept = Path(sys.argv[1]) / f"kept-{way(0)}"
    whole = train(made)
    try:
        train(made, kept, on_epoch=kill)
    except KilledError:
        resumed = train(made, kept)
    assert resumed.state.history == whole.state.history, way(0)
    assert all((a == b).all() for a, b in zip(resumed.network.get_weights(), whole.network.get_weights())), way(0)
print("exact")
"""
    )
    assert run_script(script, tmp_path, "2", KERAS_BACKEND="jax", JAX_PLATFORMS="cpu") == ["exact"]


INTERRUPTED = (
    SCANNED
    + """
import os, signal
from mien.learning.training import loop

begun, scanned = [], loop.scanned

def counted(*arguments):
    epochs = scanned(*arguments)
    epoch = epochs._epoch
    epochs._epoch = lambda *given: begun.append(1) or epoch(*given)
    return epochs

def stop(event, arguments):
    if event == "os.rename" and os.path.basename(os.fspath(arguments[1])) == "last-0002.npz" and begun:
        print(len(begun), flush=True)
        begun.clear()
        os.kill(os.getpid(), getattr(signal, sys.argv[3]))

loop.scanned = counted
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background lets what it starts ignore it
sys.addaudithook(stop)
train(made, Path(sys.argv[1]) / "kept")
"""
)
CARRIED_ON = (
    SCANNED
    + """
epochs = []
resumed = train(made, Path(sys.argv[1]) / "kept", on_epoch=lambda epoch, numbers: epochs.append(epoch))
whole = train(made)
assert resumed.state.history == whole.state.history
assert all((a == b).all() for a, b in zip(resumed.network.get_weights(), whole.network.get_weights()))
print(*epochs)
"""
)


@pytest.mark.parametrize(("how", "lost"), [("SIGKILL", ["2", "3", "4"]), ("SIGINT", ["3", "4"])])
def test_a_checkpoint_is_written_while_the_next_epoch_runs_and_outlives_its_end(
    tmp_path: Path, how: str, lost: list[str]
) -> None:
    jax = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = started(INTERRUPTED, tmp_path, "4", how, **jax)
    assert done.returncode < 0, done.stderr
    assert done.stdout.split() == ["3"], "the third epoch runs when the second is written"
    assert run_script(CARRIED_ON, tmp_path, "4", **jax) == lost


SHARED = """
import sys
import numpy as np
from dataclasses import replace
from tests_training import NETWORK, RECIPE, faces
from mien.learning.training import hardware, loop
from mien.learning.training.loop import Plan, train

hardware.scans = lambda size: sys.argv[2] == "scanned"
made = Plan.of(NETWORK, replace(RECIPE, precision="float32", ema=0.9, balance="weights"), faces(170), faces(35, 1), 3)
alone = train(made)
hardware.gpus = lambda: ["cpu:0", "cpu:1", "cpu:2", "cpu:3"]
shares, scanned = set(), loop.scanned

def seen(*arguments):
    epochs = scanned(*arguments)
    epoch = epochs._epoch
    epochs._epoch = lambda *given: shares.add(given[2][0].addressable_shards[0].data.shape) or epoch(*given)
    return epochs

loop.scanned = seen
shared = train(made)
for name in ("loss", "val_loss"):
    np.testing.assert_allclose(shared.state.history[name], alone.state.history[name], atol=1e-4, err_msg=name)
print(len(shared.network.weights[0].value.sharding.device_set), *shares.pop() if shares else ())
"""


@pytest.mark.parametrize(("way", "share"), [("scanned", ["10", "4"]), ("stepwise", [])])
def test_four_devices_share_each_batch_on_jax_and_learn_what_one_learns(
    tmp_path: Path, way: str, share: list[str]
) -> None:
    jax = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    flags = "--xla_force_host_platform_device_count=4"
    assert run_script(SHARED, tmp_path, way, **jax, XLA_FLAGS=flags) == ["4", *share]


def test_a_batch_that_the_gpus_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.learning.training.hardware.gpus", lambda: ["gpu:0", "gpu:1", "gpu:2"])
    with pytest.raises(MienError, match="batch_size is 32, which 3 GPUs cannot share evenly"):
        train(plan(batch_size=32))


def test_two_devices_share_each_batch_on_tensorflow(tmp_path: Path) -> None:
    script = """
from functools import partial
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.distribute.MirroredStrategy = partial(tf.distribute.MirroredStrategy, ["CPU:0", "CPU:1"])
from tests_training import NETWORK, RECIPE, faces, teachers
from mien.learning.training import hardware
from mien.learning.training.loop import Plan, train
hardware.gpus = lambda: ["cpu:0", "cpu:1"]
result = train(Plan.of(NETWORK, RECIPE, faces(70), faces(35, 1), 3))
print(result.state.epoch, result.network.distribute_strategy.num_replicas_in_sync)
from pathlib import Path
import sys
taught = Plan.of(NETWORK, RECIPE, faces(70), faces(35, 1), 3, teachers(Path(sys.argv[1]) / "models"))
print(train(taught).state.epoch)
"""
    assert run_script(script, tmp_path, KERAS_BACKEND="tensorflow") == ["2", "2", "2"]


COMPILED = """
import sys
from pathlib import Path
from mien.learning.training import hardware

hardware.gpus = lambda: ["gpu:0"]
hardware.start()
import jax

jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y @ y, x))(jax.numpy.ones((64, 64))).block_until_ready()
print(Path(jax.config.jax_compilation_cache_dir).relative_to(Path(sys.argv[1]).parent))
"""


def test_on_a_gpu_jax_keeps_what_it_compiles_in_the_users_cache(tmp_path: Path) -> None:
    jax = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(tmp_path)}
    assert run_script(COMPILED, tmp_path, **jax, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0") == ["mien/jax"]
    assert list((tmp_path / "mien/jax").glob("*cache*"))
