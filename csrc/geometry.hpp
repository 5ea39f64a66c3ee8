// How a pass over (T, B) is cut up: sizes, members, chunks of rows, tiles; and what lies where in scratch.
//
// All of it is the same for every cell: a cell's numbers are read from its Form.
#pragma once

#include <new>

#include "cell.hpp"
#include "pack.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace throughtime {

constexpr Index most_few = 3;     // rows that are multiplied by weights as they are stored
constexpr int most_vectors = 24;  // of a product's tile: the accumulators of the largest

// The sizes of a call, and those that follow from them.
template <class T, class Arch>
struct Shape : Form {
  static constexpr int W = Vec<T, Arch>::width;
  Index T_, B, I, H;
  Index UB, IB;         // blocks of units, of inputs
  Index R;              // rows of the largest group
  int nv_forward, nv_backward, nv_dx;
  Index steps;          // in a chunk
  Index chunk_rows;     // capacity of a chunk
  bool few;             // rows in all: it would cost more to pack their weights than to use them
  bool from_zeros;      // a single step from no state: R multiplies nothing but zeros

  Shape(const Layer<T>& c, Split split)
      : Form(*c.kernel), T_(c.n.T), B(c.n.B), I(c.n.I), H(c.n.H), UB(ceil_div(H, W)), IB(ceil_div(I, W)), R(ceil_div(B, split.groups)) {
    nv_forward = panel_blocks(UB, gates > early() ? gates : early() > late ? early() : late, B == 1);
    nv_backward = panel_blocks(UB, 1, B == 1);
    few = T_ * B <= most_few && !c.packed;
    nv_dx = panel_blocks(IB, 1, few);
    steps = c.keep == Keep::lean ? lean_interval(B) : c.stacked ? stacked_interval(T_, B) : R >= 256 ? 1 : 256 / R;
    if (steps > T_) steps = T_;
    chunk_rows = steps * R;
    from_zeros = T_ == 1 && !c.state[0] && !c.reset;
  }

  THROUGHTIME_INLINE Index chunks() const { return ceil_div(T_, steps); }
  THROUGHTIME_INLINE Index forward_panels() const { return ceil_div(UB, nv_forward); }
  THROUGHTIME_INLINE Index backward_panels() const { return ceil_div(UB, nv_backward); }
  THROUGHTIME_INLINE Index dx_panels() const { return ceil_div(IB, nv_dx); }
  THROUGHTIME_INLINE Index tile_stride() const { return block_stride<W>(R); }
  THROUGHTIME_INLINE Index chunk_stride() const { return block_stride<W>(chunk_rows); }
  THROUGHTIME_INLINE Index forward_width(int of_gates) const { return static_cast<Index>(nv_forward) * of_gates * W; }
  THROUGHTIME_INLINE Index backward_width() const { return static_cast<Index>(nv_backward) * W; }
  THROUGHTIME_INLINE Index dx_width() const { return static_cast<Index>(nv_dx) * W; }
  THROUGHTIME_INLINE Index gate_units(int of_gates) const { return of_gates * UB * W; }  // the sum's length on the way back
  THROUGHTIME_INLINE int units_in(Index ub) const {  // of a block: fewer in the last
    const Index left = H - ub * W;
    return left < W ? static_cast<int>(left) : W;
  }
  // Where block `ub` of part k lies in (parts, UB, tile rows, W), and in (parts, UB, chunk rows, W).
  THROUGHTIME_INLINE Index in_tile(Index k, Index ub) const { return (k * UB + ub) * tile_stride(); }
  THROUGHTIME_INLINE Index in_chunk(Index k, Index ub) const { return (k * UB + ub) * chunk_stride(); }

 private:
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
};

// A pass as the table has it: Walk is one member's share, made from a job and a place, with start(), chunk(k) and end().
template <class Walk, class Call>
void share_of(const Job<Call>& job, Place place) {
  Walk walk(job, place);
  walk.start();
  for (Index k = 0; k < walk.chunks(); ++k) walk.chunk(k);
  walk.end();
}

template <class Walk, class Call>
Index begin_walk(const Job<Call>& job, void* at) {
  Walk& walk = *new (at) Walk(job, {0, 0, nullptr});
  walk.start();
  return walk.chunks();
}

template <class Walk> void next_chunk(void* walk, Index k) { static_cast<Walk*>(walk)->chunk(k); }
template <class Walk> void end_walk(void* walk) { static_cast<Walk*>(walk)->end(); }

template <class Pass, class Walk>
constexpr Phases<typename Pass::Call> phases_of = {
    &Pass::scratch, &Pass::pack, &share_of<Walk>, &Pass::finish, sizeof(Walk), &begin_walk<Walk>, &next_chunk<Walk>, &end_walk<Walk>};

// first … last − 1, for a loop to run over.
struct Range {
  struct At {
    Index i;
    THROUGHTIME_INLINE Index operator*() const { return i; }
    THROUGHTIME_INLINE At& operator++() { ++i; return *this; }
    THROUGHTIME_INLINE bool operator!=(At other) const { return i < other.i; }
  };
  Index first, last;
  THROUGHTIME_INLINE At begin() const { return {first}; }
  THROUGHTIME_INLINE At end() const { return {last}; }
};

// For each row of a chunk, its place in time and batch. A table for each member.
struct RowTable {
  Index* base;     // (steps + 1) first row of each step
  Index* row_of;   // (rows) t·B + b of each row
  template <class Shape>
  THROUGHTIME_INLINE RowTable(const Shape& n, Workspace& w, int members, int member) {
    base = w.take<Index>(members * (n.steps + 9)) + member * (n.steps + 9);
    row_of = w.take<Index>(members * (n.chunk_rows + 8)) + member * (n.chunk_rows + 8);
  }
};

