"""What a processor could train: a cnn of params.yaml in bare PyTorch, without Keras, augmentation or validation.

pip install torch numpy pyyaml                in an environment of its own: this project does not need PyTorch
python benchmarks/pytorch.py [--family cnn_wide]
ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 …         as on a processor without AMX

To be held against `python benchmarks/training.py --networks cnn_wide` on the same machine.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from torch import nn

PARAMS = Path(__file__).parent.parent / "params.yaml"
EMOTIONS, SIDE, STRETCHES, BATCHES = 7, 48, 5, 4


def main() -> None:
    """Print images per second in float32 and in bfloat16."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", default="cnn_wide", help="a family of params.yaml whose network is cnn")
    parser.add_argument("--batch", type=int, default=128)
    asked = parser.parse_args()
    blocks = yaml.safe_load(PARAMS.read_text())["families"][asked.family]["model"]["blocks"]
    for kind in (torch.float32, torch.bfloat16):
        speeds = list(stretches(blocks, asked.batch, kind))[1:]
        print(f"{kind}: {median(speeds):.0f} images/s ({min(speeds):.0f} to {max(speeds):.0f})", flush=True)


def stretches(blocks: Sequence[Sequence[int]], batch: int, kind: Any) -> Iterator[float]:
    """Images per second over a few batches, again and again; the first one warms up."""
    torch.manual_seed(0)
    network = nn.Sequential(*layers(blocks)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005)
    faces = torch.rand(batch, 1, SIDE, SIDE).to(memory_format=torch.channels_last)
    labels = torch.randint(0, EMOTIONS, (batch,))
    for _stretch in range(STRETCHES + 1):
        started = time.perf_counter()
        for _batch in range(BATCHES):
            optimizer.zero_grad()
            with torch.autocast("cpu", kind, enabled=kind != torch.float32):
                loss = nn.functional.cross_entropy(network(faces), labels)
            loss.backward()
            optimizer.step()
        yield BATCHES * batch / (time.perf_counter() - started)


def layers(blocks: Sequence[Sequence[int]]) -> Iterator[nn.Module]:
    """The layers of learning/models/cnn.py with its defaults."""
    before = 1
    for number, block in enumerate(blocks):
        if number:
            yield nn.MaxPool2d(2)
        for filters in block:
            yield from (nn.Conv2d(before, filters, 3, padding=1, bias=False), nn.BatchNorm2d(filters), nn.ReLU())
            before = filters
    yield from (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.35), nn.Linear(before, EMOTIONS))


if __name__ == "__main__":
    main()
