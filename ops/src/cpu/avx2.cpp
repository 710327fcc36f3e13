// 32-byte registers. The pragmas come after all foreign headers: a function that such a header shares with the rest of the
// process must not be compiled for an instruction set that the processor may lack.
#include "table.h"

#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#define MSDA_ISA avx2
#define MSDA_BYTES 32
#include "vector.h"
#include "plan.h"
#include "kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
