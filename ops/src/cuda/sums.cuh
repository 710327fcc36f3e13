// How the backward kernel sums the gradient of value: in float, or in fixed point, where the sum does not depend on the order
// and is bitwise reproducible.
#pragma once

#include <cmath>
#include <cstdint>

namespace msda {

struct FloatSums {
  float* at;  // (B, S, M, D), zeros

  __device__ float scale() const { return 1; }

  template <int N>
  __device__ __forceinline__ static void add(float* to, float factor, const float* g, float) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    if constexpr (N == 4) {
      atomicAdd(reinterpret_cast<float4*>(to), make_float4(factor * g[0], factor * g[1], factor * g[2], factor * g[3]));
    } else
#endif
#pragma unroll
      for (int i = 0; i < N; ++i) atomicAdd(to + i, factor * g[i]);
  }
};

// Units of 2^-k with the largest k for which 2^log2_terms numbers of size *bound stay below 2^62.
struct FixedSums {
  unsigned long long* at;  // (B, S, M, D), zeros
  const float* bound;      // upper bound of every number that is added
  int log2_terms;

  __device__ int k() const {
    int exponent = 0;
    if (isfinite(*bound)) frexp(*bound, &exponent);
    return 62 - log2_terms - exponent;
  }
  __device__ double scale() const { return ldexp(1.0, k()); }

  template <int N>
  __device__ __forceinline__ static void add(unsigned long long* to, float factor, const float* g, double scale) {
#pragma unroll
    for (int i = 0; i < N; ++i) atomicAdd(to + i, static_cast<unsigned long long>(llrint(factor * g[i] * scale)));
  }
};

// Converts the sums to value's type; NaN everywhere if the bound is not finite.
template <typename V>
__global__ void finish_kernel(FixedSums sums, V* out, int64_t count) {
  const double unit = isfinite(*sums.bound) ? ldexp(1.0, -sums.k()) : NAN;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step)
    out[i] = static_cast<V>(static_cast<float>(static_cast<int64_t>(sums.at[i]) * unit));
}

}  // namespace msda
