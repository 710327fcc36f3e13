// The CPU kernels as dispatcher operators: selects the instruction set once and divides the work over torch's threads.
#include <torch/csrc/stable/library.h>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstdlib>
#include <cstring>
#include <string>
#include <tuple>

#include "../arguments.h"
#include "table.h"

namespace msda {
namespace {

using torch::stable::new_empty;
using torch::stable::new_zeros;
using torch::stable::parallel_for;

struct InstructionSet {
  const char* name;
  Kernels (*kernels)(Type value, Type point);
};

// The best instruction set of this processor; MSDA_ISA=baseline or avx2 selects a lower one, to test or to compare.
InstructionSet choose() {
#if defined(__x86_64__)
  const char* most = std::getenv("MSDA_ISA");
  const auto allowed = [&](const char* name) { return !most || std::strcmp(most, name) == 0; };
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && allowed("avx512")) return {"avx512", &avx512::kernels};
  if (avx2 && (allowed("avx2") || allowed("avx512"))) return {"avx2", &avx2::kernels};
#endif
  return {"baseline", &baseline::kernels};
}

const InstructionSet& chosen() {
  static const InstructionSet best = choose();
  return best;
}

std::string instruction_set() { return chosen().name; }

// Returns an empty tensor like `like`. The system provides memory page by page at the first write, which can take longer than
// the computation; huge pages avoid that.
Tensor make(const Tensor& like, std::vector<int64_t> size, ScalarType type) {
  Tensor made = new_empty(like, size, type);
#if defined(__linux__)
  constexpr uintptr_t page = 2 << 20;
  const auto begin = reinterpret_cast<uintptr_t>(made.mutable_data_ptr());
  const uintptr_t first = (begin + page - 1) / page * page;
  const uintptr_t last = (begin + made.numel() * made.element_size()) / page * page;
  if (last > first + page) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
  return made;
}

Tensor make(const Tensor& like) {
  return make(like, {like.sizes().begin(), like.sizes().end()}, like.scalar_type());
}

constexpr int64_t QUERIES_EACH = 64;   // fewest queries for which a further thread pays off
constexpr int64_t CHANNELS_EACH = 16;  // a cache line of floats, so that no two threads write to the same one

Tensor forward(Tensor value, std::optional<Tensor> reference, Tensor points, Tensor weights, std::vector<int64_t> shapes,
               std::optional<Tensor> images) {
  const Arguments arguments(value, reference, points, weights, std::move(shapes), images);
  const Problem& p = arguments.problem;
  if (arguments.empty()) return new_zeros(arguments.value, {p.queries, p.heads * p.channels});
  Tensor out = make(arguments.value, {p.queries, p.heads * p.channels}, arguments.value.scalar_type());
  void* to = out.mutable_data_ptr();
  const Kernels kernels = chosen().kernels(p.value_type, p.point_type);
  parallel_for(0, p.queries, QUERIES_EACH,
               [&](int64_t first, int64_t last) { kernels.forward(p, to, first, last); });
  return out;
}

std::tuple<Tensor, Tensor, Tensor> backward(Tensor grad, Tensor value, std::optional<Tensor> reference, Tensor points,
                                            Tensor weights, std::vector<int64_t> shapes, std::optional<Tensor> images,
                                            std::optional<Tensor> /* bound: unused, sums are always in order */) {
  const Arguments arguments(value, reference, points, weights, std::move(shapes), images);
  const Problem& p = arguments.problem;
  const Tensor g = arguments.gradient(grad);
  if (arguments.empty()) {
    return {new_zeros(arguments.value, arguments.value.sizes()), new_zeros(arguments.points, arguments.points.sizes()),
            new_zeros(arguments.weights, arguments.weights.sizes())};
  }
  Tensor grad_points = make(arguments.points), grad_weights = make(arguments.weights);
  const auto exact = p.value_type == Type::f64 ? ScalarType::Double : ScalarType::Float;
  Tensor sums = make(arguments.value, {p.images, p.positions, p.heads, p.channels}, exact);
  torch::stable::zero_(sums);
  const void* from = g.const_data_ptr();
  void *to_points = grad_points.mutable_data_ptr(), *to_weights = grad_weights.mutable_data_ptr();
  void* to_sums = sums.mutable_data_ptr();
  const Kernels kernels = chosen().kernels(p.value_type, p.point_type);
  parallel_for(0, p.queries, QUERIES_EACH, [&](int64_t first, int64_t last) {
    kernels.backward_queries(p, from, to_points, to_weights, first, last);
  });
  const int64_t row = p.heads * p.channels, pieces = (row + CHANNELS_EACH - 1) / CHANNELS_EACH;
  const auto channel = [&](int64_t piece) {  // where piece 0, 1, ... of all images starts
    const int64_t within = piece % pieces * CHANNELS_EACH;
    return piece / pieces * row + within;
  };
  parallel_for(0, p.images * pieces, 1, [&](int64_t first, int64_t last) {
    kernels.backward_value(p, from, to_sums, channel(first), channel(last));
  });
  if (arguments.value.scalar_type() != exact) sums = torch::stable::to(sums, arguments.value.scalar_type());
  return {sums, grad_points, grad_weights};
}

}  // namespace
}  // namespace msda

STABLE_TORCH_LIBRARY_IMPL(token_pruning, CPU, m) {
  m.impl("ms_deform_attn", TORCH_BOX(&msda::forward));
  m.impl("ms_deform_attn_backward", TORCH_BOX(&msda::backward));
}

STABLE_TORCH_LIBRARY_IMPL(token_pruning, CompositeExplicitAutograd, m) {
  m.impl("ms_deform_attn_cpu_instructions", TORCH_BOX(&msda::instruction_set));
}
