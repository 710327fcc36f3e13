// The CPU kernels of one instruction set and one pair of types. Each processes a range, so that threads can share the work.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "../msda.h"

namespace msda {

using c10::BFloat16;
using c10::Half;

struct Kernels {
  void (*forward)(const Problem&, void* out, int64_t first_query, int64_t last_query);
  void (*backward_queries)(const Problem&, const void* grad, void* grad_points, void* grad_weights, int64_t first_query,
                           int64_t last_query);
  void (*backward_value)(const Problem&, const void* grad, void* sums, int64_t first_channel, int64_t last_channel);
};

namespace baseline { Kernels kernels(Type value, Type point); }
namespace avx2 { Kernels kernels(Type value, Type point); }
namespace avx512 { Kernels kernels(Type value, Type point); }

}  // namespace msda
