// Vectors of one CPU register as the compiler's vector types, so that one source serves every instruction set. The including
// file defines the register's size as MSDA_BYTES and the namespace as MSDA_ISA.
#include <cstdint>
#include <cstring>

namespace msda {
namespace MSDA_ISA {

// Accumulator types are float and double; I is the integer of the same size, the result type of vector comparisons.
template <class A> struct Types;
template <> struct Types<float> {
  typedef int32_t I;
  typedef float V __attribute__((vector_size(MSDA_BYTES)));
  typedef int32_t VI __attribute__((vector_size(MSDA_BYTES)));
};
template <> struct Types<double> {
  typedef int64_t I;
  typedef double V __attribute__((vector_size(MSDA_BYTES)));
  typedef int64_t VI __attribute__((vector_size(MSDA_BYTES)));
};
template <class A> using V = typename Types<A>::V;
template <class A> using VI = typename Types<A>::VI;
template <class A> constexpr int lanes = MSDA_BYTES / sizeof(A);

typedef uint16_t Bits16 __attribute__((vector_size(MSDA_BYTES / 2)));
typedef uint32_t Bits32 __attribute__((vector_size(MSDA_BYTES)));

#define MSDA_INLINE static inline __attribute__((always_inline))

// Reinterprets memory or another vector, aligned or not, as a value of the given type.
template <class To> MSDA_INLINE To bits(const void* from) {
  To to;
  memcpy(&to, from, sizeof(To));
  return to;
}

MSDA_INLINE V<float> load(const float* p) { return bits<V<float>>(p); }
MSDA_INLINE V<double> load(const double* p) { return bits<V<double>>(p); }

// 16 bit to float. GCC's generic vector conversion takes several instructions where the processor has a single one.
#if MSDA_BYTES == 64
MSDA_INLINE Bits32 widen(const void* p) { return (Bits32)_mm512_maskz_cvtepu16_epi32(0xffff, bits<__m256i>(p)); }
MSDA_INLINE V<float> load(const Half* p) { return _mm512_maskz_cvtph_ps(0xffff, bits<__m256i>(p)); }
#elif MSDA_BYTES == 32
MSDA_INLINE Bits32 widen(const void* p) { return (Bits32)_mm256_cvtepu16_epi32(bits<__m128i>(p)); }
MSDA_INLINE V<float> load(const Half* p) { return _mm256_cvtph_ps(bits<__m128i>(p)); }
#else
MSDA_INLINE Bits32 widen(const void* p) { return __builtin_convertvector(bits<Bits16>(p), Bits32); }
// In integers: moves exponent and mantissa into place, corrects the exponent's bias by a multiplication (which also handles
// denormals), and preserves infinity and NaN.
MSDA_INLINE V<float> load(const Half* p) {
  const Bits32 half = widen(p), shifted = (half & 0x7fff) << 13;
  const V<float> scaled = bits<V<float>>(&shifted) * 0x1p112f;
  const Bits32 infinite = (Bits32)(shifted >= (0x1fu << 23)) & 0x7f800000u;
  const Bits32 whole = bits<Bits32>(&scaled) | infinite | (half & 0x8000) << 16;
  return bits<V<float>>(&whole);
}
#endif

MSDA_INLINE V<float> load(const BFloat16* p) {
  const Bits32 wide = widen(p) << 16;
  return bits<V<float>>(&wide);
}

MSDA_INLINE void store(float* p, V<float> v) { memcpy(p, &v, sizeof v); }
MSDA_INLINE void store(double* p, V<double> v) { memcpy(p, &v, sizeof v); }

MSDA_INLINE void store(BFloat16* p, V<float> v) {  // rounds to nearest even; NaN stays NaN
  const Bits32 u = bits<Bits32>(&v);
  const Bits32 rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  const Bits16 narrow = __builtin_convertvector((v != v) ? (Bits32{} + 0x7fc0) : rounded, Bits16);
  memcpy(p, &narrow, sizeof narrow);
}

MSDA_INLINE void store(Half* p, V<float> v) {
#if MSDA_BYTES == 64
  const __m256i narrow = _mm512_maskz_cvtps_ph(0xffff, v, _MM_FROUND_TO_NEAREST_INT);
  memcpy(p, &narrow, sizeof narrow);
#elif MSDA_BYTES == 32
  const __m128i narrow = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
  memcpy(p, &narrow, sizeof narrow);
#else
  for (int i = 0; i < lanes<float>; ++i) p[i] = static_cast<Half>(v[i]);
#endif
}

// The sums of four vectors, by halves: adding one element after another would wait for every addition.
MSDA_INLINE void sums(const V<double> v[4], double* to) {
  for (int k = 0; k < 4; ++k) {
    double total = 0;
    for (int i = 0; i < lanes<double>; ++i) total += v[k][i];
    to[k] = total;
  }
}

MSDA_INLINE void sums(const V<float> v[4], float* to) {
  typedef float Quarter __attribute__((vector_size(16)));
  Quarter q[4];
  for (int k = 0; k < 4; ++k) {
    const char* from = reinterpret_cast<const char*>(&v[k]);
#if MSDA_BYTES == 64
    q[k] = (bits<Quarter>(from) + bits<Quarter>(from + 16)) + (bits<Quarter>(from + 32) + bits<Quarter>(from + 48));
#elif MSDA_BYTES == 32
    q[k] = bits<Quarter>(from) + bits<Quarter>(from + 16);
#else
    q[k] = bits<Quarter>(from);
#endif
  }
#if MSDA_BYTES > 16
  const Quarter all = _mm_hadd_ps(_mm_hadd_ps(q[0], q[1]), _mm_hadd_ps(q[2], q[3]));
  memcpy(to, &all, sizeof all);
#else
  for (int k = 0; k < 4; ++k) to[k] = (q[k][0] + q[k][1]) + (q[k][2] + q[k][3]);
#endif
}

// e^x for x <= 0 with an error of about 2 ulp; zero below -87. Reduces to |r| <= ln(2) / 2 in two steps, then evaluates the
// Taylor polynomial of degree 7. NaN stays NaN.
MSDA_INLINE V<float> exp_of_negative(V<float> x) {
  const V<float> clamped = (x < -87.0f) ? (V<float>{} - 87.0f) : x;
  const V<float> scaled = clamped * 1.44269504f - 0.5f;
  const VI<float> n = __builtin_convertvector((x == x) ? scaled : V<float>{}, VI<float>);
  const V<float> whole = __builtin_convertvector(n, V<float>);
  const V<float> r = clamped - whole * 0.693359375f + whole * 2.12194440e-4f;
  V<float> y = r * (1.0f / 5040) + 1.0f / 720;
  y = y * r + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r + 1.0f;
  y = y * r + 1.0f;
  const VI<float> exponent = (n + 127) << 23;
  return (x < -87.0f) ? V<float>{} : y * bits<V<float>>(&exponent);
}

MSDA_INLINE V<double> exp_of_negative(V<double> x) {
  for (int i = 0; i < lanes<double>; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

}  // namespace MSDA_ISA
}  // namespace msda
