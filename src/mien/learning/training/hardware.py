"""Detect and set up the hardware for training: precision, devices, and their description for reports."""

import os
import platform
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from mien.errors import MienError

FACES_SHARE = 0.4
"""Share of a GPU's memory that the faces may take; the rest is for the network and its activations."""

STEPS_PER_CALL = 16
"""An epoch of FER-2013 at batch 128 has 214 steps; the last call of an epoch takes what is left."""

COMPILED_BYTES = 2**31
"""Most that compiled programs take in the user's cache; JAX removes those that were not used for longest."""


def start() -> None:
    """Import Keras and its backend without TensorFlow's notices, which no setting silences.

    Raises MienError where the backend that KERAS_BACKEND names is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    try:
        with TemporaryFile() as notices:
            os.dup2(notices.fileno(), 2)
            import keras

            if keras.backend.backend() == "jax" and gpus():
                _keep_compiled()
    except ImportError as error:
        backend = os.environ.get("KERAS_BACKEND", "tensorflow")
        raise MienError(
            f"Training needs Keras with the backend {backend!r}, which cannot be imported ({error}). Install "
            "mien[train], or name an installed one: KERAS_BACKEND=jax."
        ) from error
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _keep_compiled() -> None:
    """Let JAX keep what it compiles in the user's cache: full-width networks compile for minutes on a GPU.

    JAX_COMPILATION_CACHE_DIR names another folder. On a CPU there is none, whose programs fit one processor only.
    """
    import jax

    settings: Any = jax.config
    if not settings.jax_compilation_cache_dir:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        settings.update("jax_compilation_cache_dir", str(cache / "mien" / "jax"))
        settings.update("jax_compilation_cache_max_size", COMPILED_BYTES)


def gpus() -> list[str]:
    """Names of the GPUs visible to the Keras backend."""
    import keras

    try:
        return [str(device) for device in keras.distribution.list_devices("gpu")]
    except RuntimeError:  # JAX raises this without a GPU
        return []


def tensorflow_on_cpu() -> bool:
    """Whether the backend is TensorFlow without a GPU."""
    import keras

    return bool(keras.backend.backend() == "tensorflow" and not gpus())


def steps_per_call() -> int:
    """Batches that one call of `fit` trains: several with TensorFlow on a GPU, which small networks leave waiting.

    Keras cannot do that where several devices share each batch.
    """
    import keras

    return STEPS_PER_CALL if keras.backend.backend() == "tensorflow" and len(gpus()) == 1 else 1


def scans(size: int) -> bool:
    """Whether an epoch runs as one compiled call: on JAX with GPUs that each hold faces of `size` bytes."""
    import keras

    if keras.backend.backend() != "jax" or not gpus():
        return False
    import jax

    memory = jax.local_devices()[0].memory_stats() or {}
    return bool(size < memory.get("bytes_limit", 0) * FACES_SHARE)


def precision(wanted: str) -> str:
    """Keras' dtype policy: `mixed_bfloat16` where `auto` finds a GPU or a processor with bfloat16 arithmetic."""
    if wanted != "auto":
        return wanted
    return "mixed_bfloat16" if gpus() or {"amx_bf16", "avx512_bf16"} & cpu_flags() else "float32"


def cpu_flags() -> set[str]:
    """The processor's features as Linux names them; empty elsewhere."""
    lines = _cpuinfo()
    return set(lines.get("flags", "").split())


def every_gpu(batch_size: int) -> AbstractContextManager[Any]:
    """A scope to build and fit in, so that batches are divided among all visible GPUs.

    Raises MienError for a `batch_size` that does not divide evenly.
    """
    import keras

    if batch_size % max(1, len(gpus())):
        raise MienError(
            f"train.batch_size is {batch_size}, which {len(gpus())} GPUs cannot share evenly. Take a multiple of "
            "their number, or show fewer of them (CUDA_VISIBLE_DEVICES)."
        )
    scope: AbstractContextManager[Any] = nullcontext()
    if len(gpus()) > 1 and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        scope = tf.distribute.MirroredStrategy().scope()
    elif len(gpus()) > 1:
        scope = keras.distribution.DataParallel().scope()
    return scope


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and the backend; on a CPU also ask TensorFlow for deterministic kernels."""
    import keras

    keras.utils.set_random_seed(seed)
    if tensorflow_on_cpu():
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def describe() -> dict[str, Any]:
    """Processor, cores, GPUs, Keras backend and versions, for reports."""
    import keras

    return {
        "processor": _cpuinfo().get("model name", platform.processor() or platform.machine()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": gpus(),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "python": platform.python_version(),
    }


def as_tags(origin: Mapping[str, Any]) -> dict[str, str]:
    """Tags of an MLflow run whose training ran where `origin` (`describe`, and maybe a commit) says."""
    gpus = ", ".join(origin["gpus"]) or "none"
    machine = f"{origin['processor']}, {origin['cores']} cores, GPUs: {gpus}"
    commit = {"trained.commit": origin["commit"]} if origin.get("commit") else {}
    return {"backend": origin["backend"], "trained.hardware": machine, **commit}


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").split("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
