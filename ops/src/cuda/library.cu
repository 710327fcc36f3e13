// The CUDA kernels of the operators in schema.cpp, as the dispatcher calls them. Nothing here synchronises with the device.
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "../arguments.h"
#include "launch.cuh"

namespace msda {
namespace {

// Starts kernels on the current stream of a device, which is the current device during this object's lifetime.
class Launch {
 public:
  explicit Launch(const Tensor& on) : device_(on.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(on.get_device_index(), &stream_));
  }

  template <typename... Parameters, typename... Given>
  void operator()(void (*kernel)(Parameters...), const Shape& shape, const Given&... given) const {
    kernel<<<shape.grid, shape.threads, shape.shared_bytes, static_cast<cudaStream_t>(stream_)>>>(given...);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  torch::stable::accelerator::DeviceGuard device_;
  void* stream_ = nullptr;
};

std::vector<int64_t> sizes(const Tensor& tensor) {
  std::vector<int64_t> out(tensor.dim());
  for (size_t i = 0; i < out.size(); ++i) out[i] = tensor.size(i);
  return out;
}

Tensor zeros_like(const Tensor& tensor, ScalarType type) {
  return torch::stable::new_zeros(tensor, sizes(tensor), type);
}
Tensor zeros_like(const Tensor& tensor) { return zeros_like(tensor, tensor.scalar_type()); }

Tensor forward(Tensor value, std::optional<Tensor> reference, Tensor points, Tensor weights,
               std::vector<int64_t> shapes, std::optional<Tensor> images) {
  const Arguments a(value, reference, points, weights, shapes, images);
  const Launch launch(a.value);
  const std::vector<int64_t> out_sizes = {a.problem.queries, a.problem.heads * a.problem.channels};
  if (a.empty()) return torch::stable::new_zeros(a.value, out_sizes);
  Tensor out = torch::stable::new_empty(a.value, out_sizes);
  run_forward(a.problem, out.mutable_data_ptr(), launch);
  return out;
}

std::tuple<Tensor, Tensor, Tensor> backward(Tensor grad_in, Tensor value, std::optional<Tensor> reference,
                                            Tensor points, Tensor weights, std::vector<int64_t> shapes,
                                            std::optional<Tensor> images, std::optional<Tensor> bound) {
  const Arguments a(value, reference, points, weights, shapes, images);
  const Launch launch(a.value);
  const Tensor grad = a.gradient(grad_in);
  if (a.empty()) return {zeros_like(a.value), zeros_like(a.points), zeros_like(a.weights)};
  Tensor grad_points = torch::stable::empty_like(a.points), grad_weights = torch::stable::empty_like(a.weights);
  void *to_points = grad_points.mutable_data_ptr(), *to_weights = grad_weights.mutable_data_ptr();
  if (!bound) {
    Tensor sums = zeros_like(a.value, ScalarType::Float);
    run_backward(a.problem, grad.const_data_ptr(), sums.mutable_data_ptr<float>(), to_points, to_weights, launch);
    return {torch::stable::to(sums, a.value.scalar_type()), grad_points, grad_weights};
  }
  STD_TORCH_CHECK(
      bound->scalar_type() == ScalarType::Float && bound->numel() == 1 && bound->device() == a.value.device(),
      "ms_deform_attn_backward: bound must be one float32 number on the device of value");
  Tensor sums = zeros_like(a.value, ScalarType::Long), grad_value = torch::stable::empty_like(a.value);
  run_backward_fixed(a.problem, grad.const_data_ptr(), bound->const_data_ptr<float>(),
                     static_cast<unsigned long long*>(sums.mutable_data_ptr()), grad_value.mutable_data_ptr(),
                     to_points, to_weights, launch);
  return {grad_value, grad_points, grad_weights};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(token_pruning, CUDA, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&forward));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&backward));
}

}  // namespace msda
