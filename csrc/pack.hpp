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

// first … last − 1.
struct Span { Index first, last; };

// The k-th of so many equal parts of 0 … total − 1.
THROUGHTIME_INLINE constexpr Span part_of(Index total, int part, int parts) { return {total * part / parts, total * (part + 1) / parts}; }

// A dense weight matrix (gates, units, inputs). A bias is one with a single input.
template <class T>
struct Weights {
  const T* p;
  int gates;
  Index units, inputs;
  THROUGHTIME_INLINE const T* row(int gate, Index unit) const { return p + (gate * units + unit) * inputs; }
  // Of the `width` units from `unit` on, those that there are.
  THROUGHTIME_INLINE int units_from(Index unit, int width) const {
    const Index left = units - unit;
    return left <= 0 ? 0 : left < width ? static_cast<int>(left) : width;
  }
};

// `count` rows of w from the given one, transposed: out[k·step + j] = rows[j][k] for every input k. Rows beyond the last
// are zero.
//
//   out      aligned to a vector, as is step; written, aliases nothing
template <class T, class Arch>
void transpose_rows(const Weights<T>& w, const T* rows, int count, T* out, Index step) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  for (Index k = 0; k < w.inputs; k += W) {
    const int columns = w.inputs - k < W ? static_cast<int>(w.inputs - k) : W;
    V block[W];
#pragma GCC unroll 16
    for (int j = 0; j < W; ++j) block[j] = j < count ? V::load(rows + j * w.inputs + k, columns) : V::zero();
    transpose(block);
#pragma GCC unroll 16
    for (int i = 0; i < W; ++i)
      if (i < columns) block[i].store(out + (k + i) * step);
  }
}

// Panels whose outputs are units: panels[unit block group][k][v][g][width], k over inputs; NV unit blocks a panel.
// Units beyond the last are zero.
//
//   panels   those to be packed
//   out      (ceil(units / (NV·width)), inputs, NV, G, width); written, aliases nothing
template <class T, class Arch>
void pack_units(const Weights<T>& w, int NV, Span panels, T* out) {
  constexpr int W = Vec<T, Arch>::width;
  const Index step = static_cast<Index>(NV) * w.gates * W, last = panels.last * NV * W;
  out += panels.first * w.inputs * step;
  for (Index u = panels.first * NV * W; u < last; u += NV * W, out += w.inputs * step)
    for (int v = 0; v < NV; ++v)
      for (int g = 0; g < w.gates; ++g) {
        const Index unit = u + v * W;
        const int count = w.units_from(unit, W);
        transpose_rows<T, Arch>(w, count ? w.row(g, unit) : w.p, count, out + (v * w.gates + g) * W, step);
      }
}

// A bias in the order of a panel's outputs: out[panel][v][g][width]; zeros when it is null.
template <class T, class Arch>
void pack_bias(const Weights<T>& b, int NV, T* out) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  for (Index u = 0; u < b.units; u += NV * W)
    for (int v = 0; v < NV; ++v)
      for (int g = 0; g < b.gates; ++g, out += W) {
        const int count = b.p ? b.units_from(u + v * W, W) : 0;
        (count ? V::load(b.row(g, u + v * W), count) : V::zero()).store(out);
      }
}

// One row times a panel that was never packed: for few rows it costs more to lay the weights out than to use them.
//
//   u        the panel's first unit
//   x        a row (inputs) of a blocked matrix, whose last block is padded with zeros; read
//   sums     (NV, G, width): what the sums begin with, for NV unit blocks; added to w[g][unit] · x in place
template <class T, class Arch>
void row_times_weights(const Weights<T>& w, Index u, int NV, Blocked<const T> x, T* sums) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  for (int v = 0; v < NV; ++v, u += W)
    for (int g = 0; g < w.gates; ++g, sums += W) {
      const Index last = w.units - u - 1;
      const T* rows[W];  // beyond the last unit: the last again, whose sums are not read
      for (Index j = 0; j < W; ++j) rows[j] = w.row(g, last < 0 ? 0 : u + (j < last ? j : last));
      V parts[W];
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) parts[j] = V::zero();
      const T* xk = x.p;
      for (Index k = 0; k < w.inputs; k += W, xk += x.stride) {
        const int count = w.inputs - k < W ? static_cast<int>(w.inputs - k) : W;
        const V y = V::load(xk);
#pragma GCC unroll 16
        for (int j = 0; j < W; ++j) parts[j] = fma(V::load(rows[j] + k, count), y, parts[j]);
      }
      transpose(parts);
      V total = V::load(sums);
