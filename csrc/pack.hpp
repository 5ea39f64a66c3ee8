// Laying out operands: weights into panels, rows into blocks (see product.hpp for both layouts).
#pragma once

#include "product.hpp"

namespace throughtime {

THROUGHTIME_INLINE constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// Distance between blocks of a blocked matrix of `rows` rows, such that equal rows of successive blocks fall into
// different cache sets: blocks a multiple of 4 KB apart would share a handful of them.
template <int W>
THROUGHTIME_INLINE constexpr Index block_stride(Index rows) {
  if (rows < 8) return rows * W;
  const Index eights = ceil_div(rows, 8);
  return (eights % 2 ? eights : eights + 1) * 8 * W;
}

// A weight matrix (gates, units, inputs): distances in elements between gates and between units; inputs are adjacent.
template <class T>
struct Weights {
  const T* p;
  Index gate, unit;
};

// A block of `units` (≤ width) rows by `inputs` columns, transposed: out[k·step + j] = rows[j·stride + k]. Rows beyond
// the last unit are zero.
//
//   out      aligned to a vector, as is step; written, aliases nothing
template <class T, class Arch>
void transpose_block(const T* rows, Index stride, int units, Index inputs, T* out, Index step) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  for (Index k = 0; k < inputs; k += W) {
    const int count = inputs - k < W ? static_cast<int>(inputs - k) : W;
    V block[W];
#pragma GCC unroll 16
    for (int j = 0; j < W; ++j) block[j] = j < units ? V::load(rows + j * stride + k, count) : V::zero();
    transpose(block);
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i)
      if (i < count) block[i].store(out + (k + i) * step);
  }
}

// Panels whose outputs are units: panels[unit block group][k][v][g][width], k over inputs; NV unit blocks a panel.
// Units beyond the last are zero.
//
//   out      (ceil(units / (NV·width)), inputs, NV, G, width); written, aliases nothing
template <class T, class Arch>
void pack_units(Weights<T> w, int G, Index units, Index inputs, int NV, Index first, Index last, T* out) {
  constexpr int W = Vec<T, Arch>::width;
  const Index step = static_cast<Index>(NV) * G * W;
  for (Index p = first; p < last; ++p)
    for (int v = 0; v < NV; ++v)
      for (int g = 0; g < G; ++g) {
        const Index u = (p * NV + v) * W, left = units - u;
        const int count = left <= 0 ? 0 : left < W ? static_cast<int>(left) : W;
        transpose_block<T, Arch>(w.p + g * w.gate + (count ? u * w.unit : 0), w.unit, count, inputs, out + p * inputs * step + (v * G + g) * W, step);
      }
}

// One row times a panel that was never packed: for a single row it costs more to lay the weights out than to use them.
//
//   x        (inputs, padded to whole vectors with zeros); read
//   init     (NV, G, width); read
//   out      (NV, G, width): init + Σ_k w[g][unit][k] x[k] for unit blocks p·NV …; written, aliases nothing
template <class T, class Arch>
void row_times_weights(Weights<T> w, int G, Index units, Index inputs, const T* x, int NV, Index p, const T* init, T* out) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  for (int v = 0; v < NV; ++v)
    for (int g = 0; g < G; ++g, init += W, out += W) {
      const Index u = (p * NV + v) * W, last = units - u - 1;
      const T* rows[W];  // beyond the last unit: the last again, whose sums nobody reads
      for (Index j = 0; j < W; ++j) rows[j] = w.p + g * w.gate + (last < 0 ? 0 : u + (j < last ? j : last)) * w.unit;
      V sums[W];
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) sums[j] = V::zero();
      for (Index k = 0; k < inputs; k += W) {
        const int count = inputs - k < W ? static_cast<int>(inputs - k) : W;
        const V y = V::load(x + k);
#pragma GCC unroll 16
        for (int j = 0; j < W; ++j) sums[j] = fma(V::load(rows[j] + k, count), y, sums[j]);
      }
      transpose(sums);
      V total = V::load(init);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) total += sums[j];
      total.store(out);
    }
}

// Panels whose outputs are inputs, for the way back: panels[input block group][slot][unit, padded][v][width]. The sum
// runs over gates (in the order of their slots) and units; units beyond the last are zero.
//
//   gate_of  (G) the gate whose gradient lives in the s-th of the G slots
//   out      (ceil(inputs / (NV·width)), G, padded units, NV, width); written, aliases nothing
template <class T, class Arch>
void pack_inputs(Weights<T> w, const int* gate_of, int G, Index units, Index inputs, int NV, Index first, Index last, T* out) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  const Index padded = ceil_div(units, W) * W;
  const Index panel = G * padded * NV * W;
  for (Index p = first; p < last; ++p)
    for (int s = 0; s < G; ++s)
      for (Index u = 0; u < padded; ++u)
        for (int v = 0; v < NV; ++v) {
          T* to = out + p * panel + ((s * padded + u) * NV + v) * W;
          const Index i = (p * NV + v) * W;
          const Index count = u < units ? (inputs - i < W ? inputs - i : W) : 0;
          const V x = count > 0 ? V::load(w.p + gate_of[s] * w.gate + u * w.unit + i, static_cast<int>(count)) : V::zero();
          x.store(to);
        }
}

// A bias (G, units) in the order of a panel's outputs: out[panel][v][g][width]; zeros when b is null.
template <class T, class Arch>
void pack_bias(const T* b, int G, Index units, int NV, Index panels, T* out) {
  constexpr int W = Vec<T, Arch>::width;
  for (Index p = 0; p < panels; ++p)
    for (int v = 0; v < NV; ++v)
      for (int g = 0; g < G; ++g)
        for (int j = 0; j < W; ++j) {
          const Index u = (p * NV + v) * W + j;
          *out++ = b && u < units ? b[g * units + u] : 0;
        }
}

// One row of `cols` elements into its place in a blocked matrix; what is beyond the last column is zero. A null row
// is a row of zeros.
//
//   to       the row's place in block 0; blocks `stride` apart; written, aliases nothing
template <class T, class Arch>
THROUGHTIME_INLINE void pack_row(const T* from, Index cols, T* to, Index stride) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  Index i = 0;
  if (!from) {
    for (; i < cols; i += W, to += stride) V::zero().store(to);
    return;
  }
  for (; i + W <= cols; i += W, to += stride) V::load(from + i).store(to);
  if (i < cols) V::load(from + i, static_cast<int>(cols - i)).store(to);
}

// The way back: one row of a blocked matrix to `cols` plain elements.
template <class T, class Arch>
THROUGHTIME_INLINE void unpack_row(const T* from, Index stride, Index cols, T* to) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  Index i = 0;
  for (; i + W <= cols; i += W, from += stride) V::load(from).store(to + i);
  if (i < cols) V::load(from).store(to + i, static_cast<int>(cols - i));
}

}  // namespace throughtime
