// A cell on one tile of rows, forward and backward: the only code of a pass that is compiled for each cell.
//
// A tile is `rows` rows of a step by the unit blocks of one panel; its product has just been computed and lies in the
// first cache. CellCode is what the walks of forward.hpp and backward.hpp know of a cell.
#pragma once

#include "geometry.hpp"

namespace throughtime {

// What one group needs to walk a chunk forward. s_prev and s_next change places after every step.
template <class T, class Arch>
struct ForwardScratch {
  using Shape = typename Geometry<T, Arch>::Shape;
  T *s_prev, *s_next;  // (S, UB, tile rows, W) blocked states
  T* x;                // (IB, chunk rows, W) blocked inputs
  T* wx;               // (panels, chunk rows, NV, G, W)
  ForwardScratch(const Shape& n, Workspace& w) {
    s_prev = w.take<T>(n.states * n.UB * n.tile_stride());
    s_next = w.take<T>(n.states * n.UB * n.tile_stride());
    x = w.take<T>(n.IB * n.chunk_stride());
    wx = w.take<T>(n.forward_panels() * n.rows * n.forward_width());
  }
  THROUGHTIME_INLINE void swap() { T* s = s_prev; s_prev = s_next; s_next = s; }
};

// One step forward, as its tiles see it.
template <class T, class Arch>
struct ForwardStep {
  Index step, t;
  T* hs;                                    // (R, H) of this step from this group's first row, or null
  typename Geometry<T, Arch>::Kept kept;
};

// What one group needs to walk a chunk backward, but for the sums over rows.
template <class T, class Arch>
struct BackwardScratch {
  using Shape = typename Geometry<T, Arch>::Shape;
  static constexpr int W = Vec<T, Arch>::width;
  T *d_next, *d_now;   // (G, UB, tile rows, W) d(rh) of the step after, and of this one; they change places
  T* carry;            // (S, UB, tile rows, W) the adjoint that reaches the state before other than through rh
  T* D;                // (slots, UB, chunk rows, W) gate gradients
  T* x;                // (IB, chunk rows, W)
  T* h_prev;           // (UB, chunk rows, W)
  T* adjoint;          // (panels, rows, NV, W) Rᵀ d(rh), when a norm must be known first
  T* norms;            // (panels, rows) sums of squares of a panel's units
  T* scale;            // (rows) of each row's adjoint; this member's
  Index *base, *row_of;
  BackwardScratch(const BackwardCall<T>& c, const Shape& n, Workspace& w, Split split, int member) {
    const int members = split.members;
    d_next = w.take<T>(n.gates * n.UB * n.tile_stride());
    d_now = w.take<T>(n.gates * n.UB * n.tile_stride());
    carry = w.take<T>(n.states * n.UB * n.tile_stride());
    D = w.take<T>(n.slots * n.UB * n.chunk_stride());
    x = w.take<T>(n.IB * n.chunk_stride());
    h_prev = w.take<T>(n.UB * n.chunk_stride());
    adjoint = w.take<T>(c.clipped ? n.backward_panels() * n.R * n.backward_width() : 0);
    norms = w.take<T>(c.clipped ? n.backward_panels() * n.R : 0);
    scale = w.take<T>(c.clipped ? members * (n.R + 16) : 0) + (c.clipped ? member * (n.R + 16) : 0);
    base = w.take<Index>(members * (n.steps + 9)) + member * (n.steps + 9);
    row_of = w.take<Index>(members * (n.rows + 8)) + member * (n.rows + 8);
  }
  THROUGHTIME_INLINE void swap() { T* d = d_next; d_next = d_now; d_now = d; }
};

// One step backward, as its tiles see it. `after` is the step that was done before this one; it lies one later in the
// order of travel. Beyond the first step (step < 0) every row counts as frozen.
template <class T, class Arch>
struct BackwardStep {
  using Part = typename Geometry<T, Arch>::Part;
  Index step, t, after;      // after < 0: none
  Index base, live;          // first row in the chunk; rows that may be live
  Index ahead;               // rows from this step to the next one to be done; 0: that one lies in another chunk
  const T* scale;            // (R) of each row's adjoint, or null
  typename Geometry<T, Arch>::Kept kept;
  THROUGHTIME_INLINE bool frozen(const Layer<T>& c, const Part& part, Index r) const {
    return r >= live || !Geometry<T, Arch>::is_live(c, t, part.b0 + r);
  }
  // The state after this step was thrown away: what reaches it belongs to the restart.
  THROUGHTIME_INLINE bool cut(const Layer<T>& c, const Part& part, Index r) const {
    const Index b = part.b0 + r;
    return c.reset && after >= 0 && c.reset[after * c.n.B + b] && Geometry<T, Arch>::is_live(c, after, b);
  }
};

// What the walks know of a cell.
//
//   ub, r0, rows   the panel's first unit block, the tile's first row of the part, its rows
//   wx, rh         (rows, NV, G, W) the two halves of the pre-activations
//   product        (rows, NV, W) Rᵀ d(rh) of the step after
template <class T, class Arch>
struct CellCode {
  using G = Geometry<T, Arch>;
  Form form;
  void (*forward)(const Layer<T>&, const typename G::Shape&, const typename G::Part&, const ForwardScratch<T, Arch>&,
                  const ForwardStep<T, Arch>&, Index ub, Index r0, int rows, const T* wx, const T* rh);
  void (*backward)(const BackwardCall<T>&, const typename G::Shape&, const typename G::Part&, const BackwardScratch<T, Arch>&,
                   const BackwardStep<T, Arch>&, Index ub, Index r0, int rows, const T* product);
};

template <class Cell, class T, class Arch>
  requires CellOf<Cell, Vec<T, Arch>>
struct CellTiles : Geometry<T, Arch> {
  using Base = Geometry<T, Arch>;
  using typename Base::V, typename Base::Shape, typename Base::Part;
  using Base::W, Base::is_live, Base::load_units;
  static constexpr int G = Cell::gates, S = Cell::states, C = Cell::kept, slots = Cell::slots;

