// The part of CUDA C++ that ops/src/cuda needs, on the CPU: the 32 lanes of a warp are fibres that run one after the other
// until all have reached the same shuffle. If they do not, the kernel is wrong and launch() throws. Warps are independent
// (there is no __syncthreads), and blocks run in an order that the caller chooses.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __grid_constant__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  explicit dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
using std::isfinite;

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace msda {
inline float shared[48 * 1024 / sizeof(float)];  // stands for `extern __shared__ float shared[]` in a kernel
}

namespace emulator {

constexpr int LANES = 32;

struct Lane {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(1 << 16);
  bool returned;
  int line;              // of the shuffle that it has reached
  uint64_t given;        // value for the other lanes
  int source;            // lane to take from
  uint64_t taken;
  std::exception_ptr error;
};

inline Lane lanes[LANES];
inline int current;
inline ucontext_t scheduler;
inline std::function<void()> kernel;

inline void fibre() {
  try {
    kernel();
  } catch (...) {
    lanes[current].error = std::current_exception();
  }
  lanes[current].returned = true;
}

// Runs every lane to its next shuffle or its end.
inline void advance(unsigned first_thread) {
  for (current = 0; current < LANES; ++current) {
    threadIdx = dim3(first_thread + current);
    swapcontext(&scheduler, &lanes[current].context);
    if (lanes[current].error) std::rethrow_exception(std::exchange(lanes[current].error, nullptr));
  }
  for (const Lane& lane : lanes) {
    const auto where = [](const Lane& l) {
      return "lane " + std::to_string(&l - lanes) +
             (l.returned ? " has returned" : " waits in the shuffle of line " + std::to_string(l.line));
    };
    if (lane.returned != lanes[0].returned || (!lane.returned && lane.line != lanes[0].line))
      throw std::runtime_error("lanes of a warp disagree: " + where(lanes[0]) + ", " + where(lane));
  }
}

inline void run_warp(unsigned first_thread) {
  for (Lane& lane : lanes) {
    lane.returned = false;
    getcontext(&lane.context);
    lane.context.uc_stack.ss_sp = lane.stack.data(), lane.context.uc_stack.ss_size = lane.stack.size();
    lane.context.uc_link = &scheduler;
    makecontext(&lane.context, fibre, 0);
  }
  for (advance(first_thread); !lanes[0].returned; advance(first_thread))
    for (Lane& lane : lanes) lane.taken = lanes[lane.source].given;
}

template <typename T>
T exchange(unsigned mask, T number, int source, int line) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  if (mask != 0xffffffffu) throw std::runtime_error("a shuffle without all lanes in line " + std::to_string(line));
  Lane& lane = lanes[current];
  lane.line = line, lane.source = source;
  memcpy(&lane.given, &number, sizeof(T));
  swapcontext(&lane.context, &scheduler);
  memcpy(&number, &lane.taken, sizeof(T));
  return number;
}

// Runs the blocks in an order that depends on the seed; 0: one after the other.
template <typename Run>
void launch(dim3 grid, int threads, int shared_bytes, unsigned seed, Run&& run) {
  if (threads <= 0 || threads % LANES || threads > 1024) throw std::runtime_error("a block of partial warps");
  if (!grid.x || !grid.y || grid.y > 65535 || shared_bytes > int(sizeof(msda::shared)))
    throw std::runtime_error("a launch that CUDA refuses");
  std::vector<unsigned> order(grid.x * grid.y);
  std::iota(order.begin(), order.end(), 0u);
  if (seed) std::shuffle(order.begin(), order.end(), std::mt19937(seed));
  kernel = run, gridDim = grid, blockDim = dim3(threads);
  float* const shared_end = msda::shared + shared_bytes / sizeof(float);
  for (unsigned block : order) {
    blockIdx = dim3(block % grid.x, block / grid.x);
    std::fill(std::begin(msda::shared), std::end(msda::shared), NAN);
    for (int thread = 0; thread < threads; thread += LANES) run_warp(thread);
    if (!std::all_of(shared_end, std::end(msda::shared), [](float x) { return std::isnan(x); }))
      throw std::runtime_error("a write beyond the requested shared memory");
  }
}

}  // namespace emulator

template <typename T>
T __shfl_sync(unsigned mask, T number, int source, int width = 32, int line = __builtin_LINE()) {
  if (source < 0 || source >= width) throw std::runtime_error("a shuffle from beyond the group");
  return emulator::exchange(mask, number, emulator::current / width * width + source, line);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T number, int bits, int width = 32, int line = __builtin_LINE()) {
  if (bits < 0 || bits >= width) throw std::runtime_error("a shuffle from beyond the group");
  return emulator::exchange(mask, number, emulator::current ^ bits, line);
}

template <typename T>
T* aligned(T* pointer) {
  if (reinterpret_cast<uintptr_t>(pointer) % sizeof(T)) throw std::runtime_error("an access that is not aligned");
  return pointer;
}
template <typename T>
T __ldg(const T* from) {
  return *aligned(from);
}
template <typename T>
void atomicAdd(T* to, T number) {
  *aligned(to) += number;
}
inline void atomicAdd(float4* to, float4 number) {
  aligned(to);
  to->x += number.x, to->y += number.y, to->z += number.z, to->w += number.w;
}
