// A cell on one tile of rows, forward and backward: the only code of a pass that is compiled for each cell.
//
// A tile is `rows` rows of a step by the unit blocks of one panel; its product has just been computed and lies in the
// first cache.
#pragma once

#include "backward.hpp"

namespace throughtime {

template <class Cell, class T, class Arch>
  requires CellOf<Cell, Vec<T, Arch>>
struct CellTiles {
  using V = Vec<T, Arch>;
  using Back = BackwardTraversal<T, Arch>;
  static constexpr int W = V::width, G = Cell::gates, S = Cell::states, C = Cell::residuals, slots = Cell::slots;
  static constexpr bool R = has_R<Cell>();
  static constexpr int P = parameters_of<Cell>(), L = learned_of<Cell>();

  THROUGHTIME_INLINE static void load_parameters(const Share<T, Arch>& share, Index ub, V* p) {
    for (int k = 0; k < P; ++k) p[k] = share.load_units(share.call.parameters + k * share.n.H, ub);
  }

  static void forward(const ForwardTraversal<T, Arch>& f, const ForwardStep<T>& at, const ForwardTile<T>& tile) {
    const Shape<T, Arch>& n = f.share.n;
    const int nv = n.nv_forward;
    for (int i = 0; i < tile.rows; ++i) {
      const Index r = tile.r0 + i;
      const bool live = f.share.is_live(at.t, r);
      for (int v = 0; v < nv && tile.ub + v < n.UB; ++v) {
        const Index ub = tile.ub + v, place = n.in_tile(0, ub) + r * W, state = n.in_tile(1, 0);
        V wx[G], rh[G], s_prev[S], s_next[S], residuals[C + 1];
        for (int k = 0; k < S; ++k) s_prev[k] = s_next[k] = V::load(f.s.s_prev + k * state + place);
        if (live) {
          const int column = (i * nv + v) * G * W;
          for (int g = 0; g < G; ++g) {
            wx[g] = V::load(tile.wx + column + g * W);
            if constexpr (R) rh[g] = V::load(tile.rh + column + g * W);
          }
          if constexpr (P > 0) {
            V p[P];
            load_parameters(f.share, ub, p);
            Cell::forward(wx, rh, s_prev, p, s_next, residuals);
          } else {
            Cell::forward(wx, rh, s_prev, s_next, residuals);
          }
          if (C > 0 && f.residuals.p)
            for (int k = 0; k < C; ++k) residuals[k].store(f.residuals.at(n, at.step, ub, r) + k * W);
        }
        for (int k = 0; k < S; ++k) s_next[k].store(f.s.s_next + k * state + place);
        if (at.hs) (live ? s_next[0] : V::zero()).store(at.hs + r * n.H + ub * W, n.units_in(ub));
      }
    }
  }

  // Asks for what the next step backward will read of this row and block.
  THROUGHTIME_INLINE static void prefetch_next(const Back& b, const BackwardStep<T>& at, Index ub, Index r) {
    const Index next = (b.share.at(at.t, r) + at.ahead) * b.share.n.H + ub * W;
    if (b.call.dhs) __builtin_prefetch(b.call.dhs + next);
    if constexpr (Cell::needs_h) __builtin_prefetch(b.call.hs + next);
    for (int k = 0; k < C; ++k) __builtin_prefetch(b.residuals.at(b.share.n, at.step - 1, ub, r) + k * W);
  }

  // A row whose adjoint does not pass the step as usual. Returns whether the row is done with.
  static bool unusual_row(const Back& b, const BackwardStep<T>& at, Index ub, Index r, V* ds) {
    const Shape<T, Arch>& n = b.share.n;
    if (b.is_cut(at, r)) hand_to_restart(b, ub, r, ds);
    if (!b.is_frozen(at, r)) return false;
    for (int k = 0; k < S; ++k) ds[k].store(b.s.carry + n.in_tile(k, ub) + r * W);
    for (int g = 0; R && g < G; ++g) V::zero().store(b.s.d_now + n.in_tile(g, ub) + r * W);
    if (r < at.live)
      for (int g = 0; g < slots + L; ++g) V::zero().store(b.s.D + n.in_chunk(g, ub) + (at.base + r) * W);
    return true;
  }

