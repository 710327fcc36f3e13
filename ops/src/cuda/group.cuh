// The lane group: LANES neighbouring lanes of a warp that compute one query and head. Each lane computes some of the L * P
// points, and they exchange them by shuffles, so that no coordinate is computed twice. Lanes without a query or a point take
// part without reading anything, because a shuffle needs all lanes of the warp.
//
// Shapes as in msda.h: B images, S positions, T queries, M heads, D channels, L levels, P points.
#pragma once

#include <cstdint>

namespace msda {

constexpr int MAX_LEVELS = 16;

struct Level {
  int height, width, start;
};

// A Problem as kernel argument, in 32 bits where launch.cuh has checked that they suffice.
struct Call {
  const void *value, *points, *weights;
  const float* reference;
  const int32_t* image;
  int images, positions, heads, channels, samples, points_per_level;  // B, S, M, D, L * P, P
  int queries, queries_per_image, reference_rows, reference_levels;
  bool narrow;  // points, weights and their gradients have value's type; otherwise float
  Level levels[MAX_LEVELS];
};

// Corners of a point are numbered 0 .. 3: bit 0 is set on the right, bit 1 below.
struct Point {
  int offset = 0;               // of corner 0 from position 0 of the image, in pieces (see Group)
  int line = 0;                 // pieces between a corner and the one below
  float right = 0, below = 0;   // distance of the point from corner 0, in [0, 1)
  float weight = 0;
  int inside = 0;               // bit k: corner k is on the map

  __device__ __forceinline__ bool has(int k) const { return inside >> k & 1; }
  __device__ __forceinline__ float bilinear(int k) const {
    return (k & 1 ? right : 1 - right) * (k & 2 ? below : 1 - below);
  }
};

constexpr unsigned ALL_LANES = 0xffffffffu;

template <int LANES, typename T>
__device__ __forceinline__ T from_lane(T number, int lane) {
  return __shfl_sync(ALL_LANES, number, lane, LANES);
}

template <int LANES>
__device__ __forceinline__ Point from_lane(const Point& p, int lane) {
  return {from_lane<LANES>(p.offset, lane), from_lane<LANES>(p.line, lane),   from_lane<LANES>(p.right, lane),
          from_lane<LANES>(p.below, lane),  from_lane<LANES>(p.weight, lane), from_lane<LANES>(p.inside, lane)};
}

template <int LANES>
__device__ __forceinline__ float group_sum(float number) {
#pragma unroll
  for (int far = LANES / 2; far; far /= 2) number += __shfl_xor_sync(ALL_LANES, number, far, LANES);
  return number;
}

template <int LANES>
__device__ __forceinline__ float group_max(float number) {
#pragma unroll
  for (int far = LANES / 2; far; far /= 2) number = fmaxf(number, __shfl_xor_sync(ALL_LANES, number, far, LANES));
  return number;
}

struct Softmax {
  float top = 0, scale = 1;  // the largest logit of a head, and 1 / sum of exp(logit - top)
};

// Offsets within an image are counted in pieces of PIECE numbers, which divides D, so that they fit into 32 bits.
template <typename V, int LANES, int PIECE>
struct Group {
  const Call& call;
  int lane, head, query;
  bool live;    // the query exists
  int image;    // -1: the image or the query does not exist
  int64_t row;  // index into (T, M)

  __device__ explicit Group(const Call& c) : call(c), lane(threadIdx.x % LANES), head(blockIdx.y) {
    query = blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES;
    live = query < c.queries;
    if (!live) query = 0;
    image = c.image ? c.image[query] : query / c.queries_per_image;
    if (!live || static_cast<unsigned>(image) >= static_cast<unsigned>(c.images)) image = -1;
    row = static_cast<int64_t>(query) * c.heads + head;
  }

  // Pieces between neighbouring positions of an image.
  __device__ int row_pieces() const { return call.heads * call.channels / PIECE; }

  // The start of the group's image and head in a tensor of value's shape.
  template <typename T>
  __device__ T* origin(T* tensor) const {
    const int64_t start = static_cast<int64_t>(image < 0 ? 0 : image) * call.positions * call.heads + head;
    return tensor + start * call.channels;
  }

  // Pieces between position 0 of the image and corner k of a point.
  __device__ int corner(const Point& p, int k) const {
    return p.offset + (k & 1 ? row_pieces() : 0) + (k & 2 ? p.line : 0);
  }

  // Number i of the group's row in a tensor like points or weights, with `per_sample` numbers for each of the L * P samples.
  __device__ float number(const void* from, int i, int per_sample) const {
    const int64_t at = row * call.samples * per_sample + i;
    return call.narrow ? static_cast<float>(static_cast<const V*>(from)[at]) : static_cast<const float*>(from)[at];
  }
  __device__ void set_number(void* to, int i, int per_sample, float number) const {
    if (!live) return;
    if (image < 0) number = 0;
    const int64_t at = row * call.samples * per_sample + i;
    if (call.narrow) static_cast<V*>(to)[at] = static_cast<V>(number);
    else static_cast<float*>(to)[at] = number;
  }

  __device__ Softmax softmax() const {
    Softmax s;
    if (!call.reference) return s;
    float top = -INFINITY, sum = 0;
#pragma unroll 1
    for (int i = lane; i < call.samples; i += LANES) top = fmaxf(top, number(call.weights, i, 1));
    s.top = group_max<LANES>(top);
#pragma unroll 1
    for (int i = lane; i < call.samples; i += LANES) sum += expf(number(call.weights, i, 1) - s.top);
    s.scale = 1 / group_sum<LANES>(sum);
    return s;
  }
  __device__ float weight(int i, const Softmax& s) const {
    const float number = this->number(call.weights, i, 1);
    return call.reference ? expf(number - s.top) * s.scale : number;
  }

  __device__ const Level& level(int i) const { return call.levels[i / call.points_per_level]; }

  // Sample i; if it does not exist, a point that reads nothing.
  __device__ Point point(int i, const Softmax& s) const {
    Point p;
    if (i >= call.samples) return p;
    p.weight = weight(i, s);
    const Level at = level(i);
    float x = number(call.points, 2 * i, 2), y = number(call.points, 2 * i + 1, 2);
    if (call.reference) {
      const int of_level = call.reference_levels == 1 ? 0 : i / call.points_per_level;
      const int64_t from = static_cast<int64_t>(query % call.reference_rows) * call.reference_levels + of_level;
      x += call.reference[2 * from] * at.width, y += call.reference[2 * from + 1] * at.height;
    } else {
      x *= at.width, y *= at.height;
    }
    x -= 0.5f, y -= 0.5f;
    // Written so that NaN coordinates fail the test.
    if (image < 0 || !(x > -1 && x < at.width && y > -1 && y < at.height)) return p;
    const float left = floorf(x), top = floorf(y);
    const int column = static_cast<int>(left), line = static_cast<int>(top);
    p.right = x - left, p.below = y - top;
    p.offset = (at.start + line * at.width + column) * row_pieces();
    p.line = at.width * row_pieces();
    p.inside = ((column >= 0 ? 5 : 0) | (column + 1 < at.width ? 10 : 0)) &
               ((line >= 0 ? 3 : 0) | (line + 1 < at.height ? 12 : 0));
    return p;
  }
};

}  // namespace msda
