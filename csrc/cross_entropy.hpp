// Softmax and cross-entropy of rows of logits, with the gradient in their place.
//
//   ℓ = ln Σ_k e^{o_k} − o_y            (1)     with m = max_k o_k taken out of every exponent
//   do = (softmax(o) − e_y) g           (2)     g = ∂L/∂ℓ of the row
#pragma once

#include "functions.hpp"
#include "kernels.hpp"

namespace throughtime {

// The lanes below n.
template <class V>
THROUGHTIME_INLINE typename V::Ints first_lanes(Index n) {
  typename V::Ints mask{};
  for (int j = 0; j < V::width; ++j) mask[j] = j < n ? -1 : 0;
  return mask;
}

template <class T>
THROUGHTIME_INLINE T natural_log(T x) {
  if constexpr (sizeof(T) == 4) return __builtin_logf(x); else return __builtin_log(x);
}

template <class V>
THROUGHTIME_INLINE typename V::Scalar largest(const typename V::Scalar* o, Index n) {
  using T = typename V::Scalar;
  constexpr int W = V::width;
  T most = o[0];
  Index k = 0;
  if (n >= W) {
    V m = V::load(o);
    for (k = W; k + W <= n; k += W) m = max(m, V::load(o + k));
    for (int j = 0; j < W; ++j) most = m.v[j] > most ? m.v[j] : most;
  }
  for (; k < n; ++k) most = o[k] > most ? o[k] : most;
  return most;
}

// e^{o_k − m} of one row and their sum; they take the place of o where it is to become the gradient.
template <class V>
THROUGHTIME_INLINE typename V::Scalar sum_of_exponentials(typename V::Scalar* o, Index n, typename V::Scalar m, bool store) {
  constexpr int W = V::width;
  V sum = V::zero();
  for (Index k = 0; k < n; k += W) {
    const int count = n - k < W ? static_cast<int>(n - k) : W;
    V e = exp(V::load(o + k, count) - V::all(m));
    if (count < W) e = blend(first_lanes<V>(count), e, V::zero());
    sum += e;
    if (store) e.store(o + k, count);
  }
  return sum.sum();
}

template <class V>
THROUGHTIME_INLINE void multiply(typename V::Scalar* o, Index n, typename V::Scalar by) {
  constexpr int W = V::width;
  for (Index k = 0; k < n; k += W) {
    const int count = n - k < W ? static_cast<int>(n - k) : W;
    (V::load(o + k, count) * V::all(by)).store(o + k, count);
  }
}

template <class T, class Arch>
void cross_entropy_rows(const CrossEntropyCall<T>& c, Index first, Index last) {
  using V = Vec<T, Arch>;
  for (Index row = first; row < last; ++row) {
    T* const o = c.o + row * c.V;
    const Index y = c.targets[row];
    const T m = largest<V>(o, c.V), o_y = o[y];
    const T total = sum_of_exponentials<V>(o, c.V, m, c.gradient);
    c.losses[row] = natural_log(total) + (m - o_y);         // (1)
    if (!c.gradient) continue;
    const T g = c.g ? c.g[row] : 1;
    multiply<V>(o, c.V, g / total);                         // (2)
    o[y] -= g;                                              // (2)
  }
}

}  // namespace throughtime
