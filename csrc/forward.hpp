// The time loop forward, for every cell: ① and ② of recurrence.hpp.
#pragma once

#include "geometry.hpp"

namespace throughtime {

// Panels of W and R, and the biases in their order. All members share them.
template <class T, class Arch>
struct ForwardWeights {
  T *W, *b_ih;
  T *R, *b_hh;            // of the gates whose R multiplies h
  T *R_late, *b_late;     // of the late ones
  T* p;                   // (derived, UB, W) of the cell's own vectors

  ForwardWeights(const Shape<T, Arch>& n, Workspace& w) {
    const auto width = [&](int gates) { return n.forward_panels() * n.forward_width(gates); };
    W = w.take<T>(width(n.gates) * n.I);
    R = w.take<T>(width(n.early()) * n.H);
    R_late = w.take<T>(width(n.late) * n.H);
    b_ih = w.take<T>(width(n.gates));
    b_hh = w.take<T>(width(n.early()));
    b_late = w.take<T>(width(n.late));
    p = w.take<T>(n.derived * n.UB * n.W);
  }
  void pack(const Layer<T>& c, const Shape<T, Arch>& n, int part, int parts) const {
    const Span panels = part_of(n.forward_panels(), part, parts);
    if (c.W && !n.few) pack_units<T, Arch>(input_weights(c), n.nv_forward, panels, W);
    if (!n.few && !n.from_zeros && n.early() > 0) pack_units<T, Arch>(early_rows(c, c.R, n.H), n.nv_forward, panels, R);
    if (!n.few && n.late > 0) pack_units<T, Arch>(late_rows(c, c.R, n.H), n.nv_forward, panels, R_late);
    if (part > 0) return;
    if (c.parameters) c.kernel->prepare(c.parameters, n.H, p);
    pack_bias<T, Arch>(bias(c), n.nv_forward, b_ih);
    pack_bias<T, Arch>(early_rows(c, c.b_hh, 1), n.nv_forward, b_hh);
    pack_bias<T, Arch>(late_rows(c, c.b_hh, 1), n.nv_forward, b_late);
  }
};

// What one group needs. s_prev and s_next change places after every step.
template <class T, class Arch>
struct ForwardScratch {
  T *s_prev, *s_next;  // (S, UB, tile rows, W) blocked states; without R the same, for nobody reads another unit's
  T* x;                // (IB, chunk rows, W) blocked inputs
  T* wx;               // (panels, chunk rows, NV, G, W)
  T* q;                // (UB, tile rows, W) what the late gates' R multiplies; as all below, of a cell with late gates alone
  T* passed;           // (passed, UB, tile rows, W) from the first stage of a step to the second

  ForwardScratch(const Shape<T, Arch>& n, Workspace& w) {
    s_prev = w.take<T>(n.in_tile(n.states, 0));
    s_next = n.rows > 0 ? w.take<T>(n.in_tile(n.states, 0)) : s_prev;
    x = w.take<T>(n.IB * n.chunk_stride());
    wx = w.take<T>(n.forward_panels() * n.chunk_rows * n.forward_width(n.gates));
    q = w.take<T>(n.late > 0 ? n.in_tile(1, 0) : 0);
    passed = w.take<T>(n.in_tile(n.passed, 0));
  }
  THROUGHTIME_INLINE void swap() { T* s = s_prev; s_prev = s_next; s_next = s; }
};

// One step, and one tile of it: `rows` rows from r0 by the unit blocks from ub, with the halves of their pre-activations, wx
// (rows, NV, G, W) and rh (rows, NV, gates of the stage, W).
template <class T>
struct ForwardStep {
  Index step, t;
  T* hs;               // (R, H) of this step from this group's first row, or null
};

template <class T>
struct ForwardTile {
  Index ub, r0;
  int rows;
  const T *wx, *rh;
};

// One member on its way forward.
template <class T, class Arch>
struct ForwardTraversal {
  using V = Vec<T, Arch>;
  using Tile = void (*)(const ForwardTraversal&, const ForwardStep<T>&, const ForwardTile<T>&);
  static constexpr int W = V::width;
  const Share<T, Arch> share;     // by value, as in backward.hpp: a tile reads it after every store
  const ForwardWeights<T, Arch>& weights;
  ForwardScratch<T, Arch> s;
  T* hs;                          // the caller's (T, B, H), or null when only the gates are wanted
  Residuals<T, Arch> residuals;
  const Shape<T, Arch>& n = share.n;

  // ① where the caller has made it.
  void copy_input_half(const Chunk& chunk, Index p, T* to) const {
    const Index blocks = p * n.nv_forward, width = n.forward_width(n.gates);
    for (Index r = 0; r < chunk.rows; ++r, to += width)
      for (int v = 0; v < n.nv_forward && blocks + v < n.UB; ++v)
        for (int g = 0; g < n.gates; ++g)
          share.load_units(share.call.wx + (chunk.row_of[r] * n.gates + g) * n.H, blocks + v).store(to + (v * n.gates + g) * W);
  }

