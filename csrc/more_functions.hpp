// What functions.hpp has not and a cell of one's own may want: sine, cosine, logarithm, comparisons, and every function of the C library
// lane by lane.
//
//   sin, cos   x = n π/2 + r, |r| ≤ π/4, with π/2 in three parts whose products with n are exact; then polynomials in r²      (1)
//   log        x = 2^k (1 + f), √½ ≤ 1 + f < √2, and log(1 + f) = f − f²/2 + s (f²/2 + R), s = f / (2 + f)                    (2)
//
// The coefficients of the polynomials are those of fdlibm (Sun Microsystems 1993, freely granted), which are minimax on these ranges.
#pragma once

#include <math.h>

#include "functions.hpp"

namespace throughtime {

template <class V, class F>
THROUGHTIME_INLINE V by_lanes(V x, F f) {
  V y = V::zero();
  for (int i = 0; i < V::width; ++i) y.v[i] = f(x.v[i]);
  return y;
}
template <class V, class F>
THROUGHTIME_INLINE V by_lanes(V x, V y, F f) {
  V z = V::zero();
  for (int i = 0; i < V::width; ++i) z.v[i] = f(x.v[i], y.v[i]);
  return z;
}

// name(x) of the C library in the type of x, lane by lane.
#define THROUGHTIME_BY_LANES(name)                                                                  \
  template <class V> [[gnu::noinline]] V name##_lanes(V x) {                                        \
    return by_lanes(x, [](typename V::Scalar s) -> typename V::Scalar {                             \
      if constexpr (sizeof s == 4) return __builtin_##name##f(s); else return __builtin_##name(s);  \
    });                                                                                             \
  }
THROUGHTIME_BY_LANES(sin)
THROUGHTIME_BY_LANES(cos)
THROUGHTIME_BY_LANES(tan)
THROUGHTIME_BY_LANES(asin)
THROUGHTIME_BY_LANES(acos)
THROUGHTIME_BY_LANES(atan)
THROUGHTIME_BY_LANES(sinh)
THROUGHTIME_BY_LANES(cosh)
THROUGHTIME_BY_LANES(asinh)
THROUGHTIME_BY_LANES(acosh)
THROUGHTIME_BY_LANES(atanh)
THROUGHTIME_BY_LANES(erf)
THROUGHTIME_BY_LANES(erfc)
THROUGHTIME_BY_LANES(expm1)
THROUGHTIME_BY_LANES(log1p)

template <class V>
[[gnu::noinline]] V pow(V x, V y) {
  return by_lanes(x, y, [](typename V::Scalar a, typename V::Scalar b) -> typename V::Scalar {
    if constexpr (sizeof a == 4) return __builtin_powf(a, b); else return __builtin_pow(a, b);
  });
}
template <class V>
[[gnu::noinline]] V atan2(V x, V y) {
  return by_lanes(x, y, [](typename V::Scalar a, typename V::Scalar b) -> typename V::Scalar {
    if constexpr (sizeof a == 4) return __builtin_atan2f(a, b); else return __builtin_atan2(a, b);
  });
}

// With the flags that a cell is compiled with, these loops become one instruction where the machine has it.
template <class V> THROUGHTIME_INLINE V sqrt(V x) {
  return by_lanes(x, [](typename V::Scalar s) -> typename V::Scalar {
    if constexpr (sizeof s == 4) return __builtin_sqrtf(s); else return __builtin_sqrt(s);
  });
}
template <class V> THROUGHTIME_INLINE V floor(V x) {
  return by_lanes(x, [](typename V::Scalar s) -> typename V::Scalar {
    if constexpr (sizeof s == 4) return __builtin_floorf(s); else return __builtin_floor(s);
  });
}
template <class V> THROUGHTIME_INLINE V ceil(V x) {
  return by_lanes(x, [](typename V::Scalar s) -> typename V::Scalar {
    if constexpr (sizeof s == 4) return __builtin_ceilf(s); else return __builtin_ceil(s);
  });
}
template <class V> THROUGHTIME_INLINE V trunc(V x) {
  return by_lanes(x, [](typename V::Scalar s) -> typename V::Scalar {
    if constexpr (sizeof s == 4) return __builtin_truncf(s); else return __builtin_trunc(s);
  });
}
template <class V> THROUGHTIME_INLINE V round(V x) {  // halves to the even neighbour, as torch
  return by_lanes(x, [](typename V::Scalar s) -> typename V::Scalar {
    if constexpr (sizeof s == 4) return __builtin_rintf(s); else return __builtin_rint(s);
  });
}

