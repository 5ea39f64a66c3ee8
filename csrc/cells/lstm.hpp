// Long short-term memory with a forget gate (Gers et al. 2000; as torch).
//
//   i = σ(wx_i + rh_i)              (1)        o  = σ(wx_o + rh_o)              (4)
//   f = σ(wx_f + rh_f)              (2)        c' = f ⊙ c + i ⊙ g               (5)
//   g = tanh(wx_g + rh_g)           (3)        h' = o ⊙ tanh(c')                (6)
//
// Backward, from dh' = ∂L/∂h' and dc' = ∂L/∂c' (what reaches c' other than through h'):
//
//   e  = dc' + dh' ⊙ o ⊙ (1 − tanh²c')    all that reaches c'                   (7)
//   di = e ⊙ g ⊙ i(1 − i)           (8)        dg = e ⊙ i ⊙ (1 − g²)           (10)
//   df = e ⊙ c ⊙ f(1 − f)           (9)        do = dh' ⊙ tanh(c') ⊙ o(1 − o)  (11)
//   dc = e ⊙ f                     (12)
#pragma once

#include "../cell.hpp"

namespace throughtime {

struct LSTM {
  static constexpr int gates = 4, states = 2, residuals = 5;                     // states: h, c; residuals: i, f, g, o, c
  static constexpr int slots = 4;
  THROUGHTIME_INLINE static constexpr int wx_slot(int g) { return g; }
  THROUGHTIME_INLINE static constexpr int rh_slot(int g) { return g; }
  static constexpr bool direct_h = false, needs_h_prev = false, needs_h = false;

  template <class V>
  THROUGHTIME_INLINE static void forward(const V* wx, const V* rh, const V* s_prev, V* s_next, V* residuals) {
    const V c = s_prev[1];
    const V i = sigmoid(wx[0] + rh[0]);                     // (1)
    const V f = sigmoid(wx[1] + rh[1]);                     // (2)
    const V g = tanh(wx[2] + rh[2]);                        // (3)
    const V o = sigmoid(wx[3] + rh[3]);                     // (4)
    s_next[1] = fma(f, c, i * g);                           // (5)
    s_next[0] = o * tanh(s_next[1]);                        // (6)
    residuals[0] = i, residuals[1] = f, residuals[2] = g, residuals[3] = o, residuals[4] = c;
  }

  template <class V>
  THROUGHTIME_INLINE static void backward(const V* residuals, const V*, const V*, const V* ds, V* d_wx, V* d_rh, V* ds_prev) {
    const V i = residuals[0], f = residuals[1], g = residuals[2], o = residuals[3], c = residuals[4];
    const V tanh_c = tanh(fma(f, c, i * g));                // (5), (6): cheaper to do again than to keep
    const V e = fma(ds[0] * o, d_tanh(tanh_c), ds[1]);      // (7)
    d_wx[0] = e * g * d_sigmoid(i);                         // (8)
    d_wx[1] = e * c * d_sigmoid(f);                         // (9)
    d_wx[2] = e * i * d_tanh(g);                            // (10)
    d_wx[3] = ds[0] * tanh_c * d_sigmoid(o);                // (11)
    for (int k = 0; k < gates; ++k) d_rh[k] = d_wx[k];
    ds_prev[0] = V::zero();                                 // h reaches h' and c' through rh alone
    ds_prev[1] = e * f;                                     // (12)
  }
};

}  // namespace throughtime
