// How a lane group reads and writes the channels of a row: up to 16 bytes per lane at a time, converted to and from float.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <cstring>
#include <type_traits>

namespace msda {

// N numbers of type T as stored in memory.
template <typename T, int N>
struct Bits {
  static constexpr int BYTES = sizeof(T) * N;
  unsigned words[(BYTES + 3) / 4] = {};

  // Number i. Converted by bit operations, because library conversions of half words take one more instruction.
  __device__ __forceinline__ float number(int i) const {
    unsigned word = words[i * sizeof(T) / 4];
    if constexpr (std::is_same_v<T, c10::Half>)
      return c10::Half(static_cast<unsigned short>(i & 1 ? word >> 16 : word), c10::Half::from_bits());
    if constexpr (std::is_same_v<T, c10::BFloat16>) word = i & 1 ? word & 0xffff0000u : word << 16;
    float number;
    memcpy(&number, &word, sizeof(number));
    return number;
  }
};

template <int BYTES> struct WordOf;
template <> struct WordOf<16> { using type = uint4; };
template <> struct WordOf<8> { using type = uint2; };
template <> struct WordOf<4> { using type = unsigned int; };
template <> struct WordOf<2> { using type = unsigned short; };

// Reads N numbers, starting at number N * `piece`, of memory that is not written meanwhile; zeros if not `wanted`.
template <int N, typename T>
__device__ __forceinline__ Bits<T, N> read_if(bool wanted, const T* from, int piece) {
  Bits<T, N> bits;
#ifdef __CUDA_ARCH__
  if constexpr (bits.BYTES == 16) {
    // In assembly, so that it does not branch and is not moved: the compiler would load a row only after it has used
    // the one before.
    asm volatile(
        "{ .reg .pred wanted; .reg .u64 address;\n"
        "setp.ne.u32 wanted, %4, 0; mad.wide.s32 address, %6, 16, %5;\n"
        "mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0;\n"
        "@wanted ld.global.nc.v4.u32 {%0, %1, %2, %3}, [address]; }"
        : "=&r"(bits.words[0]), "=&r"(bits.words[1]), "=&r"(bits.words[2]), "=&r"(bits.words[3])
        : "r"(static_cast<unsigned>(wanted)), "l"(from), "r"(piece));
    return bits;
  }
#endif
  using Word = typename WordOf<sizeof(T) * N>::type;
  if (wanted) {
    const Word word = __ldg(reinterpret_cast<const Word*>(from) + piece);
    memcpy(bits.words, &word, sizeof(word));
  }
  return bits;
}

// How the LANES lanes of a group share a row of type T: piece k of a lane starts at channel (k * LANES + lane) * PIECE
// of a chunk of LANES * VEC channels, so that one access of the group covers neighbouring pieces.
template <typename T, int LANES, int VEC>
struct Channels {
  static constexpr int FULL = 16 / sizeof(T), PIECE = VEC < FULL ? VEC : FULL, PIECES = VEC / PIECE;
  bool exists[PIECES];
  int start[PIECES];  // channel; 0 for a piece beyond the last channel, so that it can be read without a test

  __device__ Channels(int lane, int chunk, int channels) {
#pragma unroll
    for (int k = 0; k < PIECES; ++k) {
      start[k] = chunk + (k * LANES + lane) * PIECE;
      exists[k] = start[k] < channels;
      if (!exists[k]) start[k] = 0;
    }
  }

  // The lane's channels of a row, zeros beyond the last channel.
  template <typename From>
  __device__ void read(const From* row, float (&out)[VEC]) const {
#pragma unroll
    for (int k = 0; k < PIECES; ++k) {
      const auto bits = read_if<PIECE>(exists[k], row + start[k], 0);
#pragma unroll
      for (int i = 0; i < PIECE; ++i) out[k * PIECE + i] = bits.number(i);
    }
  }

  __device__ void write(const float (&numbers)[VEC], T* row) const {
    struct alignas(sizeof(T) * PIECE) Piece {
      T at[PIECE];
    } piece;
#pragma unroll
    for (int k = 0; k < PIECES; ++k) {
#pragma unroll
      for (int i = 0; i < PIECE; ++i) piece.at[i] = static_cast<T>(numbers[k * PIECE + i]);
      if (exists[k]) *reinterpret_cast<Piece*>(row + start[k]) = piece;
    }
  }
};

}  // namespace msda
