// The two matrix products that everything is made of, on operands that pack.hpp has laid out.
//
// Blocked layout of a matrix of `rows` × `cols`: columns in blocks of one vector, [cols/width][rows + pad][width].
// `stride` is the distance in elements from one block to the next. One layout serves three ends: a row's element is
// read as a scalar when the product runs over columns (rows_times_panel), and a block is read as a vector, or as a
// column of scalars, when it runs over rows (outer_product); nothing is ever repacked between the two.
//
// Panel layout of a weight matrix: [k][NC][width], NC vectors of outputs side by side for every k.
#pragma once

#include "simd.hpp"

namespace throughtime {

// A blocked matrix from one of its rows on.
template <class T>
struct Blocked {
  T* p;
  Index stride;
};

// Rows of the largest tile whose MR × NC accumulators, with room for operands, fit in the registers.
template <class Arch>
THROUGHTIME_INLINE constexpr int max_rows(int vectors) {
  const int fit = Arch::registers * 3 / 4 / vectors;
  return fit >= 8 ? 8 : fit >= 6 ? 6 : fit >= 4 ? 4 : fit > 1 ? fit : 1;
}

// How many rows the next tile takes of those that remain: full tiles of `most`, then two of about equal height.
THROUGHTIME_INLINE int next_tile(Index remaining, int most) {
  if (remaining == most || remaining >= 2 * most) return most;
  if (remaining > most) {
    const int half = static_cast<int>(remaining + 1) / 2;  // rounded up to a height there is: 1, 2, 3, 4, 6, 8
    return half <= 4 ? half : half <= 6 ? 6 : 8;
  }
  return remaining >= 6 ? 6 : remaining >= 4 ? 4 : static_cast<int>(remaining);
}

// out[r][n] = init[n] + Σ_k A[r][k] panel[k][n],  r < MR, n < NC·width.
//
//   A        MR rows; read
//   panel    (K, NC·width), aligned to a vector; read
//   init     (NC·width), or null for zeros; read
//   out      (MR, NC·width), aligned to a vector; written, aliases nothing
//
// With few accumulators the sum over k is kept in KS interleaved parts, to cover the latency of the multiply-add.
// With `backward`, whole blocks of k are taken last to first: a step that walks its weights the other way than the step
// before begins with those that are still in the first cache.
template <class T, class Arch, int MR, int NC, bool backward = false>
[[gnu::noinline]] void rows_times_panel(Index K, Blocked<const T> rows, const T* panel, const T* init, T* out) {
  const T* A = rows.p;
  const Index stride = rows.stride;
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  constexpr int KS = MR * NC >= 6 ? 1 : MR * NC >= 3 ? 2 : 4;
  constexpr int unroll = W < 4 ? W : (KS > 4 ? KS : 4);
  V acc[KS][MR][NC];
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < NC; ++c) {
      acc[0][r][c] = init ? V::load(init + c * W) : V::zero();
#pragma GCC unroll 4
      for (int s = 1; s < KS; ++s) acc[s][r][c] = V::zero();
    }
  const auto multiply_add = [&](const T* a, const T* b, int part) __attribute__((always_inline)) {
    V y[NC];
#pragma GCC unroll 8
    for (int c = 0; c < NC; ++c) y[c] = V::load(b + c * W);
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r) {
      const V x = V::all(a[r * W]);
#pragma GCC unroll 8
      for (int c = 0; c < NC; ++c) acc[part][r][c] = fma(x, y[c], acc[part][r][c]);
    }
  };
  const Index whole = K / W;
  const T* const rest = A + whole * stride;
  const T* const rest_panel = panel + whole * W * NC * W;
  if (backward && whole > 0) A += (whole - 1) * stride, panel = rest_panel - W * NC * W;
  for (Index block = 0; block < whole; ++block, A += backward ? -stride : stride) {
    const T* a = A;
    // The next block of A is a stride away, where no hardware prefetcher looks; the panel is read in order.
#pragma GCC unroll 8
    for (int r = 0; r < MR; r += 64 / Arch::bytes) __builtin_prefetch(A + (backward ? -stride : stride) + r * W);
#pragma GCC unroll 1
    for (int j = 0; j < W; j += unroll) {
#pragma GCC unroll 4
      for (int u = 0; u < unroll; ++u) multiply_add(a + u, panel + u * NC * W, u % KS);
      a += unroll;
      panel += unroll * NC * W;
    }
    if (backward) panel -= 2 * W * NC * W;
  }
  panel = rest_panel;
  for (Index k = whole * W, j = 0; k < K; ++k, ++j, panel += NC * W) multiply_add(rest + j, panel, 0);
