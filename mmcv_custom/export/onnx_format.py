"""ONNX files, opset 20, run by ONNX Runtime.

Shapes: B images, h x w pixels.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.export import ExportedProgram

from .metadata import INPUT, as_strings, from_strings
from .onnx_ops import translations

OPSET = 20  # 23 makes Attention nodes that ONNX Runtime refuses for the masks of pruned attention
QUANTIZED = ("Conv", "Gemm", "MatMul")
LARGEST = 1 << 31  # bytes of a protobuf message: above that, weights are a file beside it


def write_onnx(
    program: ExportedProgram, path: Path, metadata: Mapping[str, object], calibration: Iterable[Tensor]
) -> None:
    """Write an ONNX file of the precision that ``metadata`` names, with the metadata as ``metadata_props``."""
    import onnx

    precision = metadata.get("precision", "fp32")
    base = path.with_name(f"fp32-{path.name}") if precision != "fp32" else path
    to_onnx(program, base, metadata)
    if precision == "fp16":
        with _quiet():
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(base), keep_io_types=True), path)
    if precision == "int8":
        _quantized(base, path, calibration)
    if base != path:
        base.unlink()
        model = onnx.load(path)  # the tools keep no metadata
        onnx.helper.set_model_props(model, as_strings(metadata))
        onnx.save(model, path)


def to_onnx(program: ExportedProgram, path: Path, metadata: Mapping[str, object]) -> None:
    """Write the program in float32."""
    converted = _converted(program, tuple(metadata["outputs"]))
    converted.model.metadata_props.clear()
    converted.model.metadata_props.update(as_strings(metadata))
    size = sum(value.numel() * value.element_size() for value in program.state_dict.values())
    converted.save(path, external_data=size > LARGEST)


# One program is often written in several formats; torch converts a program with data-dependent sizes only once.
_CONVERTED: WeakKeyDictionary[ExportedProgram, torch.onnx.ONNXProgram] = WeakKeyDictionary()


def _converted(program: ExportedProgram, names: tuple[str, ...]) -> torch.onnx.ONNXProgram:
    if program in _CONVERTED:
        return _CONVERTED[program]
    with _quiet():
        _CONVERTED[program] = torch.onnx.export(
            program,
            (),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(names),
            custom_translation_table=translations(),
        )
    return _CONVERTED[program]


def load_onnx(path: Path) -> tuple[dict, object]:
    """Return the metadata of a file and how it is run: on the CPU, with torch's number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    metadata = from_strings(session.get_modelmeta().custom_metadata_map)
    return metadata, partial(_run, session, session.get_inputs()[0].name)


def _run(session: object, name: str, images: Tensor) -> list[Tensor]:
    return [torch.from_numpy(out) for out in session.run(None, {name: images.numpy()})]


def _quantized(base: Path, path: Path, calibration: Iterable[Tensor]) -> None:
    """Quantise weights and activations of matrix products and convolutions to 8 bits, ranges from ``calibration``."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(calibration)

        def get_next(self) -> dict | None:
            images = next(self.batches, None)
            return None if images is None else {INPUT: images.numpy()}

    with _quiet():
        quantize_static(
            base,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(QUANTIZED),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' notes on progress and on constants."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