// The rows of one chunk: steps first_step … first_step + steps − 1 in the order of travel.
struct Chunk : RowTable {
  Index index, first_step, steps, rows;
  THROUGHTIME_INLINE Index live(Index i) const { return base[i + 1] - base[i]; }
};

// One member's share of a call: sequences b0 … b0 + R − 1, and a part of every range of panels or blocks. A row is one
// of these sequences.
template <class T, class Arch>
struct Share {
  using V = Vec<T, Arch>;
  static constexpr int W = V::width;
  const Layer<T>& call;
  const Shape<T, Arch> n;
  Index b0, R;
  int member, members;
  Team* team;

  Share(const Layer<T>& c, const Shape<T, Arch>& shape, Split split, Place place)
      : call(c), n(shape), b0(place.group * n.B / split.groups), R((place.group + 1) * n.B / split.groups - b0),
        member(place.member), members(split.members), team(place.team) {}

  THROUGHTIME_INLINE Range of(Index total) const { return {total * member / members, total * (member + 1) / members}; }
  THROUGHTIME_INLINE void meet() const { if (members > 1) throughtime::meet(*team, member); }

  THROUGHTIME_INLINE Index time_of(Index step) const { return call.reverse ? n.T_ - 1 - step : step; }
  THROUGHTIME_INLINE Index at(Index t, Index r) const { return t * n.B + b0 + r; }  // of a row at a step, in (T, B)
  THROUGHTIME_INLINE bool is_live(Index t, Index r) const { return !call.lengths || t < call.lengths[b0 + r]; }
  THROUGHTIME_INLINE bool is_reset(Index t, Index r) const { return call.reset && call.reset[at(t, r)]; }

  // One vector of a row of H units.
  THROUGHTIME_INLINE V load_units(const T* row, Index ub) const { return V::load(row + ub * W, n.units_in(ub)); }

  Chunk chunk(Index j, const RowTable& table) const {
    const Index first = j * n.steps, left = n.T_ - first;
    Chunk c{table, j, first, left < n.steps ? left : n.steps, 0};
    for (Index i = 0; i < c.steps; ++i) {
      const Index t = time_of(first + i);
      Index live = R;
      while (live > 0 && !is_live(t, live - 1)) --live;
      c.base[i] = c.rows;
      for (Index r = 0; r < live; ++r) c.row_of[c.rows++] = at(t, r);
    }
    c.base[c.steps] = c.rows;
    return c;
  }

  // Row r of states (B, H) each, or null for zeros, into (states, UB, tile rows, W).
  void pack_state(const T* const* state, Index r, T* s) const {
    for (int k = 0; k < n.states; ++k)
      pack_row<T, Arch>(state[k] ? state[k] + (b0 + r) * n.H : nullptr, n.H, s + n.in_tile(k, 0) + r * W, n.tile_stride());
  }
  void pack_states(const T* const* state, T* s) const {
    for (Index r = 0; r < R; ++r) pack_state(state, r, s);
  }
  void unpack_states(const T* s, T* const* state) const {
    for (int k = 0; k < n.states; ++k)
      for (Index r = 0; state[k] && r < R; ++r)
        unpack_row<T, Arch>(s + n.in_tile(k, 0) + r * W, n.tile_stride(), n.H, state[k] + (b0 + r) * n.H);
  }

  void pack_inputs(const Chunk& chunk, T* x) const {
    if (call.wx) return;
    for (Index i : of(chunk.rows)) pack_row<T, Arch>(call.xs + chunk.row_of[i] * n.I, n.I, x + i * W, n.chunk_stride());
  }
};

// What a step's gates are written to: [step][unit block][row][residuals][width].
template <class T, class Arch>
struct Residuals {
  T* p;                         // null: none are wanted
  Index rows, first_row, first_step;
  THROUGHTIME_INLINE T* at(const Shape<T, Arch>& n, Index step, Index ub, Index row) const {
    return p + (((step - first_step) * n.UB + ub) * rows + first_row + row) * n.residuals * Shape<T, Arch>::W;
  }
};

// body(panel) for the panels of one step: first to last and last to first by turns, so that a step begins with the weights
// that the step before has left in the cache.
template <class Body>
THROUGHTIME_INLINE void each_panel(Range panels, Index step, Body body) {
  for (Index i : panels) body(step % 2 ? panels.first + panels.last - 1 - i : i);
}

// body(first row, rows) for tiles of at most `most` rows over n rows.
template <class Body>
THROUGHTIME_INLINE void each_tile(Index n, int most, Body body) {
  for (Index r = 0; r < n;) {
    const int rows = next_tile(n - r, most);
    body(r, rows);
    r += rows;
  }
}

template <class T> THROUGHTIME_INLINE Weights<T> input_weights(const Layer<T>& c) { return {c.W, c.kernel->gates, c.n.H, c.n.I}; }
template <class T> THROUGHTIME_INLINE Weights<T> bias(const Layer<T>& c) { return {c.b_ih, c.kernel->gates, c.n.H, 1}; }

// The rows of R, (E, H, columns), that multiply h, and those that multiply q; with one column, their biases. Null stays null.
template <class T>
THROUGHTIME_INLINE Weights<T> early_rows(const Layer<T>& c, const T* rows, Index columns) { return {rows, c.kernel->early(), c.n.H, columns}; }
template <class T>
THROUGHTIME_INLINE Weights<T> late_rows(const Layer<T>& c, const T* rows, Index columns) {
  return {rows ? rows + c.kernel->early() * c.n.H * columns : nullptr, c.kernel->late, c.n.H, columns};
}

}  // namespace throughtime