template <class V> THROUGHTIME_INLINE typename V::Ints sign_bits() { return (typename V::Ints)V::all(typename V::Scalar(-0.0)).v; }
template <class V> THROUGHTIME_INLINE V abs(V x) { return {(typename V::Lanes)((typename V::Ints)x.v & ~sign_bits<V>())}; }
template <class V> THROUGHTIME_INLINE V neg(V x) { return {(typename V::Lanes)((typename V::Ints)x.v ^ sign_bits<V>())}; }

// Comparisons: every bit of a lane where true. A NaN is unequal to everything.
template <class V> THROUGHTIME_INLINE typename V::Ints lt(V a, V b) { return (typename V::Ints)(a.v < b.v); }
template <class V> THROUGHTIME_INLINE typename V::Ints le(V a, V b) { return (typename V::Ints)(a.v <= b.v); }
template <class V> THROUGHTIME_INLINE typename V::Ints gt(V a, V b) { return (typename V::Ints)(a.v > b.v); }
template <class V> THROUGHTIME_INLINE typename V::Ints ge(V a, V b) { return (typename V::Ints)(a.v >= b.v); }
template <class V> THROUGHTIME_INLINE typename V::Ints eq(V a, V b) { return (typename V::Ints)(a.v == b.v); }
template <class V> THROUGHTIME_INLINE typename V::Ints ne(V a, V b) { return (typename V::Ints)(a.v != b.v); }
template <class V> THROUGHTIME_INLINE V as_number(typename V::Ints mask) { return {(typename V::Lanes)(mask & (typename V::Ints)V::all(1).v)}; }

template <class V> THROUGHTIME_INLINE V sign(V x) {
  return as_number<V>(gt(x, V::zero())) - as_number<V>(lt(x, V::zero()));
}

// The greater, the less; NaN if either is, as torch.
template <class V> THROUGHTIME_INLINE V maximum(V a, V b) { return blend(ne(a, a), a, max(a, b)); }
template <class V> THROUGHTIME_INLINE V minimum(V a, V b) { return blend(ne(a, a), a, min(a, b)); }

// Whether any lane is true.
template <class V>
THROUGHTIME_INLINE bool any(typename V::Ints mask) {
#if defined(__AVX512F__)
  if constexpr (V::Architecture::bytes == 64) return _mm512_test_epi64_mask((__m512i)mask, (__m512i)mask) != 0;
#endif
#if defined(__AVX__)
  if constexpr (V::Architecture::bytes == 32) return !_mm256_testz_si256((__m256i)mask, (__m256i)mask);
#endif
  typename Bits<typename V::Scalar>::Int all = 0;
  for (int i = 0; i < V::width; ++i) all |= mask[i];
  return all != 0;
}

// (1) for all lanes at once where |x| is below `most`; beyond, the C library.
template <class T> struct Turn;
template <> struct Turn<float> {
  static constexpr float two_over_pi = 0.636619772f, part[3] = {1.5703125f, 4.837512969970703125e-4f, 7.54978995489188e-8f}, most = 4096;
};
template <> struct Turn<double> {
  static constexpr double two_over_pi = 6.36619772367581382433e-01, most = 1e5;
  static constexpr double part[3] = {1.57079632673412561417e+00, 6.07710050630396597660e-11, 2.02226624879595063154e-21};
};

template <class V> THROUGHTIME_INLINE V sine_of_reduced(V r) {
  const auto c = [](double s) { return V::all(static_cast<typename V::Scalar>(s)); };
  const V z = r * r;
  V p = fma(z, c(1.58969099521155010221e-10), c(-2.50507602534068634195e-08));
  p = fma(z, p, c(2.75573137070700676789e-06));
  p = fma(z, p, c(-1.98412698298579493134e-04));
  p = fma(z, p, c(8.33333333332248946124e-03));
  p = fma(z, p, c(-1.66666666666666324348e-01));
  return fma(z * r, p, r);
}
template <class V> THROUGHTIME_INLINE V cosine_of_reduced(V r) {
  const auto c = [](double s) { return V::all(static_cast<typename V::Scalar>(s)); };
  const V z = r * r;
  V p = fma(z, c(-1.13596475577881948265e-11), c(2.08757232129817482790e-09));
  p = fma(z, p, c(-2.75573143513906633035e-07));
  p = fma(z, p, c(2.48015872894767294178e-05));
  p = fma(z, p, c(-1.38888888888741095749e-03));
  p = fma(z, p, c(4.16666666666666019037e-02));
  return fma(z * z, p, fma(z, c(-0.5), V::all(1)));
}