  // w · x + b for a panel of few rows, whose weights are not packed.
  void few_rows(const Weights<T>& w, Index p, Blocked<const T> x, int rows, const T* b, T* out) const {
    const Index width = n.forward_width(w.gates);
    for (int r = 0; r < rows; ++r, x.p += W, out += width) {
      __builtin_memcpy(out, b + p * width, sizeof(T) * static_cast<std::size_t>(width));
      row_times_weights<T, Arch>(w, p * n.nv_forward * W, n.nv_forward, x, out);
    }
  }

  // Where the input half of the p-th panel of a chunk lies.
  THROUGHTIME_INLINE T* wx_of(Index p) const { return s.wx + p * n.chunk_rows * n.forward_width(n.gates); }

  // ① for one panel.
  void input_half(const Chunk& chunk, Index p, T* to) const {
    const Index width = n.forward_width(n.gates);
    if (share.call.wx) return copy_input_half(chunk, p, to);
    if (n.few) return few_rows(input_weights(share.call), p, {s.x, n.chunk_stride()}, static_cast<int>(chunk.rows), weights.b_ih, to);
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_forward * n.gates);
    each_tile(chunk.rows, tiles.most, [&](Index r, int rows) {
      tiles.times_panel[rows](n.I, {s.x + r * W, n.chunk_stride()}, weights.W + p * n.I * width, weights.b_ih + p * width,
                              to + r * width);
    });
  }

  void restart_states(Index t) const {
    for (Index r = 0; r < share.R; ++r)
      if (share.is_reset(t, r) && share.is_live(t, r)) share.pack_state(share.call.restart, r, s.s_prev);
  }

  // Rows beyond the last live one: the state stands still.
  void freeze_rows(Range panels, Index live, T* h_out) const {
    const Index end = panels.last * n.nv_forward < n.UB ? panels.last * n.nv_forward : n.UB;
    for (Index r = live; r < share.R; ++r)
      for (Index ub : Range{panels.first * n.nv_forward, end}) {
        for (int k = 0; k < n.states; ++k) V::load(s.s_prev + n.in_tile(k, ub) + r * W).store(s.s_next + n.in_tile(k, ub) + r * W);
        if (h_out) V::zero().store(h_out + r * n.H + ub * W, n.units_in(ub));
      }
  }

  // One of a step's stages: what R multiplies there, by which of its rows, and the tile that takes the product.
  struct Stage {
    const T* rows;          // (UB, tile rows, W) blocked
    Weights<T> stored;
    const T *packed, *bias;
    bool zeros;             // whether the rows are zeros
    Tile tile;
  };

  // Tiles of one stage, of a step's first `live` rows; wx is its first row in the chunk's.
  void stage(const ForwardStep<T>& at, Index live, const T* wx, const Stage& by) const {
    const int gates = by.stored.gates;
    const Index input_width = n.forward_width(n.gates), width = n.forward_width(gates);
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_forward * gates);
    const auto one_row = n.B == 1 && at.step % 2 ? tiles.row_backward : tiles.times_panel[1];
    const Index K = by.zeros ? 0 : n.H;
    alignas(64) T rh[most_vectors * W];
    each_panel(share.of(n.forward_panels()), at.step, [&](Index p) {
      const T* const of_panel = wx + p * n.chunk_rows * input_width;
      if (gates == 0) return by.tile(*this, at, {p * n.nv_forward, 0, static_cast<int>(live), of_panel, nullptr});
      each_tile(live, tiles.most, [&](Index r, int rows) {
        if (n.few && !by.zeros) few_rows(by.stored, p, {by.rows + r * W, n.tile_stride()}, rows, by.bias, rh);
        else (rows == 1 ? one_row : tiles.times_panel[rows])(K, {by.rows + r * W, n.tile_stride()}, by.packed + p * n.H * width, by.bias + p * width, rh);
        by.tile(*this, at, {p * n.nv_forward, r, rows, of_panel + r * input_width, rh});
      });
    });
  }

  // ② for one step, whose first `live` rows may be live.
  void step(const ForwardStep<T>& at, Index live, const T* wx) const {
    const Layer<T>& c = share.call;
    const auto [between, last] = tiles_of_cell(*c.kernel);
    const Stage of_h = {s.s_prev, early_rows(c, c.R, n.H), weights.R, weights.b_hh, n.from_zeros, n.late > 0 ? between : last};
    stage(at, live, wx, of_h);
    if (n.late > 0) {
      share.meet();
      stage(at, live, wx, {s.q, late_rows(c, c.R, n.H), weights.R_late, weights.b_late, false, last});
    }
    if (live < share.R) freeze_rows(share.of(n.forward_panels()), live, at.hs);
  }

  THROUGHTIME_INLINE ForwardStep<T> step_of(const Chunk& chunk, Index i) const {
    const Index step_ = chunk.first_step + i, t = share.time_of(step_);
    return {step_, t, hs ? hs + share.at(t, 0) * n.H : nullptr};
  }

  // One chunk: ① and ②.
  void walk(const Chunk& chunk) {
    share.pack_inputs(chunk, s.x);
    share.meet();
    if (n.rows == 0 && !share.call.reset) return scan(chunk);
    for (Index p : share.of(n.forward_panels())) input_half(chunk, p, wx_of(p));
    for (Index i = 0; i < chunk.steps; ++i) {
      const ForwardStep<T> at = step_of(chunk, i);
      if (share.call.reset) {
        if (share.member == 0) restart_states(at.t);
        share.meet();
      }
      step(at, chunk.live(i), wx_of(0) + chunk.base[i] * n.forward_width(n.gates));
      s.swap();
      share.meet();
    }
  }

  // One chunk of a cell without R: all of it for one panel of units, whose states and input half stay in the first cache, then for the next.
  void scan(const Chunk& chunk) const {
    const Tile tile = tiles_of_cell(*share.call.kernel).last;
    const Range mine = share.of(n.forward_panels());
    T* const wx = wx_of(mine.first);
    for (Index p : mine) {
      input_half(chunk, p, wx);
      for (Index i = 0; i < chunk.steps; ++i) {
        const ForwardStep<T> at = step_of(chunk, i);
        const Index live = chunk.live(i);
        tile(*this, at, {p * n.nv_forward, 0, static_cast<int>(live), wx + chunk.base[i] * n.forward_width(n.gates), nullptr});
        if (live < share.R) freeze_rows({p, p + 1}, live, at.hs);
      }
    }
    share.meet();
  }

  struct CellsTiles { Tile between, last; };                // between: null without late gates
  static CellsTiles tiles_of_cell(const Kernel<T>&);        // recurrence.hpp
};

