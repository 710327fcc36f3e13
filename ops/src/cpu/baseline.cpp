// 16-byte registers, which every processor of the architecture has (SSE2, NEON).
#include "table.h"

#define MSDA_ISA baseline
#define MSDA_BYTES 16
#include "vector.h"
#include "plan.h"
#include "kernels.h"
