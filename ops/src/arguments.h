// Conversion of a call's tensors to a Problem. Everything that a kernel relies on is checked here, so that no caller can read
// or write outside a tensor; the Python functions check the same before, with messages in the user's terms.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <string>
#include <vector>

#include "msda.h"

namespace msda {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string text(const Tensor& tensor) {
  std::string out = "(";
  for (int64_t i = 0; i < tensor.dim(); ++i) out += (i ? ", " : "") + std::to_string(tensor.size(i));
  return out + ")";
}

inline Type type_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double: return Type::f64;
    case ScalarType::Float: return Type::f32;
    case ScalarType::Half: return Type::f16;
    case ScalarType::BFloat16: return Type::bf16;
    default: STD_TORCH_CHECK(false, "ms_deform_attn: ", name, " must be float64, float32, float16 or bfloat16");
  }
}

constexpr int64_t MOST = int64_t(1) << 31;  // positions within an image are indexed in 32 bits

// Owns the contiguous tensors that its Problem points into.
struct Arguments {
  Tensor value, points, weights;
  std::optional<Tensor> reference, images;
  std::vector<int64_t> shapes;
  Problem problem;

  Arguments(const Tensor& value_in, const std::optional<Tensor>& reference_in, const Tensor& points_in,
            const Tensor& weights_in, std::vector<int64_t> shapes_in, const std::optional<Tensor>& images_in)
      : value(torch::stable::contiguous(value_in)),
        points(torch::stable::contiguous(points_in)),
        weights(torch::stable::contiguous(weights_in)),
        shapes(std::move(shapes_in)) {
    if (reference_in) reference = torch::stable::contiguous(*reference_in);
    if (images_in) images = torch::stable::contiguous(*images_in);
    STD_TORCH_CHECK(value.dim() == 4, "ms_deform_attn: value must be (B, S, M, D), got ", text(value));
    STD_TORCH_CHECK(points.dim() == 5 && points.size(4) == 2, "ms_deform_attn: points must be (T, M, L, P, 2), got ",
                    text(points));
    Problem& p = problem;
    p.images = value.size(0), p.positions = value.size(1), p.heads = value.size(2), p.channels = value.size(3);
    p.queries = points.size(0), p.levels = points.size(2), p.points_per_level = points.size(3);
    p.shapes = shapes.data();
    STD_TORCH_CHECK(points.size(1) == p.heads, "ms_deform_attn: points ", text(points), " and value ", text(value),
                    " have different numbers of heads");
    STD_TORCH_CHECK(weights.dim() == 4 && weights.size(0) == p.queries && weights.size(1) == p.heads &&
                        weights.size(2) == p.levels && weights.size(3) == p.points_per_level,
                    "ms_deform_attn: weights must be (T, M, L, P) like points ", text(points), ", got ", text(weights));
    STD_TORCH_CHECK(static_cast<int64_t>(shapes.size()) == 2 * p.levels, "ms_deform_attn: shapes must hold (h, w) of the ",
                    p.levels, " levels of points, got ", shapes.size(), " numbers");
    int64_t positions = 0;
    for (int64_t l = 0; l < p.levels; ++l) {
      const int64_t h = shapes[2 * l], w = shapes[2 * l + 1];
      STD_TORCH_CHECK(h > 0 && w > 0, "ms_deform_attn: level ", l, " of shapes is ", h, " x ", w,
                      "; both must be positive");
      STD_TORCH_CHECK(h < MOST && w < MOST && (positions += h * w) < MOST, "ms_deform_attn: level ", l, " of shapes is ",
                      h, " x ", w, "; an image of value may have 2^31 - 1 positions");
    }
    STD_TORCH_CHECK(positions == p.positions, "ms_deform_attn: the levels of shapes have ", positions,
                    " positions, value ", text(value), " has ", p.positions);

    p.value_type = type_of(value, "value"), p.point_type = type_of(points, "points");
    const auto exact = p.value_type == Type::f64 ? ScalarType::Double : ScalarType::Float;
    STD_TORCH_CHECK(points.scalar_type() == exact || points.scalar_type() == value.scalar_type(),
                    "ms_deform_attn: points must be float32 (float64 if value is), or of value's type");
    STD_TORCH_CHECK(weights.scalar_type() == points.scalar_type(),
                    "ms_deform_attn: weights must be of the type of points");
    same_device(points, "points"), same_device(weights, "weights");
    p.value = value.const_data_ptr(), p.points = points.const_data_ptr(), p.weights = weights.const_data_ptr();

    p.reference = nullptr, p.reference_rows = p.reference_levels = 1;
    if (reference) {
      const Tensor& r = *reference;
      STD_TORCH_CHECK(r.dim() == 3 && r.size(2) == 2 && (r.size(1) == 1 || r.size(1) == p.levels) &&
                          (r.size(0) ? p.queries % r.size(0) == 0 : p.queries == 0),
                      "ms_deform_attn: reference must be (T or a divisor of it, 1 or L, 2) for points ", text(points),
                      ", got ", text(r));
      STD_TORCH_CHECK(r.scalar_type() == exact, "ms_deform_attn: reference must be float32 (float64 if value is)");
      same_device(r, "reference");
      p.reference = r.const_data_ptr(), p.reference_rows = r.size(0), p.reference_levels = r.size(1);
    }
    p.image = nullptr;
    if (images) {
      STD_TORCH_CHECK(images->dim() == 1 && images->size(0) == p.queries,
                      "ms_deform_attn: images must be (T,) for points ", text(points), ", got ", text(*images));
      STD_TORCH_CHECK(images->scalar_type() == ScalarType::Int, "ms_deform_attn: images must be int32");
      same_device(*images, "images");
      p.image = static_cast<const int32_t*>(images->const_data_ptr());
    } else {
      STD_TORCH_CHECK(p.images ? p.queries % p.images == 0 : p.queries == 0, "ms_deform_attn: without images, the ",
                      p.queries, " queries must be equally many for each of the ", p.images, " images of value");
    }
  }

  Arguments(const Arguments&) = delete;  // the problem points into `shapes`

  // True if there is nothing to sample: outputs and gradients are zeros (or have no elements).
  bool empty() const {
    const Problem& p = problem;
    return !p.images || !p.queries || !p.heads || !p.channels || !p.levels || !p.points_per_level;
  }

  // Checks the gradient of the output and makes it contiguous.
  Tensor gradient(const Tensor& grad) const {
    STD_TORCH_CHECK(grad.dim() == 2 && grad.size(0) == problem.queries && grad.size(1) == problem.heads * problem.channels,
                    "ms_deform_attn_backward: grad must be (T, M * D) for points ", text(points), " and value ",
                    text(value), ", got ", text(grad));
    STD_TORCH_CHECK(grad.scalar_type() == value.scalar_type(), "ms_deform_attn_backward: grad must be of value's type");
    same_device(grad, "grad");
    return torch::stable::contiguous(grad);
  }

 private:
  void same_device(const Tensor& tensor, const char* name) const {
    STD_TORCH_CHECK(tensor.device() == value.device(), "ms_deform_attn: ", name, " and value must be on one device");
  }
};

}  // namespace msda