// The pass: scratch is the packed weights, which all share, then each group's own.
template <class T, class Arch>
struct ForwardPass {
  using Call = ForwardCall<T>;
  Shape<T, Arch> n;
  Workspace w;
  ForwardWeights<T, Arch> weights;
  std::size_t shared;  // bytes before the first group's

  ForwardPass(const Call& c, Split split, void* block) : n(c, split), w{static_cast<char*>(block)}, weights(n, w), shared(w.used) {}

  struct Group {
    ForwardScratch<T, Arch> s;
    RowTable table;
  };
  static Group take(const Shape<T, Arch>& n, Workspace& w, int members, int member) {
    ForwardScratch<T, Arch> s(n, w);
    return {s, RowTable(n, w, members, member)};
  }
  std::size_t bytes_of_group(Split split) const {
    Workspace measure{nullptr};
    take(n, measure, split.members, 0);
    return measure.used;
  }
  Group group(Split split, Place place) const {
    Workspace mine{w.block + shared + place.group * bytes_of_group(split)};
    return take(n, mine, split.members, place.member);
  }

  static std::size_t scratch(const Call& c, Split split) {
    const ForwardPass pass(c, split, nullptr);
    return pass.shared + split.groups * pass.bytes_of_group(split);
  }

  static void pack(const Job<Call>& job, int part, int parts) {
    const ForwardPass pass(job.call, job.split, job.scratch);
    pass.weights.pack(job.call, pass.n, part, parts);
  }

  static void finish(const Job<Call>&) {}
};

// One member's share of the pass.
template <class T, class Arch>
struct ForwardWalk {
  using Call = ForwardCall<T>;
  const Call& call;
  const ForwardPass<T, Arch> pass;
  const typename ForwardPass<T, Arch>::Group mine;
  const Share<T, Arch> share;
  const bool leaves;  // states at the chunks' starts
  ForwardTraversal<T, Arch> way;

  ForwardWalk(const Job<Call>& job, Place place)
      : call(job.call), pass(call, job.split, job.scratch), mine(pass.group(job.split, place)), share(call, pass.n, job.split, place),
        leaves(pass.n.residuals > 0 && share.member == 0 && call.keep == Keep::lean),
        way{share, pass.weights, mine.s, call.hs, {pass.n.residuals > 0 && call.keep == Keep::fast ? call.residuals : nullptr, pass.n.B, share.b0, 0}} {}

  Index chunks() const { return pass.n.chunks(); }

  void start() const {
    if (share.member == 0) share.pack_states(call.state, mine.s.s_prev);
    share.meet();
  }

  void chunk(Index j) {
    const Chunk chunk = share.chunk(j, mine.table);
    if (leaves) keep_states(chunk);
    way.walk(chunk);
  }

  void end() const {
    if (share.member == 0) share.unpack_states(way.s.s_prev, call.last);
  }

  // The states at a chunk's start, kept as (chunks, S, B, H).
  void keep_states(const Chunk& chunk) const {
    T* to[max_states];
    for (int k = 0; k < share.n.states; ++k) to[k] = call.residuals + (chunk.index * share.n.states + k) * share.n.B * share.n.H;
    share.unpack_states(way.s.s_prev, to);
  }
};

}  // namespace throughtime