  static void forward(const Layer<T>& c, const Shape& n, const Part& part, const ForwardScratch<T, Arch>& s, const ForwardStep<T, Arch>& at,
                      Index ub, Index r0, int rows, const T* wx, const T* rh) {
    const Index stride = n.tile_stride(), state = n.UB * stride;
    const int nv = n.nv_forward;
    for (int i = 0; i < rows; ++i) {
      const Index r = r0 + i;
      const bool live = is_live(c, at.t, part.b0 + r);
      for (int v = 0; v < nv && ub + v < n.UB; ++v) {
        const Index place = (ub + v) * stride + r * W;
        V in_wx[G], in_rh[G], s_prev[S], s_next[S], keep[C + 1];
        for (int k = 0; k < S; ++k) s_prev[k] = s_next[k] = V::load(s.s_prev + k * state + place);
        if (live) {
          const int column = (i * nv + v) * G * W;
          for (int g = 0; g < G; ++g) in_wx[g] = V::load(wx + column + g * W), in_rh[g] = V::load(rh + column + g * W);
          Cell::forward(in_wx, in_rh, s_prev, s_next, keep);
          if (C > 0 && at.kept.p)
            for (int k = 0; k < C; ++k) keep[k].store(at.kept.at(n, at.step, ub + v, r, C) + k * W);
        }
        for (int k = 0; k < S; ++k) s_next[k].store(s.s_next + k * state + place);
        if (at.hs) (live ? s_next[0] : V::zero()).store(at.hs + r * n.H + (ub + v) * W, n.units_in(ub + v));
      }
    }
  }

  // Asks for what the next step backward will read of this row and block.
  THROUGHTIME_INLINE static void prefetch_next(const BackwardCall<T>& c, const Shape& n, const BackwardStep<T, Arch>& at, Index ub, Index r, Index row) {
    const Index next = (row + at.ahead) * n.H + ub * W;
    if (c.dhs) __builtin_prefetch(c.dhs + next);
    if constexpr (Cell::needs_h) __builtin_prefetch(c.hs + next);
    for (int k = 0; k < C; ++k) __builtin_prefetch(at.kept.at(n, at.step - 1, ub, r, C) + k * W);
  }

