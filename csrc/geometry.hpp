// How a pass over (T, B) is cut up: sizes, members, chunks of rows, tiles; and what lies where in scratch.
//
// All of it is the same for every cell: a cell's numbers are read from its Form.
#pragma once

#include "cell.hpp"
#include "kernels.hpp"
#include "pack.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace throughtime {

template <class T, class Arch> struct CellCode;  // cell_tiles.hpp

template <class T, class Arch>
struct Geometry {
  using V = Vec<T, Arch>;
  static constexpr int W = V::width;
  static constexpr int most_vectors = 24;  // of a product's tile: the accumulators of the largest

  // Unit blocks in a panel: few rows need wide panels (many accumulators), many rows narrow ones (many rows a tile).
  // A panel may stick out beyond the last block, if that wastes no more than an eighth.
  static int panel_blocks(Index blocks, int gates, bool one_row) {
    const int widest = one_row ? 8 / (gates == 3 ? 4 : gates) : gates == 1 ? 2 : 1;
    for (int nv = widest; nv > 1; nv /= 2) {
      const Index padded = ceil_div(blocks, nv) * nv;
      if ((padded - blocks) * 8 <= blocks) return nv;
    }
    return 1;
  }

  // The sizes of a call, and those that follow from them.
  struct Shape : Form {
    const CellCode<T, Arch>* cell;
    Index T_, B, I, H;
    Index UB, IB;         // blocks of units, of inputs
    Index R;              // rows of the largest group
    int nv_forward, nv_backward, nv_dx;
    Index steps;          // in a chunk
    Index rows;           // capacity of a chunk
    bool single;          // one row in all: its weights are not packed

    Shape(const CellCode<T, Arch>& code, const Layer<T>& c, Split split)
        : Form(code.form), cell(&code), T_(c.n.T), B(c.n.B), I(c.n.I), H(c.n.H), UB(ceil_div(H, W)), IB(ceil_div(I, W)),
          R(ceil_div(B, split.groups)) {
      nv_forward = panel_blocks(UB, this->gates, B == 1);
      nv_backward = panel_blocks(UB, 1, B == 1);
      nv_dx = panel_blocks(IB, 1, false);
      const Index wanted = c.keep == Keep::lean ? lean_interval(B) : R >= 256 ? 1 : 256 / R;
      steps = wanted < T_ ? wanted : T_;
      rows = steps * R;
      single = T_ == 1 && B == 1;
    }
    THROUGHTIME_INLINE Index chunks() const { return ceil_div(T_, steps); }
    THROUGHTIME_INLINE Index forward_panels() const { return ceil_div(UB, nv_forward); }
    THROUGHTIME_INLINE Index backward_panels() const { return ceil_div(UB, nv_backward); }
    THROUGHTIME_INLINE Index dx_panels() const { return ceil_div(IB, nv_dx); }
    THROUGHTIME_INLINE Index tile_stride() const { return block_stride<W>(R); }
    THROUGHTIME_INLINE Index chunk_stride() const { return block_stride<W>(rows); }
    THROUGHTIME_INLINE Index forward_width() const { return static_cast<Index>(nv_forward) * this->gates * W; }
    THROUGHTIME_INLINE Index backward_width() const { return static_cast<Index>(nv_backward) * W; }
    THROUGHTIME_INLINE Index gate_units() const { return this->gates * UB * W; }  // the sum's length on the way back
    THROUGHTIME_INLINE int units_in(Index ub) const {                              // of a block: fewer in the last
      const Index left = H - ub * W;
      return left < W ? static_cast<int>(left) : W;
    }
  };

  // One member's view of the work: sequences b0 … b0 + R − 1, and a share of every range of panels or blocks.
  struct Part {
    Index b0, R;
    int member, members;
    Team* team;

    THROUGHTIME_INLINE Part(const Shape& n, Split split, int group, int member_, Team* team_)
        : b0(group * n.B / split.groups), R((group + 1) * n.B / split.groups - b0),
          member(member_), members(split.members), team(team_) {}
    THROUGHTIME_INLINE Index first(Index total) const { return total * member / members; }
    THROUGHTIME_INLINE Index last(Index total) const { return total * (member + 1) / members; }
    THROUGHTIME_INLINE void meet() const { if (members > 1) throughtime::meet(*team, member); }
  };

