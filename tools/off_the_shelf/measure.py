"""Scores, operations and times of one setting after another, each kept in a file as soon as it is known.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from network import TrainedNetwork
from safetensors.torch import load_file, save
from settings import Setting
from torch import Tensor, nn
from tqdm import tqdm

from mmcv_custom.benchmark import PRECISIONS, counted
from mmcv_custom.benchmark.flops import Count, count
from mmcv_custom.benchmark.timing import interleaved, quartiles, speedup
from mmcv_custom.files import write_file
from mmcv_custom.results import row, write_json
from token_pruning.host import require_host


@dataclass(frozen=True)
class Comparison:
    """What all settings of a comparison share.

    Attributes:
        network: the network.
        name: its name on the command line.
        checkpoint: path of its weights.
        precision: of the scores, one of ``PRECISIONS``.
        device: what scores them.
        folder: where finished settings are kept.
    """

    network: TrainedNetwork
    name: str
    checkpoint: str
    precision: str
    device: torch.device
    folder: Path

    def run(self, model: nn.Module, files: Sequence[Path], what: str) -> tuple[Any, list[Count]]:
        """Return the outputs of ``model`` for all files, and the operations and tokens of every batch."""
        outputs, counts, dtype = [], [], PRECISIONS[self.precision]

        def forward(images: Any) -> None:
            with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                outputs.append(model(images))

        batch = self.network.batch
        for start in tqdm(range(0, len(files), batch), what, leave=False, disable=None):
            images = self.network.load(files[start : start + batch]).to(device=self.device)
            counts.append(count(partial(forward, images), model))
        return self.network.collect(outputs), counts

    @torch.no_grad()
    def scored(self, setting: Setting) -> dict:
        """Return the row of a setting, from its file or computed and kept there.

        The dense network comes first: its outputs are kept, too, and the scores of the others need them.
        """
        path = self.folder / "scores" / f"{str(setting).replace(' ', '_')}.json"
        kept = self.folder / "dense.safetensors"
        if path.exists():
            return json.loads(path.read_text())
        model, outputs, counts = self.network.under(setting), {}, []
        for part, files in self.network.sets.items():
            outputs[part], found = self.run(model, files, f"{setting}, {part}")
            counts += found
        if setting.method is None:
            fit = {part: self.run(model, files, f"dense, {part}")[0] for part, files in self.network.fit_sets.items()}
            tensors = {part: found for part, found in (outputs | fit).items() if isinstance(found, Tensor)}
            write_file(kept, save(tensors))
        cost = counted(counts, require_host(model, "the comparison"))
        made = row(
            network=self.name,
            model=str(setting),
            method=setting.name,
            cost_param=setting.cost_param,
            cost_value=setting.cost_value,
            checkpoint=self.checkpoint,
            weights="trained",
            precision=self.precision,
            num_images={part: len(files) for part, files in self.network.sets.items()},
            **self.network.scores(outputs, load_file(kept)),
            **cost,
            tokens_computed=statistics.mean(cost["keep_by_block"]),
        )
        write_json(path, made)
        return made


@torch.no_grad()
def timed(
    network: TrainedNetwork, settings: Sequence[Setting], batch: int, rounds: int, device: torch.device, precision: str
) -> dict:
    """Time every setting right after the dense network on the same images, all settings in each round.

    Args:
        batch: images at once.
        precision: type of weights and images, one of ``PRECISIONS``; ``network`` stays in it.

    Returns:
        Fields of a row; ``settings`` holds name -> ``ms``, ``ms_quartiles``, ``speedup_vs_dense`` and its quartiles
        (over the ratios of neighbouring measurements).
    """
    files = next(iter(network.sets.values()))[: batch * rounds]
    kind = dict(device=device, dtype=PRECISIONS[precision] or torch.float32)
    network.model.to(**kind)
    batches = [network.load(files[i : i + batch]).to(**kind) for i in range(0, len(files) - batch + 1, batch)]
    dense = network.under(Setting())
    models = [model for setting in settings for model in (dense, network.under(setting))]

    def step(model: nn.Module, repeat: int) -> None:
        model(batches[repeat % len(batches)])

    times = interleaved([partial(step, model) for model in models], device, rounds, warmup=2)
    found = {}
    for setting, before, own in zip(settings, times[::2], times[1::2], strict=True):
        total = [ms for (ms,) in own]
        found[str(setting)] = dict(
            ms=statistics.median(total),
            ms_quartiles=quartiles(total),
            **speedup([ms for (ms,) in before], total, "dense"),
        )
    return row(settings=found, batch=batch, rounds=rounds, device=str(device), precision=precision)
