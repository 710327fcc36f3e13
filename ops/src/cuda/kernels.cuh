// Forward and backward of multi-scale deformable attention on the GPU: one lane group (group.cuh) per query and head, with
// neighbouring queries of one head in a block because they read the same neighbourhood. A lane processes VEC channels at a
// time. Shapes as in msda.h.
#pragma once

#include "group.cuh"
#include "sums.cuh"
#include "vectors.cuh"

namespace msda {

// Threads per block, and blocks per multiprocessor. Without the latter the compiler uses so few registers that each row's load
// waits for the one before.
constexpr int MAX_THREADS = 256, FORWARD_BLOCKS = 4, BACKWARD_BLOCKS = 3;

template <typename V, int LANES, int VEC>
__global__ void __launch_bounds__(MAX_THREADS, FORWARD_BLOCKS)
    forward_kernel(const __grid_constant__ Call call, V* out) {
  using Order = Channels<V, LANES, VEC>;
  constexpr int PIECE = Order::PIECE, PIECES = Order::PIECES;
  // Points whose corners are loaded before the first is used.
  constexpr int BATCH = PIECES > 1 ? 1 : VEC > 1 ? 2 : 4;
  const Group<V, LANES, PIECE> group(call);
  const Softmax softmax = group.softmax();
  const V* value = group.origin(static_cast<const V*>(call.value));

  for (int chunk = 0; chunk < call.channels; chunk += LANES * VEC) {
    const Order mine(group.lane, chunk, call.channels);
    float sum[VEC] = {};
    for (int first = 0; first < call.samples; first += LANES) {
      const Point own = group.point(first + group.lane, softmax);
      float own_factor[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) own_factor[k] = own.has(k) ? own.bilinear(k) * own.weight : 0;

      for (int j = 0; j < LANES && first + j < call.samples; j += BATCH) {
        float factor[BATCH][4];
        Bits<V, PIECE> read[BATCH][4][PIECES];
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
          Point p;
          p.offset = from_lane<LANES>(own.offset, j + b), p.line = from_lane<LANES>(own.line, j + b);
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            factor[b][k] = from_lane<LANES>(own_factor[k], j + b);
#pragma unroll
            for (int n = 0; n < PIECES; ++n)
              read[b][k][n] = read_if<PIECE>(factor[b][k] != 0, value + mine.start[n], group.corner(p, k));
          }
        }
#pragma unroll
        for (int b = 0; b < BATCH; ++b)
#pragma unroll
          for (int k = 0; k < 4; ++k)
#pragma unroll
            for (int i = 0; i < VEC; ++i) sum[i] += factor[b][k] * read[b][k][i / PIECE].number(i % PIECE);
      }
    }
    if (group.live) mine.write(sum, out + group.row * call.channels);
  }
}

// With g the gradient of the output, A the weight of a point and v its corners:
//   dA = <g, sample>,   d pixel x = A <g, (1 - below) (v1 - v0) + below (v3 - v2)>,   d corner = A bilinear g,
//   d logit = A (dA - sum of A dA).
template <typename V, int LANES, int VEC, typename Sums>
__global__ void __launch_bounds__(MAX_THREADS, BACKWARD_BLOCKS)
    backward_kernel(const __grid_constant__ Call call, const V* grad, Sums sums, void* grad_points,
                    void* grad_weights) {
  extern __shared__ float shared[];  // dA of all points of each group
  using Order = Channels<V, LANES, VEC>;
  using SumOrder = Channels<float, LANES, VEC>;
  constexpr int PIECE = Order::PIECE, SUM_PIECE = SumOrder::PIECE;
  const Group<V, LANES, PIECE> group(call);
  const Softmax softmax = group.softmax();
  const V* value = group.origin(static_cast<const V*>(call.value));
  const V* grad_row = grad + group.row * call.channels;
  auto* const grad_value = group.origin(sums.at);
  const auto scale = sums.scale();
  float* grads = shared + threadIdx.x / LANES * call.samples;
  float mean = 0;  // sum of A dA

  for (int first = 0; first < call.samples; first += LANES) {
    const Point own = group.point(first + group.lane, softmax);
    float own_x = 0, own_y = 0, own_weight = 0;

    for (int chunk = 0; chunk < call.channels; chunk += LANES * VEC) {
      // The same numbers twice: in the order in which value is read, and in the order in which sums are added.
      float g[VEC], g_sums[VEC];
      const Order mine(group.lane, chunk, call.channels);
      const SumOrder target(group.lane, chunk, call.channels);
      mine.read(grad_row, g);
      target.read(grad_row, g_sums);

      for (int j = 0; j < LANES && first + j < call.samples; ++j) {
        const Point p = from_lane<LANES>(own, j);
        Bits<V, PIECE> read[4][Order::PIECES];
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
          for (int n = 0; n < Order::PIECES; ++n)
            read[k][n] = read_if<PIECE>(p.has(k), value + mine.start[n], group.corner(p, k));
        float dot[4] = {};
#pragma unroll
        for (int k = 0; k < 4; ++k)
#pragma unroll
          for (int i = 0; i < VEC; ++i) dot[k] += g[i] * read[k][i / PIECE].number(i % PIECE);

        const float x = group_sum<LANES>((1 - p.below) * (dot[1] - dot[0]) + p.below * (dot[3] - dot[2]));
        const float y = group_sum<LANES>((1 - p.right) * (dot[2] - dot[0]) + p.right * (dot[3] - dot[1]));
        const float weight = group_sum<LANES>(p.bilinear(0) * dot[0] + p.bilinear(1) * dot[1] +
                                              p.bilinear(2) * dot[2] + p.bilinear(3) * dot[3]);
        if (group.lane == j) own_x += x, own_y += y, own_weight += weight;

#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const float factor = p.has(k) ? p.bilinear(k) * p.weight : 0;
          if (factor == 0) continue;
          auto* const to = grad_value + group.corner(p, k) * static_cast<int64_t>(PIECE);
#pragma unroll
          for (int n = 0; n < SumOrder::PIECES; ++n)
            if (target.exists[n])
              Sums::template add<SUM_PIECE>(to + target.start[n], factor, g_sums + n * SUM_PIECE, scale);
        }
      }
    }

    const int i = first + group.lane;
    if (i >= call.samples) continue;
    // Locations are in units of the level's size, offsets in pixels.
    const float unit_x = call.reference ? 1 : group.level(i).width, unit_y = call.reference ? 1 : group.level(i).height;
    group.set_number(grad_points, 2 * i, 2, own_x * own.weight * unit_x);
    group.set_number(grad_points, 2 * i + 1, 2, own_y * own.weight * unit_y);
    if (!call.reference) group.set_number(grad_weights, i, 1, own_weight);
    grads[i] = own_weight;
    mean += own.weight * own_weight;
  }
  if (!call.reference) return;
  mean = group_sum<LANES>(mean);
#pragma unroll 1
  for (int i = group.lane; i < call.samples; i += LANES)
    group.set_number(grad_weights, i, 1, group.weight(i, softmax) * (grads[i] - mean));
}

}  // namespace msda
