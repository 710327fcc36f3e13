// The operators' schemas; the two libraries register their kernels for them. Fake kernels, gradient formula and FLOP formulas
// are in registration.py. Shapes are those of msda.h.
//
// `bound` selects how the CUDA kernel sums the gradient of value: without it by floating-point atomics, in no fixed order;
// with it in 64-bit fixed point, which is bitwise reproducible. It is one float, an upper bound of each contribution
// |weight * grad|, such as max |grad| * max |weight| (1 for softmaxed weights); beyond it sums wrap around. The CPU kernel
// always sums in query order.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(token_pruning, m) {
  m.def(
      "ms_deform_attn(Tensor value, Tensor? reference, Tensor points, Tensor weights, SymInt[] shapes, Tensor? images)"
      " -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad, Tensor value, Tensor? reference, Tensor points, Tensor weights,"
      " SymInt[] shapes, Tensor? images, Tensor? bound) -> (Tensor, Tensor, Tensor)");
  m.def("ms_deform_attn_cpu_instructions() -> str");
}
