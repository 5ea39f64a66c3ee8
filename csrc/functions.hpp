// exp, tanh and σ on vectors: at most 4 ulp in float32 and 2 ulp in float64, right at ±0, ±inf, NaN and denormals.
//
// All rest on one reduction. With n = round(y / ln 2) and r = y − n ln 2, |r| ≤ ½ ln 2,
//
//   e^y     = 2ⁿ (1 + q(r))              q(r) = e^r − 1, a polynomial without constant term        (1)
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

// p·2ⁿ, down through the denormals. AVX-512 has an instruction for it; elsewhere 2ⁿ is applied as 2^a 2^(n−a), since 2ⁿ
// alone may be no normal number.
template <class V>
THROUGHTIME_INLINE V times_power_of_two(V p, V n_big) {
#if defined(__AVX512F__)
  using T = typename V::Scalar;
  const V n = n_big - V::all(Exp<T>::big);
  if constexpr (V::Architecture::bytes == 64 && sizeof(T) == 4)
    return {(typename V::Lanes)_mm512_maskz_scalef_ps((__mmask16)-1, (__m512)p.v, (__m512)n.v)};
  if constexpr (V::Architecture::bytes == 64 && sizeof(T) == 8)
    return {(typename V::Lanes)_mm512_maskz_scalef_pd((__mmask8)-1, (__m512d)p.v, (__m512d)n.v)};
#endif
  const typename V::Ints whole = integer_of(n_big), half = whole >> 1;
  return p * power_of_two<V>(half) * power_of_two<V>(whole - half);
}

// e^y for y ≤ 0 or NaN, and with `bounded` for every y.
template <bool bounded = false, class V>
THROUGHTIME_INLINE V exp_of_nonpositive(V y) {
  using E = Exp<typename V::Scalar>;
  y = max(V::all(E::least), y);
  if constexpr (bounded) y = min(V::all(E::most), y);
  V r;
  const V n_big = reduce(y, r);
  return times_power_of_two(exp_minus_one_reduced(r) + V::all(1), n_big);                           // (1)
}

template <class V>
THROUGHTIME_INLINE V exp(V y) { return exp_of_nonpositive<true>(y); }

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
  const V e = exp_of_nonpositive(minus_a);
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