#pragma GCC unroll 16
      for (int j = 0; j < W; ++j) total += parts[j];
      total.store(sums);
    }
}

// The gate gradients of one row times weights that were never packed: Σ over gates, in the order of their slots, and units.
//
//   gate_of  (G) the gate whose gradient lives in the s-th of the G slots
//   panels   those to be packed
//   first    the first of NV·width inputs
//   d        a row (G, padded units) of a blocked matrix; read
//   sums     (NV, width); written; inputs beyond the last are zero
template <class T, class Arch, int NV>
[[gnu::noinline]] void gradients_times_weights(const Weights<T>& w, const int* gate_of, Index first, Blocked<const T> d, T* sums) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width, sums_wanted = 8 / NV, parts = sums_wanted < W ? sums_wanted : W;  // eight cover the latency of the multiply-add
  const Index left = w.inputs - first;
  V acc[parts][NV];
  for (int k = 0; k < parts; ++k)
    for (int v = 0; v < NV; ++v) acc[k][v] = V::zero();
  for (int s = 0; s < w.gates; ++s) {
    const T* from = w.row(gate_of[s], 0) + first;
    for (Index block = 0; block < w.units; block += W, d.p += d.stride) {
      const int units = w.units_from(block, W);
      int u = 0;
      if (left >= NV * W)
        for (; u + parts <= units; u += parts)
#pragma GCC unroll 8
          for (int k = 0; k < parts; ++k, from += w.inputs)
#pragma GCC unroll 8
            for (int v = 0; v < NV; ++v) acc[k][v] = fma(V::all(d.p[u + k]), V::load(from + v * W), acc[k][v]);
      for (; u < units; ++u, from += w.inputs)
        for (int v = 0; v < NV && v * W < left; ++v) {
          const int count = left - v * W < W ? static_cast<int>(left - v * W) : W;
          acc[0][v] = fma(V::all(d.p[u]), V::load(from + v * W, count), acc[0][v]);
        }
    }
  }
  for (int v = 0; v < NV; ++v) {
    V sum = acc[0][v];
    for (int k = 1; k < parts; ++k) sum += acc[k][v];
    sum.store(sums + v * W);
  }
}

template <class T, class Arch>
void gradients_times_weights(const Weights<T>& w, const int* gate_of, int NV, Index first, Blocked<const T> d, T* sums) {
  switch (NV) {
    case 8: return gradients_times_weights<T, Arch, 8>(w, gate_of, first, d, sums);
    case 4: return gradients_times_weights<T, Arch, 4>(w, gate_of, first, d, sums);
    case 2: return gradients_times_weights<T, Arch, 2>(w, gate_of, first, d, sums);
    default: return gradients_times_weights<T, Arch, 1>(w, gate_of, first, d, sums);
  }
}

// Panels whose outputs are inputs, for the way back: panels[input block group][slot][unit, padded][v][width]. The sum
// runs over gates (in the order of their slots) and units; units beyond the last are zero.
//
//   gate_of  (G) the gate whose gradient lives in the s-th of the G slots
//   panels   those to be packed
//   out      (ceil(inputs / (NV·width)), G, padded units, NV, width); written, aliases nothing
template <class T, class Arch>
void pack_inputs(const Weights<T>& w, const int* gate_of, int NV, Span panels, T* out) {
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  const Index padded = ceil_div(w.units, W) * W, last = panels.last * NV * W;
  out += panels.first * w.gates * padded * NV * W;
  for (Index first = panels.first * NV * W; first < last; first += NV * W)
    for (int s = 0; s < w.gates; ++s)
      for (Index u = 0; u < padded; ++u)
        for (Index i = first; i < first + NV * W; i += W, out += W) {
          const Index left = u < w.units ? w.inputs - i : 0;
          (left > 0 ? V::load(w.row(gate_of[s], u) + i, static_cast<int>(left < W ? left : W)) : V::zero()).store(out);
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
