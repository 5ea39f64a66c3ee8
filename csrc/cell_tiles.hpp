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
  using Forward = ForwardTraversal<T, Arch>;
  using Back = BackwardTraversal<T, Arch>;
  static constexpr int W = V::width, G = Cell::gates, S = Cell::states, C = Cell::residuals, slots = Cell::slots;
  static constexpr int E = rows_of<Cell>(), late = late_of<Cell>(), early = E - late, passed = passed_of<Cell>();
  static constexpr bool reads_h_in_place = Cell::needs_h_prev && E == 0;  // with R it lies in blocks, for dR
  static constexpr int P = parameters_of<Cell>(), L = learned_of<Cell>(), Q = derived_of<Cell>();

  // What the cell's functions are given of its own vectors, for all units.
  static void prepare(const T* parameters, Index H, T* derived) requires (P > 0) {
    const Index UB = ceil_div(H, W);
    for (Index ub = 0; ub < UB; ++ub) {
      V p[P], out[Q + 1];
      for (int k = 0; k < P; ++k) p[k] = V::load(parameters + k * H + ub * W, H - ub * W < W ? static_cast<int>(H - ub * W) : W);
      Cell::prepare(p, out);
      for (int k = 0; k < Q; ++k) out[k].store(derived + (k * UB + ub) * W);
    }
  }

  // They are aligned to a vector, and have no padding to be looked at.
  template <class Way>
  THROUGHTIME_INLINE static void load_parameters(const Way& way, Index ub, V* p) {
    for (int k = 0; k < Q; ++k) p[k] = V::load(way.weights.p + (k * way.share.n.UB + ub) * W);
  }

  // Lanes beyond the last unit are made zero, for a product may multiply them by zeros: what a cell makes of zeros need not be finite.
  template <int count>
  THROUGHTIME_INLINE static void without_padding(V* v, int units) {
    if constexpr (!zeros_stay<Cell>())
      for (int k = 0; units < W && k < count; ++k) v[k] = v[k].first(units);
  }

  // The first stage of a step with late gates: q, and what the second needs.
  static void between(const Forward& f, const ForwardStep<T>&, const ForwardTile<T>& tile) requires (late > 0) {
    const Shape<T, Arch>& n = f.share.n;
    const int nv = n.nv_forward;
    for (int i = 0; i < tile.rows; ++i) {
      const Index r = tile.r0 + i;
      for (int v = 0; v < nv && tile.ub + v < n.UB; ++v) {
        const Index ub = tile.ub + v, place = n.in_tile(0, ub) + r * W;
        V wx[G], rh[early + 1], s_prev[S], p[Q + 1], q[1], out[passed + 1];
        for (int k = 0; k < S; ++k) s_prev[k] = V::load(f.s.s_prev + n.in_tile(k, 0) + place);
        for (int g = 0; g < G; ++g) wx[g] = V::load(tile.wx + ((i * nv + v) * G + g) * W);
        for (int g = 0; g < early; ++g) rh[g] = V::load(tile.rh + ((i * nv + v) * early + g) * W);
        load_parameters(f, ub, p);
        Cell::between(wx, rh, s_prev, p, q, out);
        without_padding<1>(q, n.units_in(ub));
        q[0].store(f.s.q + place);
        for (int k = 0; k < passed; ++k) out[k].store(f.s.passed + n.in_tile(k, 0) + place);
      }
    }
  }

  static void forward(const Forward& f, const ForwardStep<T>& at, const ForwardTile<T>& tile) {
    constexpr int halves = late > 0 ? late : E;  // of the stage
    const Shape<T, Arch>& n = f.share.n;
    const int nv = n.nv_forward;
    for (int i = 0; i < tile.rows; ++i) {
      const Index r = tile.r0 + i;
      const bool live = f.share.is_live(at.t, r);
      for (int v = 0; v < nv && tile.ub + v < n.UB; ++v) {
        const Index ub = tile.ub + v, place = n.in_tile(0, ub) + r * W, state = n.in_tile(1, 0);
        V wx[G], rh[halves + 1], s_prev[S], s_next[S], residuals[C + 1];
        for (int k = 0; k < S; ++k) s_prev[k] = s_next[k] = V::load(f.s.s_prev + k * state + place);
        if (live) {
          for (int g = 0; g < G; ++g) wx[g] = V::load(tile.wx + ((i * nv + v) * G + g) * W);
          for (int g = 0; g < halves; ++g) rh[g] = V::load(tile.rh + ((i * nv + v) * halves + g) * W);
          V p[Q + 1];
          load_parameters(f, ub, p);
          if constexpr (late > 0) {
            V from_first[passed + 1];
            for (int k = 0; k < passed; ++k) from_first[k] = V::load(f.s.passed + k * state + place);
            Cell::forward(wx, rh, from_first, s_prev, p, s_next, residuals);
          } else if constexpr (P > 0) {
            Cell::forward(wx, rh, s_prev, p, s_next, residuals);
          } else {
            Cell::forward(wx, rh, s_prev, s_next, residuals);
          }
          without_padding<S>(s_next, n.units_in(ub));
          if (C > 0 && f.residuals.p)
            for (int k = 0; k < C; ++k) residuals[k].store(f.residuals.at(n, at.step, ub, r) + k * W);
        }
        for (int k = 0; k < S; ++k) s_next[k].store(f.s.s_next + k * state + place);
        if (E == 0 && at.hs) __builtin_prefetch(at.hs + (r + (f.share.call.reverse ? -n.B : n.B)) * n.H + ub * W, 1);  // the next step's
        if (at.hs) (live ? s_next[0] : V::zero()).store(at.hs + r * n.H + ub * W, n.units_in(ub));
      }
    }
  }

  // Asks for what the next step backward will read of this row and block.
  THROUGHTIME_INLINE static void prefetch_next(const Back& b, const BackwardStep<T>& at, Index ub, Index r) {
    const Index next = (b.share.at(at.t, r) + at.ahead) * b.share.n.H + ub * W;
    if (b.call.dhs) __builtin_prefetch(b.call.dhs + next);
    if constexpr (reads_h_in_place) __builtin_prefetch(b.call.hs + next + at.ahead * b.share.n.H);  // h before it: this step reads h after it
    else if constexpr (Cell::needs_h) __builtin_prefetch(b.call.hs + next);
    for (int k = 0; k < C; ++k) __builtin_prefetch(b.residuals.at(b.share.n, at.step - 1, ub, r) + k * W);
  }

  // A row whose adjoint does not pass the step as usual. Returns whether the row is done with.
  static bool unusual_row(const Back& b, const BackwardStep<T>& at, Index ub, Index r, V* ds) {
    const Shape<T, Arch>& n = b.share.n;
    if (b.is_cut(at, r)) hand_to_restart(b, ub, r, ds);
    if (!b.is_frozen(at, r)) return false;
    for (int k = 0; k < S; ++k) ds[k].store(b.s.carry + n.in_tile(k, ub) + r * W);
    for (int g = 0; g < E; ++g) V::zero().store(b.s.d_now + n.in_tile(g, ub) + r * W);
    if (r >= at.live) return true;
    for (int g = 0; g < slots; ++g) V::zero().store(b.s.D + n.in_chunk(g, ub) + (at.base + r) * W);
    if constexpr (late > 0) V::zero().store(b.s.q + n.in_chunk(0, ub) + (at.base + r) * W);
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

  // What forward left of a row and block.
  struct Kept {
    V residuals[C + 1], h_prev[1], h[1];
    THROUGHTIME_INLINE Kept(const Back& b, const BackwardStep<T>& at, Index ub, Index r) {
      const Shape<T, Arch>& n = b.share.n;
      for (int k = 0; k < C; ++k) residuals[k] = V::load(b.residuals.at(n, at.step, ub, r) + k * W);
      if constexpr (Cell::needs_h_prev && !reads_h_in_place) h_prev[0] = V::load(b.s.h_prev + n.in_chunk(0, ub) + (at.base + r) * W);
      if constexpr (reads_h_in_place) {
        const T* const from = b.h_before(at.t, r);
        h_prev[0] = from ? b.share.load_units(from, ub) : V::zero();
      }
      if constexpr (Cell::needs_h) h[0] = b.share.load_units(b.call.hs + b.share.at(at.t, r) * n.H, ub);
    }
  };

  // The adjoint ds of row r's state after the step becomes gate gradients, and itself what reaches the state before. dq: of a cell
  // with late gates.
  THROUGHTIME_INLINE static void one_block(const Back& b, const BackwardStep<T>& at, Index ub, Index r, const V* dq, V* ds) {
    const Shape<T, Arch>& n = b.share.n;
    const Index chunk_row = (at.base + r) * W;
    const int units = n.units_in(ub);
    const Kept kept(b, at, ub, r);
    V d_wx[G], d_rh[early + 1], ds_prev[S], p[Q + 1], d_p[L + 1];
    load_parameters(b, ub, p);
    if constexpr (late > 0) {
      V d_late[late];
      for (int g = 0; g < late; ++g) d_late[g] = V::load(b.s.d_now + n.in_tile(Cell::rh_slot(early + g), ub) + r * W);
      Cell::backward(kept.residuals, kept.h_prev, kept.h, ds, p, dq, d_late, d_wx, d_rh, ds_prev, d_p);
    } else if constexpr (P > 0) {
      Cell::backward(kept.residuals, kept.h_prev, kept.h, ds, p, d_wx, d_rh, ds_prev, d_p);
    } else {
      Cell::backward(kept.residuals, kept.h_prev, kept.h, ds, d_wx, d_rh, ds_prev);
    }
    without_padding<G>(d_wx, units), without_padding<early>(d_rh, units), without_padding<S>(ds_prev, units);
    for (int k = 0; k < L; ++k) {
      T* const sum = b.s.d_own + (k * n.UB + ub) * W;
      (V::load(sum) + d_p[k]).store(sum);
    }
    for (int g = 0; g < early; ++g) store_half(b, ub, r, chunk_row, Cell::rh_slot(g), d_rh[g]);
    for (int g = 0; g < G; ++g)
      if (Cell::wx_slot(g) >= E) d_wx[g].store(b.s.D + n.in_chunk(Cell::wx_slot(g), ub) + chunk_row);
    for (int k = 0; k < S; ++k) ds[k] = ds_prev[k];
  }

  // The gradient of a half rh, for the product of this step or the next, and for the sums over rows.
  THROUGHTIME_INLINE static void store_half(const Back& b, Index ub, Index r, Index chunk_row, int slot, V d) {
    d.store(b.s.d_now + b.share.n.in_tile(slot, ub) + r * W);
    d.store(b.s.D + b.share.n.in_chunk(slot, ub) + chunk_row);
  }

  // The late gates' gradients from the adjoint ds, which stays; and q again.
  THROUGHTIME_INLINE static void late_block(const Back& b, const BackwardStep<T>& at, Index ub, Index r, const V* ds) {
    const Shape<T, Arch>& n = b.share.n;
    const Index chunk_row = (at.base + r) * W;
    const Kept kept(b, at, ub, r);
    V p[Q + 1], d_late[late + 1], q[1];
    load_parameters(b, ub, p);
    Cell::backward_late(kept.residuals, kept.h_prev, kept.h, ds, p, d_late, q);
    without_padding<late>(d_late, n.units_in(ub));
    for (int g = 0; g < late; ++g) store_half(b, ub, r, chunk_row, Cell::rh_slot(early + g), d_late[g]);
    q[0].store(b.s.q + n.in_chunk(0, ub) + chunk_row);
  }

  // What is alike for all rows of a tile.
  struct Arriving {
    bool plain;    // no row is unusual
    bool carried;  // whether h's adjoint arrives other than through rh: else that part is zero, and stays so
    THROUGHTIME_INLINE Arriving(const Back& b, const BackwardStep<T>& at)
        : plain(!b.call.lengths && !b.call.reset && at.step >= 0), carried(Cell::direct_h || late > 0 || !plain || at.after < 0) {}
  };

  // The adjoint of a row's state after the step: from the step after, from above, clipped. Returns whether the row is done with.
  THROUGHTIME_INLINE static bool adjoint(const Back& b, const BackwardStep<T>& at, Arriving how, Index ub, Index r, const T* product, V* ds) {
    const Shape<T, Arch>& n = b.share.n;
    const T* const carry = b.s.carry + n.in_tile(0, ub) + r * W;
    if constexpr (early > 0) ds[0] = V::load(product); else ds[0] = V::zero();
    if (how.carried) ds[0] += V::load(carry);
    for (int k = 1; k < S; ++k) ds[k] = V::load(carry + n.in_tile(k, 0));
    if (at.ahead) prefetch_next(b, at, ub, r);
    if (!how.plain && unusual_row(b, at, ub, r, ds)) return true;
    if (b.call.dhs) ds[0] += b.share.load_units(b.call.dhs + b.share.at(at.t, r) * n.H, ub);
    if (at.scale)
      for (int k = 0; k < S; ++k) ds[k] = at.scale[r] * ds[k];
    return false;
  }

  // body(row, unit block, its product) for a tile.
  template <class Body>
  THROUGHTIME_INLINE static void each_block(const Back& b, const BackwardTile<T>& tile, Body body) {
    const Index left = b.share.n.UB - tile.ub, there = left < tile.blocks ? left : tile.blocks;
    for (int i = 0; i < tile.rows; ++i)
      for (Index v = 0; v < there; ++v) body(tile.r0 + i, tile.ub + v, tile.product ? tile.product + (i * tile.blocks + v) * W : nullptr);
  }

  THROUGHTIME_INLINE static void carry_on(const Back& b, Index ub, Index r, int first, const V* ds) {
    for (int k = first; k < S; ++k) ds[k].store(b.s.carry + b.share.n.in_tile(k, ub) + r * W);
  }

  // The first stage of a step with late gates.
  static void backward_late(const Back& b, const BackwardStep<T>& at, const BackwardTile<T>& tile) requires (late > 0) {
    const Arriving how(b, at);
    each_block(b, tile, [&](Index r, Index ub, const T* product) __attribute__((always_inline)) {
      V ds[S];
      if (adjoint(b, at, how, ub, r, product, ds)) return;
      late_block(b, at, ub, r, ds);
      carry_on(b, ub, r, 0, ds);
    });
  }

  // The only stage of a step, or the last.
  static void backward(const Back& b, const BackwardStep<T>& at, const BackwardTile<T>& tile) {
    const Arriving how(b, at);
    each_block(b, tile, [&](Index r, Index ub, const T* product) __attribute__((always_inline)) {
      V ds[S], dq[1];
      if constexpr (late > 0) {
        if (b.is_frozen(at, r)) return;
        dq[0] = V::load(product);
        for (int k = 0; k < S; ++k) ds[k] = V::load(b.s.carry + b.share.n.in_tile(k, ub) + r * W);
      } else if (adjoint(b, at, how, ub, r, product, ds)) {
        return;
      }
      one_block(b, at, ub, r, dq, ds);
      carry_on(b, ub, r, how.carried ? 0 : 1, ds);
    });
  }
};

// What makes the derived vectors of a cell's own; null where it has none.
template <class Cell, class T, class Arch>
constexpr auto prepare_of() -> void (*)(const T*, Index, T*) {
  if constexpr (parameters_of<Cell>() > 0) return &CellTiles<Cell, T, Arch>::prepare;
  return nullptr;
}

// The tile of a cell's first stage; null where it has only one.
template <class Cell, class T, class Arch>
constexpr typename ForwardTraversal<T, Arch>::Tile between_tile() {
  if constexpr (late_of<Cell>() > 0) return &CellTiles<Cell, T, Arch>::between;
  return nullptr;
}
template <class Cell, class T, class Arch>
constexpr typename BackwardTraversal<T, Arch>::Tile late_tile() {
  if constexpr (late_of<Cell>() > 0) return &CellTiles<Cell, T, Arch>::backward_late;
  return nullptr;
}

}  // namespace throughtime
