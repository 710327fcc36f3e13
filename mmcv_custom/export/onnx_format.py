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

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..errors import ConfigError
from .metadata import INPUT, as_strings, from_strings
from .onnx_ops import translations

OPSET = 20  # 23 makes Attention nodes that ONNX Runtime refuses for the masks of pruned attention
CONVERTED = "_token_pruning_onnx"  # attribute of a program
FLOAT32_ONLY = ("ScatterND", "ScatterElements")  # their sums, which merge tokens, have no 16-bit form on the CPU
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
        with quiet():
            from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

            kept = [*DEFAULT_OP_BLOCK_LIST, *FLOAT32_ONLY]
            onnx.save(convert_float_to_float16(onnx.load(base), keep_io_types=True, op_block_list=kept), path)
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


def _converted(program: ExportedProgram, names: tuple[str, ...]) -> torch.onnx.ONNXProgram:
    """Convert a program, once: torch cannot convert one with data-dependent sizes again for another format."""
    found = getattr(program, CONVERTED, None)
    if found is not None:
        return found
    _copy_before_views(program)
    try:
        with quiet():
            found = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=list(names),
                custom_translation_table=translations(),
            )
    except torch.onnx.errors.OnnxExporterError as error:
        said = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(f"torch.onnx cannot write this model ({said}): take format torch-export or aoti") from error
    setattr(program, CONVERTED, found)  # on the program, because it refers to it: both go together
    return found


def _copy_before_views(program: ExportedProgram) -> None:
    """Make transposed tensors contiguous before they are viewed.

    A view is right for the layout in memory that the traced operators give; attention, as torch.onnx writes it, gives
    another one.
    """
    aten = torch.ops.aten
    for node in program.graph.find_nodes(op="call_function", target=aten.view.default):
        source = node.args[0]
        if source.target not in (aten.transpose.int, aten.permute.default):
            continue
        with program.graph.inserting_before(node):
            copied = program.graph.call_function(
                aten.clone.default, (source,), dict(memory_format=torch.contiguous_format)
            )
        copied.meta = dict(source.meta, val=source.meta["val"].contiguous())
        node.replace_input_with(source, copied)


def load_onnx(path: Path) -> tuple[dict, object]:
    """Return the metadata of a file and how it is run: on the CPU, with torch's number of threads."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # on Windows it would report its use to its maker
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

    with quiet():
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
def quiet() -> Iterator[None]:
    """Silence the notes of exporters and quantisers on progress and on constants."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
