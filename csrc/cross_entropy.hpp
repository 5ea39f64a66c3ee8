// Softmax and cross-entropy of rows of logits, with the gradient in their place.
//
//   ℓ = ln Σ_k e^{o_k} − o_y            (1)     with m = max_k o_k taken out of every exponent
//   do = (softmax(o) − e_y) g           (2)     g = ∂L/∂ℓ of the row
#pragma once

#include "functions.hpp"

namespace throughtime {

using Index = std::ptrdiff_t;

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

// Rows first … last − 1.
//
//   o        (N, V) logits; read, and where `gradient` is asked for overwritten by (2)
//   targets  (N) indices in [0, V); read
//   g        (N), or null for ones; read
//   losses   (N): (1); written, aliases nothing
template <class T, class Arch>
void cross_entropy_rows(T* o, const std::int64_t* targets, const T* g, T* losses, Index V_, Index first, Index last, bool gradient) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  for (Index row = first; row < last; ++row) {
    T* const at = o + row * V_;
    const T m = largest<V>(at, V_), o_y = at[targets[row]];
    V sum = V::zero();
    for (Index k = 0; k < V_; k += W) {
      const int count = V_ - k < W ? static_cast<int>(V_ - k) : W;
      V e = exp(V::load(at + k, count) - V::all(m));
      if (count < W) e = blend(first_lanes<V>(count), e, V::zero());
      sum += e;
      if (gradient) e.store(at + k, count);
    }
    const T total = sum.sum();
    losses[row] = natural_log(total) + (m - o_y);                                                   // (1)
    if (!gradient) continue;
    const T scale = g ? g[row] : 1;
    const V each = V::all(scale / total);
    for (Index k = 0; k < V_; k += W) {
      const int count = V_ - k < W ? static_cast<int>(V_ - k) : W;
      (V::load(at + k, count) * each).store(at + k, count);                                         // (2)
    }
    at[targets[row]] -= scale;                                                                      // (2)
  }
}

}  // namespace throughtime
