// exp, tanh and σ on vectors: at most 4 ulp in float32 and 2 ulp in float64, right at ±0, ±inf, NaN and denormals.
//
// All rest on one reduction. With n = round(y / ln 2) and r = y − n ln 2, |r| ≤ ½ ln 2,
//
//   e^y     = 2ⁿ + 2ⁿ q(r)              q(r) = e^r − 1, a polynomial without constant term        (1)
//   e^y − 1 = (2ⁿ − 1) + 2ⁿ q(r)        exact where it matters: near y = 0, n = 0 and only q stays (2)
//   tanh x  = sign(x) m / (m + 2),      m = e^{2|x|} − 1                                          (3)
//   σ(x)    = 1 / (1 + e^{−x}) for x ≥ 0, e / (1 + e) with e = e^{x} for x < 0                    (4)
//
// (4) is never ½ + ½ tanh(x/2), which has no digits left far below zero.
#pragma once

#include "simd.hpp"

namespace throughtime {

// Constants by element type. `big` is 1.5·2^mantissa: adding it rounds to an integer held in the low bits.
template <class T> struct Exp;
template <> struct Exp<float> {
  static constexpr float log2e = 1.44269504f, ln2_hi = 0.693145752f, ln2_lo = 1.42860677e-6f, big = 12582912.0f;
  static constexpr float least = -104.0f, most = 89.0f;       // beyond them e^y is 0 or infinity
  static constexpr float saturated = 9.1f;                     // tanh(x) rounds to 1 from here on
};
template <> struct Exp<double> {
  static constexpr double log2e = 1.4426950408889634, ln2_hi = 0.693147180369123816490, ln2_lo = 1.90821492927058770002e-10;
  static constexpr double big = 6755399441055744.0;
  static constexpr double least = -746.0, most = 710.0;
  static constexpr double saturated = 19.1;
};

// q(r) = e^r − 1 on |r| ≤ ½ ln 2: Taylor's coefficients in float64, fitted ones in float32.
template <class V>
THROUGHTIME_INLINE V exp_minus_one_reduced(V r) {
  const auto c = [](typename V::Scalar s) { return V::all(s); };
  if constexpr (sizeof(typename V::Scalar) == 4) {
    V p = fma(r, c(1.98412698e-4f), c(1.38888889e-3f));
    p = fma(r, p, c(8.33333333e-3f));
    p = fma(r, p, c(4.16666667e-2f));
    p = fma(r, p, c(1.66666667e-1f));
    p = fma(r, p, c(0.5f));
    return fma(r * r, p, r);
  } else {
    V p = fma(r, c(1.6059043836821613e-10), c(2.0876756987868099e-09));
    p = fma(r, p, c(2.5052108385441720e-08));
    p = fma(r, p, c(2.7557319223985893e-07));
    p = fma(r, p, c(2.7557319223985888e-06));
    p = fma(r, p, c(2.4801587301587302e-05));
    p = fma(r, p, c(1.9841269841269841e-04));
    p = fma(r, p, c(1.3888888888888889e-03));
    p = fma(r, p, c(8.3333333333333332e-03));
    p = fma(r, p, c(4.1666666666666664e-02));
    p = fma(r, p, c(1.6666666666666666e-01));
    p = fma(r, p, c(0.5));
    return fma(r * r, p, r);
  }
}

// n = round(y / ln 2), still carrying `big`, so that its low bits are the integer; r = y − n ln 2.
template <class V>
THROUGHTIME_INLINE V reduce(V y, V& r) {
  using E = Exp<typename V::Scalar>;
  const V n_big = fma(y, V::all(E::log2e), V::all(E::big));
  const V n = n_big - V::all(E::big);
  r = fma(n, V::all(-E::ln2_hi), y);
  r = fma(n, V::all(-E::ln2_lo), r);
  return n_big;
}

// 2ⁿ from n_big, for −bias < n ≤ bias.
template <class V>
THROUGHTIME_INLINE V power_of_two(typename V::Ints n) {
  using B = Bits<typename V::Scalar>;
  return {(typename V::Lanes)((n + B::bias) << B::mantissa)};
}

template <class V>
THROUGHTIME_INLINE typename V::Ints integer_of(V n_big) {
  return (typename V::Ints)n_big.v - (typename V::Ints)V::all(Exp<typename V::Scalar>::big).v;
}

// e^y, down through the denormals: 2ⁿ is applied as 2^a 2^(n−a), since 2ⁿ alone may be no normal number.
template <class V>
THROUGHTIME_INLINE V exp(V y) {
  using E = Exp<typename V::Scalar>;
  y = min(V::all(E::most), max(V::all(E::least), y));
  V r;
  const typename V::Ints n = integer_of(reduce(y, r));
  const typename V::Ints half = n >> 1;
  const V q = exp_minus_one_reduced(r);
  const V scale = power_of_two<V>(half);
  return fma(scale, q, scale) * power_of_two<V>(n - half);                                          // (1)
}

template <class V>
THROUGHTIME_INLINE V tanh(V x) {
  using T = typename V::Scalar;
  using E = Exp<T>;
  const typename V::Ints sign_bit = (typename V::Ints)V::all(T(-0.0)).v;
  const typename V::Ints sign = (typename V::Ints)x.v & sign_bit;
  const V a = {(typename V::Lanes)((typename V::Ints)x.v & ~sign_bit)};
  const V y = min(V::all(2 * E::saturated), a + a);
  V r;
  const V two_n = power_of_two<V>(integer_of(reduce(y, r)));
  const V m = fma(two_n, exp_minus_one_reduced(r), two_n - V::all(T(1)));                           // (2)
  const V d = m + V::all(T(2));
  V t = m / d;                                                                                      // (3)
  if constexpr (sizeof(T) == 8) {  // the rounding of d, put back: without it 2.4 ulp
    const V lost = m - (d - V::all(T(2)));
    t = fma(t, T(-1) * (lost / d), t);
  }
  return {(typename V::Lanes)((typename V::Ints)t.v | sign)};
}

template <class V>
THROUGHTIME_INLINE V sigmoid(V x) {
  using T = typename V::Scalar;
  const typename V::Ints sign_bit = (typename V::Ints)V::all(T(-0.0)).v;
  const V minus_a = {(typename V::Lanes)((typename V::Ints)x.v | sign_bit)};
  const V e = exp(minus_a);
  const typename V::Ints negative = (typename V::Ints)(x.v < typename V::Lanes{});
  return blend(negative, e, V::all(T(1))) / (V::all(T(1)) + e);                                     // (4)
}

template <class V>
THROUGHTIME_INLINE V relu(V x) { return max(V::zero(), x); }  // NaN passes

// Derivatives in terms of the *output* y, which is what is kept.
template <class V> THROUGHTIME_INLINE V d_tanh(V y) { return fma(y, typename V::Scalar(-1) * y, V::all(1)); }
template <class V> THROUGHTIME_INLINE V d_sigmoid(V y) { return y * (typename V::Scalar(1) - y); }
template <class V> THROUGHTIME_INLINE V d_relu(V y) {
  return {(typename V::Lanes)((typename V::Ints)V::all(1).v & (typename V::Ints)(y.v > typename V::Lanes{}))};
}

}  // namespace throughtime
