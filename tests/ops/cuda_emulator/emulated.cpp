// The CUDA kernels and their launch code on emulator.h, for ctypes. Every function returns null or an error message.
#include "emulator.h"

#include "../../../ops/src/cuda/launch.cuh"

namespace {

struct Launch {
  unsigned seed;

  template <typename... Parameters, typename... Given>
  void operator()(void (*kernel)(Parameters...), const msda::Shape& shape, const Given&... given) const {
    emulator::launch(shape.grid, shape.threads, shape.shared_bytes, seed, [&] { kernel(given...); });
  }
};

template <typename Run>
const char* message_of(Run&& run) {
  static std::string message;
  try {
    run();
  } catch (const std::exception& error) {
    message = error.what();
    return message.c_str();
  }
  return nullptr;
}

}  // namespace

extern "C" {

const char* forward(const msda::Problem* problem, void* out, unsigned seed) {
  return message_of([&] { run_forward(*problem, out, Launch{seed}); });
}

const char* backward(const msda::Problem* problem, const void* grad, float* sums, void* grad_points, void* grad_weights,
                     unsigned seed) {
  return message_of([&] { run_backward(*problem, grad, sums, grad_points, grad_weights, Launch{seed}); });
}

const char* backward_fixed(const msda::Problem* problem, const void* grad, const float* bound, unsigned long long* sums,
                           void* grad_value, void* grad_points, void* grad_weights, unsigned seed) {
  return message_of([&] {
    run_backward_fixed(*problem, grad, bound, sums, grad_value, grad_points, grad_weights, Launch{seed});
  });
}

// Two mistakes that the emulator must detect.
const char* lane_returns_early() {
  return message_of([] {
    emulator::launch(dim3(1), 32, 0, 0, [] {
      if (threadIdx.x != 7) __shfl_sync(0xffffffffu, 1, 0);
    });
  });
}

const char* lanes_take_different_branches() {
  return message_of([] {
    emulator::launch(dim3(1), 64, 0, 0, [] {
      if (threadIdx.x < 40)
        __shfl_sync(0xffffffffu, 1, 0);
      else
        __shfl_xor_sync(0xffffffffu, 1, 1);
    });
  });
}

}  // extern "C"