  // The rows of one chunk: steps first_step … first_step + steps − 1 in the order of travel.
  struct Chunk {
    Index first_step, steps, rows;
    Index* base;     // (steps + 1) first row of each step
    Index* row_of;   // (rows) t·B + b of each row
    THROUGHTIME_INLINE Index live(Index i) const { return base[i + 1] - base[i]; }
  };

  THROUGHTIME_INLINE static Index time_of(const Layer<T>& c, Index step) { return c.reverse ? c.n.T - 1 - step : step; }
  THROUGHTIME_INLINE static bool is_live(const Layer<T>& c, Index t, Index b) { return !c.lengths || t < c.lengths[b]; }

  static void lay_out(const Layer<T>& c, const Part& part, Chunk& chunk) {
    chunk.rows = 0;
    for (Index i = 0; i < chunk.steps; ++i) {
      const Index t = time_of(c, chunk.first_step + i);
      Index live = part.R;
      while (live > 0 && !is_live(c, t, part.b0 + live - 1)) --live;
      chunk.base[i] = chunk.rows;
      for (Index r = 0; r < live; ++r) chunk.row_of[chunk.rows++] = t * c.n.B + part.b0 + r;
    }
    chunk.base[chunk.steps] = chunk.rows;
  }

  THROUGHTIME_INLINE static Chunk chunk_at(const Shape& n, Index j, Index* base, Index* row_of) {
    const Index first = j * n.steps, left = n.T_ - first;
    return {first, left < n.steps ? left : n.steps, 0, base, row_of};
  }

  // What a step's gates are written to: [step][unit block][row][kept][width].
  struct Kept {
    T* p;
    Index rows, first_row, first_step;
    THROUGHTIME_INLINE T* at(const Shape& n, Index step, Index ub, Index row, int kept) const {
      return p + (((step - first_step) * n.UB + ub) * rows + first_row + row) * kept * W;
    }
  };

  // body(panel) for a member's share of `panels` at one step: first to last and last to first by turns, so that a step
  // begins with the weights that the step before has left in the cache.
  template <class Body>
  THROUGHTIME_INLINE static void each_panel(const Part& part, Index panels, Index step, Body body) {
    const Index first = part.first(panels), last = part.last(panels);
    for (Index i = first; i < last; ++i) body(step % 2 ? first + last - 1 - i : i);
  }

  // body(first row, rows) for tiles of at most `most` rows over n rows.
  template <class Body>
  THROUGHTIME_INLINE static void each_tile(Index n, int most, Body body) {
    for (Index r = 0; r < n;) {
      const int rows = next_tile(n - r, most);
      body(r, rows);
      r += rows;
    }
  }

  THROUGHTIME_INLINE static Weights<T> input_weights(const Layer<T>& c) { return {c.W, c.n.H * c.n.I, c.n.I}; }
  THROUGHTIME_INLINE static Weights<T> recurrent_weights(const Layer<T>& c) { return {c.R, c.n.H * c.n.H, c.n.H}; }

  // States of a part's rows, (R, H) each or null for zeros, into (states, UB, tile rows, W), and back.
  static void pack_states(const T* const* state, const Shape& n, const Part& part, T* s) {
    for (int k = 0; k < n.states; ++k)
      for (Index r = 0; r < part.R; ++r)
        pack_row<T, Arch>(state[k] ? state[k] + (part.b0 + r) * n.H : nullptr, n.H, s + k * n.UB * n.tile_stride() + r * W, n.tile_stride());
  }

  static void unpack_states(const T* s, const Shape& n, const Part& part, T* const* state) {
    for (int k = 0; k < n.states; ++k)
      if (state[k])
        for (Index r = 0; r < part.R; ++r)
          unpack_row<T, Arch>(s + k * n.UB * n.tile_stride() + r * W, n.tile_stride(), n.H, state[k] + (part.b0 + r) * n.H);
  }

  static void pack_inputs_of(const Layer<T>& c, const Shape& n, const Part& part, const Chunk& chunk, T* x) {
    if (c.wx) return;
    for (Index i = part.first(chunk.rows); i < part.last(chunk.rows); ++i)
      pack_row<T, Arch>(c.xs + chunk.row_of[i] * n.I, n.I, x + i * W, n.chunk_stride());
  }

  // One vector of a row of H units.
  THROUGHTIME_INLINE static V load_units(const T* row, const Shape& n, Index ub) { return V::load(row + ub * W, n.units_in(ub)); }
};

}  // namespace throughtime
