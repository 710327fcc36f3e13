"""OpenVINO's files, an XML with its weights beside it; made from the ONNX graph, which it reads best.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from .metadata import KEY, as_strings, from_strings
from .onnx_format import quiet, to_onnx
from .unreported import unreported


def write_openvino(
    program: ExportedProgram, path: Path, metadata: Mapping[str, object], calibration: Iterable[Tensor]
) -> None:
    """Write .xml and .bin; fp16 halves the weights, int8 is NNCF's quantisation."""
    openvino = unreported("openvino")
    from .openvino_topk import order_equal_values

    precision, onnx_file = metadata.get("precision", "fp32"), path.with_suffix(".onnx")
    to_onnx(program, onnx_file, metadata)
    model = openvino.Core().read_model(onnx_file)  # convert_model would report its use
    order_equal_values(model)
    if precision == "int8":
        with quiet():
            nncf = unreported("nncf")
            data = [images.numpy() for images in calibration]
            kind = nncf.ModelType.TRANSFORMER
            model = nncf.quantize(model, nncf.Dataset(data), model_type=kind, subset_size=len(data))
    for name, text in as_strings(metadata).items():
        model.set_rt_info(text, [KEY, name])
    openvino.save_model(model, path, compress_to_fp16=precision == "fp16")
    del model  # it reads the weights of the file
    onnx_file.unlink()
    onnx_file.with_name(onnx_file.name + ".data").unlink(missing_ok=True)


def load_openvino(path: Path) -> tuple[dict, object]:
    """Return the metadata of a file and how it is run: in float32 on the CPU, with torch's number of threads."""
    openvino = unreported("openvino")
    core = openvino.Core()
    model = core.read_model(path)
    found = {}
    if model.has_rt_info([KEY]):
        found = {name: str(getattr(value, "value", value)) for name, value in model.get_rt_info([KEY]).value.items()}
    # It would choose bfloat16 by itself where the CPU has it.
    settings = dict(INFERENCE_PRECISION_HINT="f32", INFERENCE_NUM_THREADS=torch.get_num_threads())
    return from_strings(found), partial(_run, core.compile_model(model, "CPU", settings))


def _run(network: object, images: Tensor) -> list[Tensor]:
    found = network([images.numpy()])
    return [torch.from_numpy(found[i].copy()) for i in range(len(network.outputs))]
