// Multi-scale deformable attention as plain numbers and pointers, the input of the CPU and CUDA kernels.
//
// Shapes: B images, S positions of all levels (level after level, row-major), T queries of all images together, M heads,
// D channels of a head, L levels, P points. All tensors are contiguous.
//
//   value (B, S, M, D)   points (T, M, L, P, 2) as (x, y)   weights (T, M, L, P)   out (T, M * D)
//
// A sample lies at pixel (x, y) of level l of the query's image. Pixel centres are integers, positions outside the map read
// zero, and a NaN coordinate contributes nothing. There are two forms, distinguished by `reference`:
//
//   with reference:    pixel = reference * (w, h) + point - 0.5, weights are logits, softmaxed over the L * P of a head
//   without reference: pixel = point * (w, h) - 0.5, weights are used as they are
//
// Coordinates and sums are float (double if the value is double) for any type of points and weights.
#pragma once

#include <cstdint>

namespace msda {

enum class Type { f64, f32, f16, bf16 };

struct Problem {
  int64_t images, positions, heads, channels, levels, points_per_level;  // B, S, M, D, L, P
  int64_t queries;                                                        // T
  const int64_t* shapes;  // L pairs (h, w), in host memory

  Type value_type;  // of value, out and their gradients
  Type point_type;  // of points and weights and their gradients: float (or double), or value_type
  const void* value;
  const void* points;
  const void* weights;

  // Row t % reference_rows belongs to query t; (reference_rows, reference_levels, 2) as (x, y) in [0, 1], or null.
  const void* reference;
  int64_t reference_rows, reference_levels;  // reference_levels is 1 (all levels share it) or L

  // Image of each query; one outside 0 .. B-1 makes the query's output zero. Null: query t is of image t / (T / B).
  const int32_t* image;

  int64_t samples() const { return levels * points_per_level; }
  int64_t image_of(int64_t query) const { return image ? image[query] : query / (queries / images); }
};

}  // namespace msda
