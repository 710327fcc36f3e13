// From a Problem to kernel launches: checks, template instance, grid. `launch(kernel, Shape, arguments...)` starts a kernel;
// the library and the emulator of the tests each provide their own.
#pragma once

#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <stdexcept>
#include <type_traits>

#include "../msda.h"
#include "kernels.cuh"

namespace msda {

struct Shape {
  dim3 grid;
  int threads, shared_bytes;
};

inline Call call_of(const Problem& p) {
  STD_TORCH_CHECK(p.levels <= MAX_LEVELS, "ms_deform_attn: on CUDA at most ", MAX_LEVELS, " levels, got ", p.levels);
  STD_TORCH_CHECK(p.heads < 65536, "ms_deform_attn: on CUDA at most 65535 heads, got ", p.heads);
  constexpr int64_t MANY = 1 << 29;  // limit of the numbers that the kernels add in 32 bits
  STD_TORCH_CHECK(p.queries < MANY && p.images < MANY && p.samples() < MANY && p.heads * p.channels < MANY,
                  "ms_deform_attn: on CUDA B, T, L * P and M * D must each be less than 2^29, got ", p.images, ", ",
                  p.queries, ", ", p.samples(), " and ", p.heads * p.channels);
  Call call{};
  call.value = p.value, call.points = p.points, call.weights = p.weights;
  call.reference = static_cast<const float*>(p.reference), call.image = p.image;
  call.images = p.images, call.positions = p.positions, call.heads = p.heads, call.channels = p.channels;
  call.samples = p.samples(), call.points_per_level = p.points_per_level;
  call.queries = p.queries, call.queries_per_image = std::max<int64_t>(p.queries / p.images, 1);
  call.reference_rows = p.reference_rows, call.reference_levels = p.reference_levels;
  call.narrow = p.point_type != Type::f32;
  int start = 0;
  for (int l = 0; l < p.levels; ++l) {
    const int height = p.shapes[2 * l], width = p.shapes[2 * l + 1];
    call.levels[l] = {height, width, start};
    start += height * width;
  }
  return call;
}

// A grid of (tiles of queries, heads). Blocks are large, so that neighbouring queries share a cache, unless that leaves
// multiprocessors idle or the groups' shared memory does not fit.
inline Shape shape_of(const Call& call, int lanes, int piece, int shared_bytes_of_group) {
  constexpr int64_t SHARED_BYTES = 48 * 1024, ENOUGH_BLOCKS = 256, PIECES = int64_t(1) << 31;
  STD_TORCH_CHECK(int64_t(call.positions) * call.heads * (call.channels / piece) < PIECES,
                  "ms_deform_attn: on CUDA an image of such a value must have less than ", PIECES * piece, " numbers");
  int64_t threads = MAX_THREADS, tiles, shared;
  for (;; threads /= 2) {
    const int64_t groups = threads / lanes;
    tiles = (call.queries + groups - 1) / groups, shared = groups * shared_bytes_of_group;
    if (threads == 32 || (shared <= SHARED_BYTES && tiles * call.heads >= ENOUGH_BLOCKS)) break;
  }
  STD_TORCH_CHECK(shared <= SHARED_BYTES, "ms_deform_attn_backward: on CUDA at most ", SHARED_BYTES * lanes / 32 / 4,
                  " sampling points of a query and head, got ", call.samples);
  return {dim3(tiles, call.heads), int(threads), int(shared)};
}

template <typename Run>
void with_type(Type type, Run&& run) {
  if (type == Type::f32) return run(float{});
  if (type == Type::f16) return run(c10::Half{});
  if (type == Type::bf16) return run(c10::BFloat16{});
  STD_TORCH_CHECK(false, "ms_deform_attn: on CUDA value must be float32, float16 or bfloat16");
}

template <int N>
using Number = std::integral_constant<int, N>;

// Calls run(LANES, VEC). Eight channels per lane need rows that can be read 16 bytes at a time.
template <typename Run>
void with_instance(const Call& call, const void* other, Run&& run) {
  const auto aligned = [](const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; };
  if (call.channels % 8 || !aligned(call.value) || !aligned(other)) return run(Number<32>{}, Number<1>{});
  if (call.channels <= 32) return run(Number<4>{}, Number<8>{});
  return run(Number<8>{}, Number<8>{});
}

// Writes out (T, M * D).
template <typename Launch>
void run_forward(const Problem& problem, void* out, Launch&& launch) {
  const Call call = call_of(problem);
  with_type(problem.value_type, [&](auto type) {
    using V = decltype(type);
    with_instance(call, out, [&](auto lanes, auto vec) {
      const Shape shape = shape_of(call, lanes(), Channels<V, lanes(), vec()>::PIECE, 0);
      launch(forward_kernel<V, lanes(), vec()>, shape, call, static_cast<V*>(out));
    });
  });
}

// Writes gradients of the shape and type of their tensor; that of value is added to `sums`, float (B, S, M, D), zeros on entry.
template <typename Launch>
void run_backward(const Problem& problem, const void* grad, float* sums, void* grad_points, void* grad_weights,
                  Launch&& launch) {
  const Call call = call_of(problem);
  with_type(problem.value_type, [&](auto type) {
    using V = decltype(type);
    with_instance(call, grad, [&](auto lanes, auto vec) {
      const Shape shape = shape_of(call, lanes(), Channels<V, lanes(), vec()>::PIECE, call.samples * 4);
      launch(backward_kernel<V, lanes(), vec(), FloatSums>, shape, call, static_cast<const V*>(grad), FloatSums{sums},
             grad_points, grad_weights);
    });
  });
}

// The same with fixed-point `sums` (B, S, M, D), zeros on entry, whose order does not matter, and from which grad_value is
// computed. One lane per channel, because integers are added one at a time.
template <typename Launch>
void run_backward_fixed(const Problem& problem, const void* grad, const float* bound, unsigned long long* sums,
                        void* grad_value, void* grad_points, void* grad_weights, Launch&& launch) {
  const Call call = call_of(problem);
  // A query adds to an element of value at most once for each of its points on that level.
  int log2_terms = 0;
  while ((int64_t(1) << log2_terms) < problem.queries * problem.points_per_level) ++log2_terms;
  const FixedSums fixed{sums, bound, log2_terms};
  const int64_t count = problem.images * problem.positions * problem.heads * problem.channels;
  const Shape finish{dim3(std::min<int64_t>((count + MAX_THREADS - 1) / MAX_THREADS, 4096)), MAX_THREADS, 0};
  with_type(problem.value_type, [&](auto type) {
    using V = decltype(type);
    launch(backward_kernel<V, 32, 1, FixedSums>, shape_of(call, 32, 1, call.samples * 4), call,
           static_cast<const V*>(grad), fixed, grad_points, grad_weights);
    launch(finish_kernel<V>, finish, fixed, static_cast<V*>(grad_value), count);
  });
}

}  // namespace msda
