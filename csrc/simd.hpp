// Vectors of one register, and the few operations that the kernels need of them.
//
// Every template carries an architecture tag. The same source is compiled once per architecture with different
// flags; the tag gives each copy its own symbols, so that the linker can never serve AVX-512 code to a machine
// without it (one-definition rule). Nothing here may emit an untagged symbol: no std:: containers, no plain inline
// functions that the compiler could decide not to inline.
#pragma once

#include <cstdint>
#include <utility>

#include "index.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define THROUGHTIME_INLINE [[gnu::always_inline]] inline

namespace throughtime {

// bytes: of one vector register; registers: how many of them the machine has.
struct Baseline { static constexpr int bytes = 16, registers = 16; };
struct Avx2     { static constexpr int bytes = 32, registers = 16; };
struct Avx512   { static constexpr int bytes = 64, registers = 32; };
struct Neon     { static constexpr int bytes = 16, registers = 32; };

template <class T> struct Bits;  // the integer type as wide as T, and how T is laid out in it
template <> struct Bits<float>  { using Int = std::int32_t; static constexpr int mantissa = 23, bias = 127; };
template <> struct Bits<double> { using Int = std::int64_t; static constexpr int mantissa = 52, bias = 1023; };

template <class T, class Arch>
struct Vec {
  using Scalar = T;
  using Architecture = Arch;
  static constexpr int width = Arch::bytes / static_cast<int>(sizeof(T));
  typedef T Lanes __attribute__((vector_size(Arch::bytes)));
  typedef typename Bits<T>::Int Ints __attribute__((vector_size(Arch::bytes)));
  Lanes v;

  THROUGHTIME_INLINE static Vec zero() { return {Lanes{}}; }
  THROUGHTIME_INLINE static Vec all(T s) { return {s - Lanes{}}; }  // s - 0 is s, bit for bit; s + 0 is not (-0)

