// The sums over all rows of a chunk: dW += Σ d(wx) ⊗ x, dR += Σ d(rh) ⊗ h_prev, and both biases' (⑤ of recurrence.hpp).
#pragma once

#include "geometry.hpp"

namespace throughtime {

// The sums that one group adds to: the caller's arrays for the first, scratch for the others, shaped alike.
template <class T>
struct Sums {
  T *dW, *dR, *db_ih, *db_hh;  // (G, H, I), (E, H, H), (G, H) or null, (E, H) or null
  T* dparameters;              // (L, H), or null

  static Sums of(const BackwardCall<T>& c) { return {c.dW, c.dR, c.db_ih, c.db_hh, c.dparameters}; }

  static Sums scratch(const BackwardCall<T>& c, Workspace& w) {
    const auto take = [&](Index gates, Index count) { return w.take<T>(gates * c.n.H * count); };
    const Form& f = *c.kernel;
    T *dW = take(f.gates, c.n.I), *dR = take(f.rows, c.n.H), *db_ih = take(f.gates, 1), *db_hh = take(f.rows, 1), *dp = take(f.learned, 1);
    return {dW, c.dR ? dR : nullptr, c.db_ih ? db_ih : nullptr, c.db_hh ? db_hh : nullptr, c.dparameters ? dp : nullptr};
  }
};

// to[i] += from[i].
template <class T, class Arch>
void add_array(const T* from, Index count, T* to) {
  using V = Vec<T, Arch>;
  Index i = 0;
  for (; i + V::width <= count; i += V::width) (V::load(to + i) + V::load(from + i)).store(to + i);
  for (; i < count; ++i) to[i] += from[i];
}

// Adds another group's sums to the caller's.
template <class T, class Arch>
void add_group(const BackwardCall<T>& c, const Sums<T>& from) {
  const Index units = c.kernel->gates * c.n.H, recurrent = c.kernel->rows * c.n.H;
  add_array<T, Arch>(from.dW, units * c.n.I, c.dW);
  if (c.dR) add_array<T, Arch>(from.dR, recurrent * c.n.H, c.dR);
  if (c.db_ih) add_array<T, Arch>(from.db_ih, units, c.db_ih);
  if (c.db_hh) add_array<T, Arch>(from.db_hh, recurrent, c.db_hh);
  if (c.dparameters) add_array<T, Arch>(from.dparameters, c.kernel->learned * c.n.H, c.dparameters);
}

// One half's part in the sums: its weights' and its bias's. Late gates' are a half of their own.
template <class T>
struct Half {
  const int* slot;   // (gates) where each gate's gradient lives in D
  int gates;
  const T* X;        // blocked, chunk rows of `cols` columns: what the weights were multiplied by; null: zeros, once
  Index cols;
  T *dW, *db;        // (gates, H, cols) or null where there are no weights; (gates, H) or null
};

// One member's share of the units.
template <class T, class Arch>
struct WeightGradients {
  using V = Vec<T, Arch>;
  static constexpr int W = V::width;
  static constexpr int MR = W < 8 ? W : Arch::registers >= 32 ? 8 : 4;
  static constexpr int NV = Arch::registers * 3 / 4 / MR >= 3 ? 3 : 2;
  const Share<T, Arch>& share;
  const Shape<T, Arch>& n;
  const T* D;               // (slots, UB, chunk rows, W) gate gradients
  Half<T> input, early, late;
  T* d_own;                 // (L, UB, W) the chunk's sums for the cell's own vectors; zeros after they are added
  T* dparameters;           // (L, H), or null
  bool nothing_yet = true;  // the first rows overwrite, the others add

  void add_rows(Index rows) {
    for (const Half<T>* half : {&input, &early, &late}) add_matrix(*half, rows);
    for (const Half<T>* half : {&input, &early, &late}) add_bias(*half, rows);
    for (int k = 0; dparameters && k < n.learned; ++k) add_own(d_own + k * n.UB * W, dparameters + k * n.H);
    nothing_yet = false;
  }

 private:
  // dW[g][u][c] (+)= Σ_rows D[slot[g]][row][u] · X[row][c].
  void add_matrix(const Half<T>& half, Index rows) const {
    if (!half.dW) return;
    if (!half.X) return set_zeros(half);
    const Index blocks = ceil_div(half.cols, W);
    for (Index block = 0; block < blocks;) {
      const Index left = blocks - block, nv = left == NV + 1 && NV > 2 ? 2 : left < NV ? left : NV;
      if (nv == 1) add_columns<1>(half, rows, block);
      else if (nv == 2) add_columns<2>(half, rows, block);
      else if constexpr (NV >= 3) add_columns<3>(half, rows, block);
      block += nv;
    }
  }

  void set_zeros(const Half<T>& half) const {
    const Range mine = share.of(n.UB);
    const Index first = mine.first * W, last = mine.last * W < n.H ? mine.last * W : n.H;
    for (int g = 0; g < half.gates && first < last; ++g)
      __builtin_memset(half.dW + (g * n.H + first) * half.cols, 0, sizeof(T) * static_cast<std::size_t>((last - first) * half.cols));
  }

  // The columns of nv blocks.
  template <int nv>
  void add_columns(const Half<T>& half, Index rows, Index block) const {
    const Range mine = share.of(n.UB);
    const Index last = mine.last * W < n.H ? mine.last * W : n.H, left = half.cols - block * W, stride = n.chunk_stride();
    for (int g = 0; g < half.gates; ++g)
      for (Index u = mine.first * W; u < last; u += MR) {
        const Target<T> to = {half.dW + (g * n.H + u) * half.cols + block * W, half.cols, last - u < MR ? static_cast<int>(last - u) : MR,
                              left < nv * W ? left : nv * W, nothing_yet};
        outer_product<T, Arch, MR, nv>(rows, D + n.in_chunk(half.slot[g], u / W) + u % W, {half.X + block * stride, stride}, to);
      }
  }

  // db[g][u] (+)= Σ_rows D[slot[g]][row][u].
  void add_bias(const Half<T>& half, Index rows) const {
    if (!half.db) return;
    for (int g = 0; g < half.gates; ++g) add_units(half.slot[g], rows, half.db + g * n.H);
  }

  // sum[u] (+)= Σ_rows D[slot][row][u].
  void add_units(int slot, Index rows, T* sum) const {
    for (Index ub : share.of(n.UB)) add_to(sum, ub, sum_of_rows(D + n.in_chunk(slot, ub), rows));
  }

  void add_own(T* from, T* sum) const {
    for (Index ub : share.of(n.UB)) {
      add_to(sum, ub, V::load(from + ub * W));
      V::zero().store(from + ub * W);
    }
  }

  void add_to(T* sum, Index ub, V total) const {
    const int count = n.units_in(ub);
    T* to = sum + ub * W;
    if (!nothing_yet) total += V::load(to, count);
    total.store(to, count);
  }

  static V sum_of_rows(const T* d, Index rows) {
    V sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
    Index r = 0;
    for (; r + 4 <= rows; r += 4)
      for (int k = 0; k < 4; ++k) sum[k] += V::load(d + (r + k) * W);
    for (; r < rows; ++r) sum[0] += V::load(d + r * W);
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
  }
};

}  // namespace throughtime