  static void hand_to_restart(const Back& b, Index ub, Index r, V* ds) {
    const int units = b.share.n.units_in(ub);
    for (int k = 0; k < S; ++k) {
      if (b.call.drestart[k]) {
        T* to = b.call.drestart[k] + (b.share.b0 + r) * b.share.n.H + ub * W;
        (V::load(to, units) + ds[k]).store(to, units);
      }
      ds[k] = V::zero();
    }
  }

  // The adjoint ds of row r's state after the step becomes gate gradients, and itself what reaches the state before.
  THROUGHTIME_INLINE static void one_block(const Back& b, const BackwardStep<T>& at, Index ub, Index r, V* ds) {
    const Shape<T, Arch>& n = b.share.n;
    const Index chunk_row = (at.base + r) * W;
    V residuals[C + 1], h_prev[1], h[1], d_wx[G], d_rh[G], ds_prev[S];
    for (int k = 0; k < C; ++k) residuals[k] = V::load(b.residuals.at(n, at.step, ub, r) + k * W);
    if constexpr (Cell::needs_h_prev) h_prev[0] = V::load(b.s.h_prev + n.in_chunk(0, ub) + chunk_row);
    if constexpr (Cell::needs_h) h[0] = b.share.load_units(b.call.hs + b.share.at(at.t, r) * n.H, ub);
    if constexpr (P > 0) {
      V p[P], d_p[L + 1];
      load_parameters(b.share, ub, p);
      Cell::backward(residuals, h_prev, h, ds, p, d_wx, d_rh, ds_prev, d_p);
      for (int k = 0; k < L; ++k) d_p[k].store(b.s.D + n.in_chunk(slots + k, ub) + chunk_row);
    } else {
      Cell::backward(residuals, h_prev, h, ds, d_wx, d_rh, ds_prev);
    }
    for (int g = 0; !R && g < G; ++g) d_wx[g].store(b.s.D + n.in_chunk(Cell::wx_slot(g), ub) + chunk_row);
    for (int g = 0; R && g < G; ++g) {
      d_rh[g].store(b.s.d_now + n.in_tile(Cell::rh_slot(g), ub) + r * W);
      d_rh[g].store(b.s.D + n.in_chunk(Cell::rh_slot(g), ub) + chunk_row);
      if (Cell::wx_slot(g) != Cell::rh_slot(g)) d_wx[g].store(b.s.D + n.in_chunk(Cell::wx_slot(g), ub) + chunk_row);
    }
    for (int k = 0; k < S; ++k) ds[k] = ds_prev[k];
  }

  static void backward(const Back& b, const BackwardStep<T>& at, const BackwardTile<T>& tile) {
    const Shape<T, Arch>& n = b.share.n;
    const bool plain = !b.call.lengths && !b.call.reset && at.step >= 0;
    const bool carried = Cell::direct_h || !plain || at.after < 0;  // else it is zero, and stays so
    const int nv = n.nv_backward;
    for (int i = 0; i < tile.rows; ++i) {
      const Index r = tile.r0 + i;
      for (int v = 0; v < nv && tile.ub + v < n.UB; ++v) {
        const Index ub = tile.ub + v;
        T* const carry = b.s.carry + n.in_tile(0, ub) + r * W;
        const Index state = n.in_tile(1, 0);
        V ds[S];
        if constexpr (R) ds[0] = V::load(tile.product + (i * nv + v) * W); else ds[0] = V::zero();
        if (carried) ds[0] += V::load(carry);
        for (int k = 1; k < S; ++k) ds[k] = V::load(carry + k * state);
        if (at.ahead) prefetch_next(b, at, ub, r);
        if (!plain && unusual_row(b, at, ub, r, ds)) continue;
        if (b.call.dhs) ds[0] += b.share.load_units(b.call.dhs + b.share.at(at.t, r) * n.H, ub);
        if (at.scale)
          for (int k = 0; k < S; ++k) ds[k] = at.scale[r] * ds[k];
        one_block(b, at, ub, r, ds);
        for (int k = carried ? 0 : 1; k < S; ++k) ds[k].store(carry + k * state);
      }
    }
  }
};

}  // namespace throughtime
