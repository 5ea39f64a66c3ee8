// The simple recurrent network (Elman 1990), with any activation whose derivative is a function of its output.
//
//   h' = f(wx + rh)                                    (1)
//
// Backward, from dh' = ∂L/∂h':
//
//   d(wx) = d(rh) = dh' ⊙ f′,   f′ in terms of h'      (2)
#pragma once

#include "../cell.hpp"

namespace throughtime {

struct Tanh {
  template <class V> THROUGHTIME_INLINE static V f(V x) { return tanh(x); }
  template <class V> THROUGHTIME_INLINE static V d(V y) { return d_tanh(y); }
};
struct Relu {
  template <class V> THROUGHTIME_INLINE static V f(V x) { return relu(x); }
  template <class V> THROUGHTIME_INLINE static V d(V y) { return d_relu(y); }
};
struct Sigmoid {
  template <class V> THROUGHTIME_INLINE static V f(V x) { return sigmoid(x); }
  template <class V> THROUGHTIME_INLINE static V d(V y) { return d_sigmoid(y); }
};
struct Identity {
  template <class V> THROUGHTIME_INLINE static V f(V x) { return x; }
  template <class V> THROUGHTIME_INLINE static V d(V) { return V::all(1); }
};

template <class Activation>
struct Elman {
  static constexpr int gates = 1, states = 1, residuals = 0, slots = 1;
  THROUGHTIME_INLINE static constexpr int wx_slot(int) { return 0; }
  THROUGHTIME_INLINE static constexpr int rh_slot(int) { return 0; }
  static constexpr bool direct_h = false, needs_h_prev = false, needs_h = true;

  template <class V>
  THROUGHTIME_INLINE static void forward(const V* wx, const V* rh, const V*, V* s_next, V*) {
    s_next[0] = Activation::f(wx[0] + rh[0]);               // (1)
  }

  template <class V>
  THROUGHTIME_INLINE static void backward(const V*, const V*, const V* s_next, const V* ds, V* d_wx, V* d_rh, V* ds_prev) {
    d_wx[0] = d_rh[0] = ds[0] * Activation::d(s_next[0]);   // (2)
    ds_prev[0] = V::zero();                                 // h reaches h' through rh alone
  }
};

}  // namespace throughtime