  // p: width elements, any alignment.
  THROUGHTIME_INLINE static Vec load(const T* p) {
    Vec r;
    __builtin_memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  THROUGHTIME_INLINE void store(T* p) const { __builtin_memcpy(p, &v, sizeof v); }

  // The tail of a row: lanes at and beyond n read as zero and are not written.
  THROUGHTIME_INLINE static Vec load(const T* p, int n) {
    if (n >= width) return load(p);
    Vec r = zero();
    for (int i = 0; i < n; ++i) r.v[i] = p[i];
    return r;
  }
  THROUGHTIME_INLINE void store(T* p, int n) const {
    if (n >= width) return store(p);
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }

  // Lanes at and beyond n become zero, whatever they are.
  THROUGHTIME_INLINE Vec first(int n) const {
    Ints lane;
    for (int i = 0; i < width; ++i) lane[i] = i;
    return {(Lanes)((Ints)v & (Ints)(lane < n))};
  }

  THROUGHTIME_INLINE friend Vec operator+(Vec a, Vec b) { return {a.v + b.v}; }
  THROUGHTIME_INLINE friend Vec operator-(Vec a, Vec b) { return {a.v - b.v}; }
  THROUGHTIME_INLINE friend Vec operator*(Vec a, Vec b) { return {a.v * b.v}; }
  THROUGHTIME_INLINE friend Vec operator/(Vec a, Vec b) { return {a.v / b.v}; }
  THROUGHTIME_INLINE friend Vec operator-(T a, Vec b) { return {a - b.v}; }
  THROUGHTIME_INLINE friend Vec operator*(T a, Vec b) { return {a * b.v}; }
  THROUGHTIME_INLINE Vec& operator+=(Vec b) { v += b.v; return *this; }

  THROUGHTIME_INLINE T sum() const {
    T s = 0;
    for (int i = 0; i < width; ++i) s += v[i];
    return s;
  }
};

// a·b + c; one rounding where the machine has a fused multiply-add (-ffp-contract=fast), two where it has not.
template <class V> THROUGHTIME_INLINE V fma(V a, V b, V c) { return {a.v * b.v + c.v}; }

// min and max as the x86 instructions have them: *the second operand when either is NaN*. With the variable second,
// NaN passes through. Written as `a < b ? a : b`, g++ 12 emits a compare and a masked move instead.
template <class T, class Arch>
THROUGHTIME_INLINE Vec<T, Arch> min(Vec<T, Arch> a, Vec<T, Arch> b) {
  using V [[maybe_unused]] = Vec<T, Arch>;
#if defined(__AVX512F__)
  if constexpr (Arch::bytes == 64 && sizeof(T) == 4) return {(typename V::Lanes)_mm512_maskz_min_ps((__mmask16)-1, (__m512)a.v, (__m512)b.v)};
  if constexpr (Arch::bytes == 64 && sizeof(T) == 8) return {(typename V::Lanes)_mm512_maskz_min_pd((__mmask8)-1, (__m512d)a.v, (__m512d)b.v)};
#endif
#if defined(__AVX__)
  if constexpr (Arch::bytes == 32 && sizeof(T) == 4) return {(typename V::Lanes)_mm256_min_ps((__m256)a.v, (__m256)b.v)};
  if constexpr (Arch::bytes == 32 && sizeof(T) == 8) return {(typename V::Lanes)_mm256_min_pd((__m256d)a.v, (__m256d)b.v)};
#endif
#if defined(__SSE2__)
  if constexpr (Arch::bytes == 16 && sizeof(T) == 4) return {(typename V::Lanes)_mm_min_ps((__m128)a.v, (__m128)b.v)};
  if constexpr (Arch::bytes == 16 && sizeof(T) == 8) return {(typename V::Lanes)_mm_min_pd((__m128d)a.v, (__m128d)b.v)};
#else
  return {a.v < b.v ? a.v : b.v};
#endif
}

template <class T, class Arch>
THROUGHTIME_INLINE Vec<T, Arch> max(Vec<T, Arch> a, Vec<T, Arch> b) {
  using V [[maybe_unused]] = Vec<T, Arch>;
#if defined(__AVX512F__)
  if constexpr (Arch::bytes == 64 && sizeof(T) == 4) return {(typename V::Lanes)_mm512_maskz_max_ps((__mmask16)-1, (__m512)a.v, (__m512)b.v)};
  if constexpr (Arch::bytes == 64 && sizeof(T) == 8) return {(typename V::Lanes)_mm512_maskz_max_pd((__mmask8)-1, (__m512d)a.v, (__m512d)b.v)};
#endif
#if defined(__AVX__)
  if constexpr (Arch::bytes == 32 && sizeof(T) == 4) return {(typename V::Lanes)_mm256_max_ps((__m256)a.v, (__m256)b.v)};
  if constexpr (Arch::bytes == 32 && sizeof(T) == 8) return {(typename V::Lanes)_mm256_max_pd((__m256d)a.v, (__m256d)b.v)};
#endif
#if defined(__SSE2__)
  if constexpr (Arch::bytes == 16 && sizeof(T) == 4) return {(typename V::Lanes)_mm_max_ps((__m128)a.v, (__m128)b.v)};
  if constexpr (Arch::bytes == 16 && sizeof(T) == 8) return {(typename V::Lanes)_mm_max_pd((__m128d)a.v, (__m128d)b.v)};
#else
  return {a.v > b.v ? a.v : b.v};
#endif
}

// Per lane: bits of `from` where `mask` has them, of `otherwise` elsewhere.
template <class V>
THROUGHTIME_INLINE V blend(typename V::Ints mask, V from, V otherwise) {
  using Ints = typename V::Ints;
  return {(typename V::Lanes)(((Ints)from.v & mask) | ((Ints)otherwise.v & ~mask))};
}

// One exchange of a transposition: the lanes of a with bit `step` set change places with those of b without it.
template <int step, class V, int... j>
THROUGHTIME_INLINE void exchange(V& a, V& b, std::integer_sequence<int, j...>) {
  constexpr int w = V::width;  // lanes below it are a's, those from it on b's
#if defined(__clang__)
  const auto x = __builtin_shufflevector(a.v, b.v, (j & step ? w + j - step : j)...);
  const auto y = __builtin_shufflevector(a.v, b.v, (j & step ? w + j : j + step)...);
#else
  const auto x = __builtin_shuffle(a.v, b.v, typename V::Ints{(j & step ? w + j - step : j)...});
  const auto y = __builtin_shuffle(a.v, b.v, typename V::Ints{(j & step ? w + j : j + step)...});
#endif
  a.v = x, b.v = y;
}

// rows[i][j] becomes rows[j][i], in log2(width) rounds of exchanges.
template <int step = 1, class V>
THROUGHTIME_INLINE void transpose(V* rows) {
  if constexpr (step < V::width) {
#pragma GCC unroll 16
    for (int i = 0; i < V::width; ++i)
      if (!(i & step)) exchange<step>(rows[i], rows[i + step], std::make_integer_sequence<int, V::width>{});
    transpose<2 * step>(rows);
  }
}

}  // namespace throughtime
