// Gated recurrent unit, reset after the matrix product (Cho et al. 2014, v1; as cuDNN and torch).
//
//   r = σ(wx_r + rh_r)              (1)        n  = tanh(wx_n + r ⊙ rh_n)       (3)
//   z = σ(wx_z + rh_z)              (2)        h' = (1 − z) ⊙ n + z ⊙ h         (4)
//
// Backward, from dh' = ∂L/∂h'; dn is the gradient before its tanh, dz and dr before their σ:
//
//   dn = dh' ⊙ (1 − z) ⊙ (1 − n²)   (5)        d(wx) = (dr, dz, dn)             (8)
//   dz = dh' ⊙ (h − n) ⊙ z(1 − z)   (6)        d(rh) = (dr, dz, dn ⊙ r)         (9)
//   dr = dn ⊙ rh_n ⊙ r(1 − r)       (7)        dh    = dh' ⊙ z   (direct path) (10)
#pragma once

#include "../cell.hpp"

namespace throughtime {

struct GRU {
  static constexpr int gates = 3, states = 1, residuals = 4;                     // residuals: r, z, n, rh_n
  static constexpr int slots = 4;                                                // dn⊙r, dr, dz, dn
  THROUGHTIME_INLINE static constexpr int wx_slot(int g) { return g + 1; }
  THROUGHTIME_INLINE static constexpr int rh_slot(int g) { return (g + 1) % 3; }
  static constexpr bool direct_h = true, needs_h_prev = true, needs_h = false;

  template <class V>
  THROUGHTIME_INLINE static void forward(const V* wx, const V* rh, const V* s_prev, V* s_next, V* residuals) {
    const V r = sigmoid(wx[0] + rh[0]);                     // (1)
    const V z = sigmoid(wx[1] + rh[1]);                     // (2)
    const V n = tanh(fma(r, rh[2], wx[2]));                 // (3)
    s_next[0] = fma(z, s_prev[0] - n, n);                   // (4)
    residuals[0] = r, residuals[1] = z, residuals[2] = n, residuals[3] = rh[2];
  }

  template <class V>
  THROUGHTIME_INLINE static void backward(const V* residuals, const V* s_prev, const V*, const V* ds, V* d_wx, V* d_rh, V* ds_prev) {
    const V r = residuals[0], z = residuals[1], n = residuals[2], rh_n = residuals[3], h = s_prev[0];
    const V dn = ds[0] * (1 - z) * d_tanh(n);               // (5)
    const V dz = ds[0] * (h - n) * d_sigmoid(z);            // (6)
    const V dr = dn * rh_n * d_sigmoid(r);                  // (7)
    d_wx[0] = dr, d_wx[1] = dz, d_wx[2] = dn;               // (8)
    d_rh[0] = dr, d_rh[1] = dz, d_rh[2] = dn * r;           // (9)
    ds_prev[0] = ds[0] * z;                                 // (10)
  }
};

}  // namespace throughtime
