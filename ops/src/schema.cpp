// The operators as the dispatcher knows them; the two libraries register their kernels for them. Fake kernels, gradient
// formula and FLOP formula are in registration.py. Shapes are those of msda.h.
//
// `bound` chooses how the CUDA kernel sums the gradient of value: without it by floating-point atomics, in no fixed order;
// with it in 64-bit fixed point, equal bit for bit at every repeat. It is one float that no contribution weight * grad
// exceeds, such as max |grad| * max |weight|, a softmaxed weight counting 1; sums wrap where one does. The CPU kernel sums
// in query order always.
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