// sin(x + turns·π/2).
template <class V>
THROUGHTIME_INLINE V sine_from(V x, int turns) {
  using T = typename V::Scalar;
  const V big = V::all(Exp<T>::big), n_big = fma(x, V::all(Turn<T>::two_over_pi), big), n = n_big - big;
  V r = x;
  for (const T part : Turn<T>::part) r = r - part * n;
  const typename V::Ints quarter = (typename V::Ints)n_big.v + turns;
  const V y = blend(-(quarter & 1), cosine_of_reduced(r), sine_of_reduced(r));
  return {(typename V::Lanes)((typename V::Ints)y.v ^ ((quarter >> 1) << (8 * sizeof(T) - 1)))};
}
template <class V>
THROUGHTIME_INLINE V sin(V x) {
  const V y = sine_from(x, 0);
  return any<V>(~lt(abs(x), V::all(Turn<typename V::Scalar>::most))) ? sin_lanes(x) : y;
}
template <class V>
THROUGHTIME_INLINE V cos(V x) {
  const V y = sine_from(x, 1);
  return any<V>(~lt(abs(x), V::all(Turn<typename V::Scalar>::most))) ? cos_lanes(x) : y;
}

// (2).
template <class T> struct Log;
template <> struct Log<float> {
  static constexpr std::int32_t half_root = 0x3f3504f3;  // √½
  static constexpr float least = 1.17549435e-38f, up = 33554432.0f, ln2_hi = 6.9313812256e-01f, ln2_lo = 9.0580006145e-06f;
  static constexpr int up_bits = 25;
};
template <> struct Log<double> {
  static constexpr std::int64_t half_root = 0x3fe6a09e667f3bcd;
  static constexpr double least = 2.2250738585072014e-308, up = 18014398509481984.0, ln2_hi = 6.93147180369123816490e-01, ln2_lo = 1.90821492927058770002e-10;
  static constexpr int up_bits = 54;
};

template <class V>
THROUGHTIME_INLINE V log(V x) {
  using T = typename V::Scalar;
  using L = Log<T>;
  using Ints = typename V::Ints;
  const auto c = [](T s) { return V::all(s); };
  const Ints small = lt(x, c(L::least));
  const V normal = blend(small, L::up * x, x);
  const Ints k = ((Ints)normal.v - L::half_root) >> Bits<T>::mantissa;
  const V m = {(typename V::Lanes)((Ints)normal.v - (k << Bits<T>::mantissa))};
  const V big = c(Exp<T>::big), n = V{(typename V::Lanes)((Ints)big.v + k - (small & L::up_bits))} - big;
  const V f = m - c(1), s = f / (c(2) + f), z = s * s, half = T(0.5) * f * f;
  V p;
  if constexpr (sizeof(T) == 4) {
    p = fma(z, c(0.24279078841f), c(0.28498786688f));
    p = fma(z, p, c(0.40000972152f));
    p = fma(z, p, c(0.66666662693f));
  } else {
    p = fma(z, c(1.479819860511658591e-01), c(1.531383769920937332e-01));
    p = fma(z, p, c(1.818357216161805012e-01));
    p = fma(z, p, c(2.222219843214978396e-01));
    p = fma(z, p, c(2.857142874366239149e-01));
    p = fma(z, p, c(3.999999999940941908e-01));
    p = fma(z, p, c(6.666666666666735130e-01));
  }
  const V y = n * c(L::ln2_hi) - ((half - (s * (half + z * p) + n * c(L::ln2_lo))) - f);
  const V edge = blend(eq(x, V::zero()), c(-__builtin_huge_val()), blend(lt(x, V::zero()), c(__builtin_nan("")), x));  // ±0, below, inf, NaN
  return blend(lt(V::zero(), x) & lt(x, c(__builtin_huge_val())), y, edge);
}

// log(1 + x), with what 1 + x has lost put back (Goldberg 1991, theorem 4).
template <class V>
THROUGHTIME_INLINE V log1p(V x) {
  using T = typename V::Scalar;
  const V u = x + V::all(T(1)), lost = x - (u - V::all(T(1)));
  const V y = log(u) + lost / u;
  return blend(lt(abs(u), V::all(__builtin_huge_val())) & gt(u, V::zero()), y, log(u));
}

// e^x − 1, (2) of functions.hpp.
template <class V>
THROUGHTIME_INLINE V expm1(V x) {
  using T = typename V::Scalar;
  const V y = min(V::all(sizeof(T) == 4 ? T(88) : T(709)), max(V::all(T(-40)), x));
  V r;
  const V two_n = power_of_two<V>(integer_of(reduce(y, r)));
  const V near = fma(two_n, exp_minus_one_reduced(r), two_n - V::all(T(1)));
  return blend(gt(x, V::all(sizeof(T) == 4 ? T(88) : T(709))), exp(x), near);
}

}  // namespace throughtime