  // A row whose adjoint does not pass the step as usual. Returns whether the row is done with.
  static bool unusual_row(const BackwardCall<T>& c, const Shape& n, const Part& part, const BackwardScratch<T, Arch>& s,
                          const BackwardStep<T, Arch>& at, Index ub, Index r, V* ds) {
    const Index b = part.b0 + r;
    const int units = n.units_in(ub);
    if (at.cut(c, part, r))
      for (int k = 0; k < S; ++k) {
        if (c.drestart[k]) {
          T* to = c.drestart[k] + b * n.H + ub * W;
          (V::load(to, units) + ds[k]).store(to, units);
        }
        ds[k] = V::zero();
      }
    if (!at.frozen(c, part, r)) return false;
    for (int k = 0; k < S; ++k) ds[k].store(s.carry + (k * n.UB + ub) * n.tile_stride() + r * W);
    for (int g = 0; g < G; ++g) V::zero().store(s.d_now + (g * n.UB + ub) * n.tile_stride() + r * W);
    if (r < at.live)
      for (int g = 0; g < slots; ++g) V::zero().store(s.D + (g * n.UB + ub) * n.chunk_stride() + (at.base + r) * W);
    return true;
  }

  static void backward(const BackwardCall<T>& c, const Shape& n, const Part& part, const BackwardScratch<T, Arch>& s,
                       const BackwardStep<T, Arch>& at, Index ub0, Index r0, int rows, const T* product) {
    const Index tile = n.tile_stride(), chunk = n.chunk_stride();
    const bool plain = !c.lengths && !c.reset && at.step >= 0;
    const bool carried = Cell::direct_h || !plain || at.after < 0;  // else it is zero, and stays so
    const int nv = n.nv_backward;
    for (int i = 0; i < rows; ++i) {
      const Index r = r0 + i, row = at.t * n.B + part.b0 + r;
      for (int v = 0; v < nv && ub0 + v < n.UB; ++v) {
        const Index ub = ub0 + v;
        V ds[S], ds_prev[S], gates[C + 1], h_prev[1], h[1], d_wx[G], d_rh[G];
        ds[0] = V::load(product + (i * nv + v) * W);
        if (carried) ds[0] += V::load(s.carry + ub * tile + r * W);
        for (int k = 1; k < S; ++k) ds[k] = V::load(s.carry + (k * n.UB + ub) * tile + r * W);
        if (at.ahead) prefetch_next(c, n, at, ub, r, row);
        if (!plain && unusual_row(c, n, part, s, at, ub, r, ds)) continue;
        if (c.dhs) ds[0] += load_units(c.dhs + row * n.H, n, ub);
        if (at.scale)
          for (int k = 0; k < S; ++k) ds[k] = at.scale[r] * ds[k];
        for (int k = 0; k < C; ++k) gates[k] = V::load(at.kept.at(n, at.step, ub, r, C) + k * W);
        if constexpr (Cell::needs_h_prev) h_prev[0] = V::load(s.h_prev + ub * chunk + (at.base + r) * W);
        if constexpr (Cell::needs_h) h[0] = load_units(c.hs + row * n.H, n, ub);
        Cell::backward(gates, h_prev, h, ds, d_wx, d_rh, ds_prev);
        for (int g = 0; g < G; ++g) {
          d_rh[g].store(s.d_now + (Cell::rh_slot(g) * n.UB + ub) * tile + r * W);
          d_rh[g].store(s.D + (Cell::rh_slot(g) * n.UB + ub) * chunk + (at.base + r) * W);
          if (Cell::wx_slot(g) != Cell::rh_slot(g)) d_wx[g].store(s.D + (Cell::wx_slot(g) * n.UB + ub) * chunk + (at.base + r) * W);
        }
        for (int k = carried ? 0 : 1; k < S; ++k) ds_prev[k].store(s.carry + (k * n.UB + ub) * tile + r * W);
      }
    }
  }
};

template <class Cell, class T, class Arch>
constexpr CellCode<T, Arch> code_of = {form_of<Cell>(), &CellTiles<Cell, T, Arch>::forward, &CellTiles<Cell, T, Arch>::backward};

}  // namespace throughtime