#pragma GCC unroll 8
  for (int r = 0; r < MR; ++r)
#pragma GCC unroll 8
    for (int c = 0; c < NC; ++c) {
#pragma GCC unroll 4
      for (int s = 1; s < KS; ++s) acc[0][r][c] += acc[s][r][c];
      acc[0][r][c].store(out + (r * NC + c) * W);
    }
}

// The products of one width of panel: times_panel[rows], for the heights that next_tile gives.
template <class T>
struct Tiles {
  using Product = void (*)(Index K, Blocked<const T> rows, const T* panel, const T* init, T* out);
  int most;
  Product times_panel[9], row_backward;  // row_backward: one row, k last to first
};

template <class T, class Arch, int NC>
THROUGHTIME_INLINE constexpr Tiles<T> make_tiles() {
  constexpr int most = max_rows<Arch>(NC);
  Tiles<T> tiles = {most, {}, &rows_times_panel<T, Arch, 1, NC, true>};
  tiles.times_panel[1] = &rows_times_panel<T, Arch, 1, NC>;
  if constexpr (most >= 2) tiles.times_panel[2] = &rows_times_panel<T, Arch, 2, NC>;
  if constexpr (most >= 3) tiles.times_panel[3] = &rows_times_panel<T, Arch, 3, NC>;
  if constexpr (most >= 4) tiles.times_panel[4] = &rows_times_panel<T, Arch, 4, NC>;
  if constexpr (most >= 6) tiles.times_panel[6] = &rows_times_panel<T, Arch, 6, NC>;
  if constexpr (most >= 8) tiles.times_panel[8] = &rows_times_panel<T, Arch, 8, NC>;
  return tiles;
}

template <class T, class Arch, int NC>
constexpr Tiles<T> tiles_of_width = make_tiles<T, Arch, NC>();

// Panels are 1, 2, 3, 4, 6 or 8 vectors wide.
template <class T, class Arch>
const Tiles<T>& tiles_of(int vectors) {
  switch (vectors) {
    case 1: return tiles_of_width<T, Arch, 1>;
    case 2: return tiles_of_width<T, Arch, 2>;
    case 3: return tiles_of_width<T, Arch, 3>;
    case 4: return tiles_of_width<T, Arch, 4>;
    case 6: return tiles_of_width<T, Arch, 6>;
    default: return tiles_of_width<T, Arch, 8>;
  }
}

// Where a block of an outer product goes: rows `ld` apart, of which the first m and in each the first n elements are
// touched; added to, or overwritten.
template <class T>
struct Target {
  T* p;
  Index ld;
  int m;
  Index n;
  bool overwrite;
};

// C[m][n] (+)= Σ_r A[r][m] B[r][n],  m < MR, n < NV·width.
//
//   A        one block of a blocked matrix from its column m = 0: A[r·width + m]; read
//   B        NV blocks; read
//   C        at most MR by NV·width; aliases nothing
template <class T, class Arch, int MR, int NV>
[[gnu::noinline]] void outer_product(Index rows, const T* A, Blocked<const T> columns, const Target<T>& to) {
  const T* B = columns.p;
  const Index stride = columns.stride;
  const auto [C, ldc, m_count, n_count, overwrite] = to;
  using V = Vec<T, Arch>;
  constexpr int W = V::width;
  V acc[MR][NV];
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      acc[m][v] = V::zero();
      if (m < m_count) __builtin_prefetch(C + m * ldc + v * W, 1);  // added to at the very end
    }
#pragma GCC unroll 2
  for (Index r = 0; r < rows; ++r) {
    V y[NV];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) y[v] = V::load(B + v * stride);
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m) {
      const V x = V::all(A[m]);
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[m][v] = fma(x, y[v], acc[m][v]);
    }
    A += W;
    B += W;
  }
  if (n_count < NV * W) {  // the last columns: by way of memory
    alignas(64) T sums[MR * NV * W];
#pragma GCC unroll 16
    for (int m = 0; m < MR; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < NV; ++v) acc[m][v].store(sums + (m * NV + v) * W);
    for (int m = 0; m < m_count; ++m)
      for (Index n = 0; n < n_count; ++n) C[m * ldc + n] = sums[m * NV * W + n] + (overwrite ? 0 : C[m * ldc + n]);
    return;
  }
#pragma GCC unroll 16
  for (int m = 0; m < MR; ++m) {
    if (m >= m_count) break;
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      T* c = C + m * ldc + v * W;
      (overwrite ? acc[m][v] : acc[m][v] + V::load(c)).store(c);
    }
  }
}

}  // namespace throughtime
