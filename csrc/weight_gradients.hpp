// The sums over all rows of a chunk: dW += Σ d(wx) ⊗ x, dR += Σ d(rh) ⊗ h_prev, and both biases' (⑤ of recurrence.hpp).
#pragma once

#include "geometry.hpp"

namespace throughtime {

template <class T, class Arch>
struct WeightGradients : Geometry<T, Arch> {
  using Base = Geometry<T, Arch>;
  using typename Base::V, typename Base::Shape, typename Base::Part;
  using Base::W;

  // The sums that one group adds to: the user's arrays for the first, scratch for the others, shaped alike.
  struct Sums { T *dW, *dR, *db_ih, *db_hh; };

  static Sums scratch(const BackwardCall<T>& c, const Shape& n, Workspace& w, bool several) {
    const auto take = [&](Index count) { return w.take<T>(several ? n.gates * n.H * count : 0); };
    T *dW = take(n.I), *dR = take(n.H), *db_ih = take(1), *db_hh = take(1);
    return {dW, dR, c.db_ih ? db_ih : nullptr, c.db_hh ? db_hh : nullptr};
  }

  // sums[g][u][n] (+)= Σ_rows D[slot[g]][row][u] · X[row][n], for this member's unit blocks.
  //
  //   D        (slots, UB, chunk rows, W) gate gradients
  //   X        blocked, of `cols` columns
  //   sums     (G, H, cols)
  static void of_matrix(const Shape& n, const Part& part, const int* slot, Index rows, const T* D, const T* X, Index cols, T* sums,
                        bool overwrite) {
    constexpr int MR = W < 8 ? W : Arch::registers >= 32 ? 8 : 4;
    constexpr int NV = Arch::registers * 3 / 4 / MR >= 3 ? 3 : 2;
    const Index stride = n.chunk_stride(), blocks = ceil_div(cols, W);
    const Index units = part.first(n.UB) * W, units_end = part.last(n.UB) * W < n.H ? part.last(n.UB) * W : n.H;
    for (Index nb = 0; nb < blocks;) {
      const Index left = blocks - nb;
      const int nv = left == NV + 1 && NV > 2 ? 2 : left < NV ? static_cast<int>(left) : NV;
      for (int g = 0; g < n.gates; ++g)
        for (Index u = units; u < units_end; u += MR) {
          const T* A = D + (slot[g] * n.UB + u / W) * stride + u % W;
          T* to = sums + (g * n.H + u) * cols + nb * W;
          const int m = units_end - u < MR ? static_cast<int>(units_end - u) : MR;
          const T* B = X + nb * stride;
          const Index count = cols - nb * W < nv * W ? cols - nb * W : nv * W;
          if (nv == 1) outer_product<T, Arch, MR, 1>(rows, A, B, stride, to, cols, m, count, overwrite);
          else if (nv == 2) outer_product<T, Arch, MR, 2>(rows, A, B, stride, to, cols, m, count, overwrite);
          else if constexpr (NV >= 3) outer_product<T, Arch, MR, 3>(rows, A, B, stride, to, cols, m, count, overwrite);
        }
      nb += nv;
    }
  }

  // db[g][u] (+)= Σ_rows D[slot[g]][row][u].
  static void of_bias(const Shape& n, const Part& part, const int* slot, Index rows, const T* D, T* db, bool overwrite) {
    for (int g = 0; g < n.gates; ++g)
      for (Index ub = part.first(n.UB); ub < part.last(n.UB); ++ub) {
        const T* d = D + (slot[g] * n.UB + ub) * n.chunk_stride();
        V sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
        Index r = 0;
        for (; r + 4 <= rows; r += 4)
          for (int k = 0; k < 4; ++k) sum[k] += V::load(d + (r + k) * W);
        for (; r < rows; ++r) sum[0] += V::load(d + r * W);
        V total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        const int count = n.units_in(ub);
        T* to = db + g * n.H + ub * W;
        if (!overwrite) total += V::load(to, count);
        total.store(to, count);
      }
  }

  //   x        (IB, chunk rows, W)      h_prev   (UB, chunk rows, W)
  static void add_rows(const Shape& n, const Part& part, Index rows, const T* D, const T* x, const T* h_prev, const Sums& sums, bool overwrite) {
    of_matrix(n, part, n.wx_slot, rows, D, x, n.I, sums.dW, overwrite);
    of_matrix(n, part, n.rh_slot, rows, D, h_prev, n.H, sums.dR, overwrite);
    if (sums.db_ih) of_bias(n, part, n.wx_slot, rows, D, sums.db_ih, overwrite);
    if (sums.db_hh) of_bias(n, part, n.rh_slot, rows, D, sums.db_hh, overwrite);
  }

  // Adds another group's sums to the user's.
  static void add_group(const BackwardCall<T>& c, const Shape& n, const Sums& from) {
    add(from.dW, n.gates * n.H * n.I, c.dW);
    add(from.dR, n.gates * n.H * n.H, c.dR);
    if (c.db_ih) add(from.db_ih, n.gates * n.H, c.db_ih);
    if (c.db_hh) add(from.db_hh, n.gates * n.H, c.db_hh);
  }

  static void add(const T* from, Index count, T* to) {
    Index i = 0;
    for (; i + W <= count; i += W) (V::load(to + i) + V::load(from + i)).store(to + i);
    for (; i < count; ++i) to[i] += from[i];
  }
};

}  // namespace throughtime
