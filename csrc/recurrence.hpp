// The time loop, written once for every cell, element type and architecture: forward, and backward through time.
//
// A pass walks time in chunks of about 256 rows (a row is one sequence at one step), so that its scratch does not grow
// with T. Forward, per chunk:
//
//   ① wx = W x + b_ih for all rows of the chunk, one matrix product; or as the caller has made it
//   ② step by step: rh = R h + b_hh by tiles; the cell, on the tile just computed, writes h both to the user's array
//      and into the blocked layout in which the next step's product reads it
//
// Backward, chunks and steps in the opposite order:
//
//   ③ lean only: ② again, from the states kept at the chunk's start, for the gates
//   ④ step by step: dh = Rᵀ d(rh) + what arrives from above; the cell writes d(wx), d(rh) in the blocked layout in
//      which the next step and both products of ⑤ read them
//   ⑤ dx = Wᵀ d(wx), dW += d(wx) xᵀ, dR += d(rh) h_prevᵀ and the bias sums for all rows of the chunk; where the caller
//      made wx, d(wx) is handed back in place of dx and dW
//
// A sequence that is over (t ≥ its length) is *frozen*: state and adjoint stand still, hs is zero, no gradient. Rows
// of a chunk are compacted: step t has rows only up to the last sequence that is live, so that finished sequences
// cost nothing when lengths are sorted.
#pragma once

#include "kernels.hpp"
#include "pack.hpp"
#include "parallel.hpp"
#include "workspace.hpp"

namespace throughtime {

template <class Cell, class T, class Arch>
  requires CellOf<Cell, Vec<T, Arch>>
struct Recurrence {
  using V = Vec<T, Arch>;
  static constexpr int W = V::width, G = Cell::gates, S = Cell::states, C = Cell::kept, slots = Cell::slots;
  static constexpr int most_vectors = 24;  // of a product's tile: the accumulators of the largest

  // ---- sizes derived from those of the call --------------------------------------------------------------------

  // Unit blocks in a panel: few rows need wide panels (many accumulators), many rows narrow ones (many rows a tile).
  // A panel may stick out beyond the last block, if that wastes no more than an eighth.
  THROUGHTIME_INLINE static int panel_blocks(Index blocks, int gates, bool one_row) {
    const int widest = one_row ? 8 / (gates == 3 ? 4 : gates) : gates == 1 ? 2 : 1;
    for (int nv = widest; nv > 1; nv /= 2) {
      const Index padded = ceil_div(blocks, nv) * nv;
      if ((padded - blocks) * 8 <= blocks) return nv;
    }
    return 1;
  }

  struct Shape {
    Index T_, B, I, H;
    Index UB, IB;         // blocks of units, of inputs
    Index R;              // rows of the largest group
    int nv_forward, nv_backward, nv_dx;
    Index steps;          // in a chunk
    Index rows;           // capacity of a chunk
    bool single;          // one row in all: its weights are not packed

    THROUGHTIME_INLINE Shape(const Layer<T>& c, Split split)
        : T_(c.n.T), B(c.n.B), I(c.n.I), H(c.n.H), UB(ceil_div(H, W)), IB(ceil_div(I, W)), R(ceil_div(B, split.groups)) {
      nv_forward = panel_blocks(UB, G, B == 1);
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
    THROUGHTIME_INLINE Index forward_width() const { return static_cast<Index>(nv_forward) * G * W; }
  };

  // ---- who does what ---------------------------------------------------------------------------------------------

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
    THROUGHTIME_INLINE void meet() const { if (members > 1) team->wait(member); }
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

  // What a step's gates are written to: [step][unit block][row][C][width].
  struct Kept {
    T* p;
    Index rows, first_row, first_step;
    THROUGHTIME_INLINE T* at(Index UB, Index step, Index ub, Index row) const {
      return p + (((step - first_step) * UB + ub) * rows + first_row + row) * C * W;
    }
  };

  // ---- products --------------------------------------------------------------------------------------------------

  // body(first row, rows) for tiles of at most `most` rows over n rows.
  template <class Body>
  THROUGHTIME_INLINE static void each_tile(Index n, int most, Body body) {
    for (Index r = 0; r < n;) {
      const int rows = next_tile(n - r, most);
      body(r, rows);
      r += rows;
    }
  }

  // ---- forward ---------------------------------------------------------------------------------------------------

  THROUGHTIME_INLINE static Weights<T> input_weights(const Layer<T>& c) { return {c.W, c.n.H * c.n.I, c.n.I}; }
  THROUGHTIME_INLINE static Weights<T> recurrent_weights(const Layer<T>& c) { return {c.R, c.n.H * c.n.H, c.n.H}; }

  struct ForwardWeights {
    T *W_, *R, *b_ih, *b_hh;  // panels of W and R; biases in their order
    THROUGHTIME_INLINE ForwardWeights(const Shape& n, Workspace& w) {
      const Index width = n.forward_panels() * n.forward_width();
      W_ = w.take<T>(width * n.I);
      R = w.take<T>(width * n.H);
      b_ih = w.take<T>(width);
      b_hh = w.take<T>(width);
    }
    void pack(const Layer<T>& c, const Shape& n) const {
      const Index P = n.forward_panels();
      if (!n.single) {
        if (c.W) pack_units<T, Arch>(input_weights(c), G, n.H, n.I, n.nv_forward, 0, P, W_);
        pack_units<T, Arch>(recurrent_weights(c), G, n.H, n.H, n.nv_forward, 0, P, R);
      }
      pack_bias<T, Arch>(c.b_ih, G, n.H, n.nv_forward, P, b_ih);
      pack_bias<T, Arch>(c.b_hh, G, n.H, n.nv_forward, P, b_hh);
    }
  };

  // What one group needs to walk a chunk forward. s_prev and s_next change places after every step.
  struct ForwardScratch {
    T *s_prev, *s_next;  // (S, UB, tile rows, W) blocked states
    T* x;                // (IB, chunk rows, W) blocked inputs
    T* wx;               // (panels, chunk rows, NV, G, W)
    THROUGHTIME_INLINE ForwardScratch(const Shape& n, Workspace& w) {
      s_prev = w.take<T>(S * n.UB * n.tile_stride());
      s_next = w.take<T>(S * n.UB * n.tile_stride());
      x = w.take<T>(n.IB * n.chunk_stride());
      wx = w.take<T>(n.forward_panels() * n.rows * n.forward_width());
    }
    THROUGHTIME_INLINE void swap() { T* s = s_prev; s_prev = s_next; s_next = s; }
  };

  static void pack_states(const T* const* state, const Shape& n, const Part& part, T* s) {
    for (int k = 0; k < S; ++k)
      for (Index r = 0; r < part.R; ++r)
        pack_row<T, Arch>(state[k] ? state[k] + (part.b0 + r) * n.H : nullptr, n.H, s + k * n.UB * n.tile_stride() + r * W, n.tile_stride());
  }

  static void unpack_states(const T* s, const Shape& n, const Part& part, T* const* state) {
    for (int k = 0; k < S; ++k)
      if (state[k])
        for (Index r = 0; r < part.R; ++r)
          unpack_row<T, Arch>(s + k * n.UB * n.tile_stride() + r * W, n.tile_stride(), n.H, state[k] + (part.b0 + r) * n.H);
  }

  // One vector of a row of H units.
  THROUGHTIME_INLINE static V load_units(const T* row, const Shape& n, Index ub) {
    const Index left = n.H - ub * W;
    return V::load(row + ub * W, left < W ? static_cast<int>(left) : W);
  }

  static void pack_inputs_of(const Layer<T>& c, const Shape& n, const Part& part, const Chunk& chunk, T* x) {
    if (c.wx) return;
    for (Index i = part.first(chunk.rows); i < part.last(chunk.rows); ++i)
      pack_row<T, Arch>(c.xs + chunk.row_of[i] * n.I, n.I, x + i * W, n.chunk_stride());
  }

  // ① where the caller has made it.
  static void given_input_half(const Layer<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const ForwardScratch& s) {
    const Index width = n.forward_width();
    for (Index p = part.first(n.forward_panels()); p < part.last(n.forward_panels()); ++p)
      for (Index r = 0; r < chunk.rows; ++r)
        for (int v = 0; v < n.nv_forward && p * n.nv_forward + v < n.UB; ++v)
          for (int g = 0; g < G; ++g)
            load_units(c.wx + (chunk.row_of[r] * G + g) * n.H, n, p * n.nv_forward + v).store(s.wx + (p * n.rows + r) * width + (v * G + g) * W);
  }

  // ① of the header.
  static void input_half(const Layer<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const ForwardWeights& w, const ForwardScratch& s) {
    if (c.wx) return given_input_half(c, n, part, chunk, s);
    const Index width = n.forward_width();
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_forward * G);
    for (Index p = part.first(n.forward_panels()); p < part.last(n.forward_panels()); ++p)
      each_tile(chunk.rows, tiles.most, [&](Index r, int rows) {
        if (n.single) return row_times_weights<T, Arch>(input_weights(c), G, n.H, n.I, s.x, n.nv_forward, p, w.b_ih + p * width, s.wx + p * width);
        tiles.times_panel[rows](n.I, s.x + r * W, n.chunk_stride(), w.W_ + p * n.I * width, w.b_ih + p * width,
                                s.wx + (p * n.rows + r) * width);
      });
  }

  static void restart_states(const Layer<T>& c, const Shape& n, const Part& part, Index t, T* s) {
    for (Index r = 0; r < part.R; ++r) {
      const Index b = part.b0 + r;
      if (!c.reset[t * n.B + b] || !is_live(c, t, b)) continue;
      for (int k = 0; k < S; ++k)
        pack_row<T, Arch>(c.restart[k] ? c.restart[k] + b * n.H : nullptr, n.H, s + k * n.UB * n.tile_stride() + r * W, n.tile_stride());
    }
  }

  // The unit blocks of a member's panels.
  THROUGHTIME_INLINE static Index first_block(const Part& part, Index panels, int nv) { return part.first(panels) * nv; }
  THROUGHTIME_INLINE static Index last_block(const Part& part, Index panels, int nv, Index UB) {
    const Index last = part.last(panels) * nv;
    return last < UB ? last : UB;
  }

  // The cell on one tile of `rows` rows and the nv_forward unit blocks of a panel, the first of which is ub.
  //
  //   wx, rh   (rows, NV, G, W) the two halves of the pre-activations
  //   hs       (B, H) of this step from this group's first row, or null
  static void forward_tile(const Layer<T>& c, const Shape& n, const Part& part, Index step, Index t, Index ub, Index r0,
                           int rows, const T* wx, const T* rh, const ForwardScratch& s, T* hs, const Kept& kept) {
    const Index stride = n.tile_stride(), state = n.UB * stride;
    const int nv = n.nv_forward;
    for (int i = 0; i < rows; ++i) {
      const Index r = r0 + i;
      const bool live = is_live(c, t, part.b0 + r);
      for (int v = 0; v < nv && ub + v < n.UB; ++v) {
        const Index at = (ub + v) * stride + r * W;
        V in_wx[G], in_rh[G], s_prev[S], s_next[S], keep[C + 1];
        for (int k = 0; k < S; ++k) s_prev[k] = s_next[k] = V::load(s.s_prev + k * state + at);
        if (live) {
          const int column = (i * nv + v) * G * W;
          for (int g = 0; g < G; ++g) in_wx[g] = V::load(wx + column + g * W), in_rh[g] = V::load(rh + column + g * W);
          Cell::forward(in_wx, in_rh, s_prev, s_next, keep);
          if (C > 0 && kept.p)
            for (int k = 0; k < C; ++k) keep[k].store(kept.at(n.UB, step, ub + v, r) + k * W);
        }
        for (int k = 0; k < S; ++k) s_next[k].store(s.s_next + k * state + at);
        if (hs) {
          const Index u = (ub + v) * W, left = n.H - u;
          (live ? s_next[0] : V::zero()).store(hs + r * n.H + u, left < W ? static_cast<int>(left) : W);
        }
      }
    }
  }

  // Rows beyond the last live one: the state stands still.
  static void freeze_rows(const Shape& n, const Part& part, Index live, const ForwardScratch& s, T* hs) {
    const Index stride = n.tile_stride(), P = n.forward_panels();
    const Index first = first_block(part, P, n.nv_forward), last = last_block(part, P, n.nv_forward, n.UB);
    for (Index r = live; r < part.R; ++r)
      for (Index ub = first; ub < last; ++ub) {
        for (int k = 0; k < S; ++k) V::load(s.s_prev + (k * n.UB + ub) * stride + r * W).store(s.s_next + (k * n.UB + ub) * stride + r * W);
        const Index left = n.H - ub * W;
        if (hs) V::zero().store(hs + r * n.H + ub * W, left < W ? static_cast<int>(left) : W);
      }
  }

  // One chunk forward: ① and ②. hs is the user's (T, B, H), or null when only the gates are wanted.
  static void forward_chunk(const Layer<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const ForwardWeights& w,
                            ForwardScratch& s, T* hs, const Kept& kept) {
    pack_inputs_of(c, n, part, chunk, s.x);
    part.meet();
    input_half(c, n, part, chunk, w, s);
    const Index width = n.forward_width();
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_forward * G);
    alignas(64) T rh[most_vectors * W];
    for (Index i = 0; i < chunk.steps; ++i) {
      const Index step = chunk.first_step + i, t = time_of(c, step), live = chunk.live(i);
      T* h_out = hs ? hs + (t * n.B + part.b0) * n.H : nullptr;
      if (c.reset) {
        if (part.member == 0) restart_states(c, n, part, t, s.s_prev);
        part.meet();
      }
      for (Index p = part.first(n.forward_panels()); p < part.last(n.forward_panels()); ++p)
        each_tile(live, tiles.most, [&](Index r, int rows) {
          if (n.single) row_times_weights<T, Arch>(recurrent_weights(c), G, n.H, n.H, s.s_prev, n.nv_forward, p, w.b_hh + p * width, rh);
          else tiles.times_panel[rows](n.H, s.s_prev + r * W, n.tile_stride(), w.R + p * n.H * width, w.b_hh + p * width, rh);
          forward_tile(c, n, part, step, t, p * n.nv_forward, r, rows, s.wx + (p * n.rows + chunk.base[i] + r) * width, rh, s, h_out, kept);
        });
      if (live < part.R) freeze_rows(n, part, live, s, h_out);
      s.swap();
      part.meet();
    }
  }

  struct ForwardPlan {
    Shape n;
    Workspace w;
    ForwardWeights weights;
    std::size_t shared;  // bytes before the first group's scratch

    THROUGHTIME_INLINE ForwardPlan(const ForwardCall<T>& c, Split split, void* block)
        : n(c, split), w{static_cast<char*>(block)}, weights(n, w), shared(w.used) {}

    struct Group : ForwardScratch {
      Index *base, *row_of;
      THROUGHTIME_INLINE Group(const Shape& n, Workspace& w, int members, int member) : ForwardScratch(n, w) {
        base = w.take<Index>(members * (n.steps + 9)) + member * (n.steps + 9);
        row_of = w.take<Index>(members * (n.rows + 8)) + member * (n.rows + 8);
      }
    };
    THROUGHTIME_INLINE Group group(Split split, int group, int member) {
      Workspace measure{nullptr};
      Group(n, measure, split.members, 0);
      Workspace mine{w.block ? w.block + shared + group * measure.used : nullptr};
      Group g(n, mine, split.members, member);
      w.used = shared + split.groups * measure.used;
      return g;
    }
  };

  static std::size_t forward_scratch(const ForwardCall<T>& c, Split split) {
    ForwardPlan plan(c, split, nullptr);
    plan.group(split, 0, 0);
    return plan.w.used;
  }

  static void forward_pack(const ForwardCall<T>& c, Split split, void* scratch) {
    const ForwardPlan plan(c, split, scratch);
    plan.weights.pack(c, plan.n);
  }

  // The states at a chunk's start, kept as (chunks, S, B, H).
  static void keep_states(const Shape& n, const Part& part, Index j, const T* s, T* kept) {
    T* to[S];
    for (int k = 0; k < S; ++k) to[k] = kept + (j * S + k) * n.B * n.H;
    if (part.member == 0) unpack_states(s, n, part, to);
  }

  static void forward_share(const ForwardCall<T>& c, Split split, void* scratch, int group, int member, Team* team) {
    ForwardPlan plan(c, split, scratch);
    const Shape& n = plan.n;
    auto s = plan.group(split, group, member);
    const Part part(n, split, group, member, team);
    const Kept gates{C > 0 && c.keep == Keep::fast ? c.kept : nullptr, n.B, part.b0, 0};
    const bool keeps_states = C > 0 && c.keep == Keep::lean;
    if (member == 0) pack_states(c.state, n, part, s.s_prev);
    part.meet();
    for (Index j = 0; j < n.chunks(); ++j) {
      Chunk chunk = chunk_at(n, j, s.base, s.row_of);
      lay_out(c, part, chunk);
      if (keeps_states) keep_states(n, part, j, s.s_prev, c.kept);
      forward_chunk(c, n, part, chunk, plan.weights, s, c.hs, gates);
    }
    if (member == 0) unpack_states(s.s_prev, n, part, c.last);
  }

  // ---- backward --------------------------------------------------------------------------------------------------

  struct BackwardWeights {
    T *R, *W_;  // panels of Rᵀ and Wᵀ
    THROUGHTIME_INLINE BackwardWeights(const Shape& n, Workspace& w) {
      const Index K = G * n.UB * W;
      R = w.take<T>(n.backward_panels() * n.nv_backward * W * K);
      W_ = w.take<T>(n.dx_panels() * n.nv_dx * W * K);
    }
    void pack(const BackwardCall<T>& c, const Shape& n) const {
      int rh_gate[G], wx_gate[G];  // the gate whose gradient lives in each slot of a half
      for (int g = 0; g < G; ++g) rh_gate[Cell::rh_slot(g)] = g, wx_gate[Cell::wx_slot(g) - (slots - G)] = g;
      pack_inputs<T, Arch>(recurrent_weights(c), rh_gate, G, n.H, n.H, n.nv_backward, 0, n.backward_panels(), R);
      if (c.dxs) pack_inputs<T, Arch>(input_weights(c), wx_gate, G, n.H, n.I, n.nv_dx, 0, n.dx_panels(), W_);
    }
  };

  struct BackwardScratch {
    T *d_next, *d_now;   // (G, UB, tile rows, W) d(rh) of the step after, and of this one; they change places
    T* carry;            // (S, UB, tile rows, W) the adjoint that reaches the state before other than through rh
    T* D;                // (slots, UB, chunk rows, W) gate gradients
    T* x;                // (IB, chunk rows, W)
    T* h_prev;           // (UB, chunk rows, W)
    T* adjoint;          // (panels, rows, NV, W) Rᵀ d(rh), when a norm must be known first
    T* norms;            // (members, rows) sums of squares of a member's units
    T *dW, *dR, *db_ih, *db_hh;  // this group's sums, when it is not the first; shaped as the user's
    Index *base, *row_of;
    THROUGHTIME_INLINE BackwardScratch(const BackwardCall<T>& c, const Shape& n, Workspace& w, Split split, int member) {
      const int members = split.members;
      d_next = w.take<T>(G * n.UB * n.tile_stride());
      d_now = w.take<T>(G * n.UB * n.tile_stride());
      carry = w.take<T>(S * n.UB * n.tile_stride());
      D = w.take<T>(slots * n.UB * n.chunk_stride());
      x = w.take<T>(n.IB * n.chunk_stride());
      h_prev = w.take<T>(n.UB * n.chunk_stride());
      adjoint = w.take<T>(c.clipped ? n.backward_panels() * n.R * n.nv_backward * W : 0);
      norms = w.take<T>(c.clipped ? members * n.R : 0);
      const bool several = split.groups > 1;
      dW = w.take<T>(several ? G * n.H * n.I : 0);
      dR = w.take<T>(several ? G * n.H * n.H : 0);
      db_ih = w.take<T>(several ? G * n.H : 0);
      db_hh = w.take<T>(several ? G * n.H : 0);
      base = w.take<Index>(members * (n.steps + 9)) + member * (n.steps + 9);
      row_of = w.take<Index>(members * (n.rows + 8)) + member * (n.rows + 8);
    }
    THROUGHTIME_INLINE void swap() { T* d = d_next; d_next = d_now; d_now = d; }
  };

  // Where h_prev of row (t, b) lies; null stands for zeros.
  THROUGHTIME_INLINE static const T* h_before(const BackwardCall<T>& c, Index t, Index b) {
    if (!is_live(c, t, b)) return nullptr;
    if (c.reset && c.reset[t * c.n.B + b]) return c.restart[0] ? c.restart[0] + b * c.n.H : nullptr;
    const Index start = !c.reverse ? 0 : c.lengths ? c.lengths[b] - 1 : c.n.T - 1;
    if (t == start) return c.state[0] + b * c.n.H;
    return c.hs + ((c.reverse ? t + 1 : t - 1) * c.n.B + b) * c.n.H;
  }

  static void pack_h_prev(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, T* h_prev) {
    for (Index i = part.first(chunk.rows); i < part.last(chunk.rows); ++i) {
      const Index t = chunk.row_of[i] / n.B, b = chunk.row_of[i] % n.B;
      pack_row<T, Arch>(h_before(c, t, b), n.H, h_prev + i * W, n.chunk_stride());
    }
  }

  // One step backward, as its tiles see it. `after` is the step that was done before this one; it lies one later in
  // the order of travel. Beyond the first step (t < 0) every row counts as frozen.
  struct Step {
    Index step, t, after;      // after < 0: none
    Index base, live;          // first row in the chunk; rows that may be live
    Index ahead;               // rows from this step to the next one to be done; 0: that one lies in another chunk
    const T* scale;            // (R) of each row's adjoint, or null
    THROUGHTIME_INLINE bool frozen(const Layer<T>& c, const Part& part, Index r) const {
      return r >= live || !is_live(c, t, part.b0 + r);
    }
    // The state after this step was thrown away: what reaches it belongs to the restart.
    THROUGHTIME_INLINE bool cut(const Layer<T>& c, const Part& part, Index r) const {
      const Index b = part.b0 + r;
      return c.reset && after >= 0 && c.reset[after * c.n.B + b] && is_live(c, after, b);
    }
  };

  // The adjoint of the state after the step, from later steps alone, before any cut. `carried`: whether the carry of h
  // may be other than zero.
  THROUGHTIME_INLINE static void adjoint_from_later(const Shape& n, const BackwardScratch& s, const T* product, Index ub, Index r, bool carried, V* ds) {
    ds[0] = V::load(product);
    if (carried) ds[0] += V::load(s.carry + ub * n.tile_stride() + r * W);
    for (int k = 1; k < S; ++k) ds[k] = V::load(s.carry + (k * n.UB + ub) * n.tile_stride() + r * W);
  }

  // Asks for what the next step backward will read of this row and block.
  THROUGHTIME_INLINE static void prefetch_next(const BackwardCall<T>& c, const Shape& n, const Step& at, const Kept& kept, Index ub, Index r, Index row) {
    const Index next = (row + at.ahead) * n.H + ub * W;
    if (c.dhs) __builtin_prefetch(c.dhs + next);
    if constexpr (Cell::needs_h) __builtin_prefetch(c.hs + next);
    for (int k = 0; k < C; ++k) __builtin_prefetch(kept.at(n.UB, at.step - 1, ub, r) + k * W);
  }

  // A row whose adjoint does not pass the step as usual. Returns whether the row is done with.
  static bool unusual_row(const BackwardCall<T>& c, const Shape& n, const Part& part, const BackwardScratch& s, const Step& at,
                          Index ub, Index r, V* ds) {
    const Index b = part.b0 + r, left = n.H - ub * W;
    const int units = left < W ? static_cast<int>(left) : W;
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

  // The cell, backward, on one tile.
  //
  //   product  (rows, NV, W) Rᵀ d(rh) of the step after
  static void backward_tile(const BackwardCall<T>& c, const Shape& n, const Part& part, const BackwardScratch& s,
                            const Step& at, const Kept& kept, Index ub0, Index r0, int rows, const T* product) {
    const Index tile = n.tile_stride(), chunk = n.chunk_stride();
    const bool plain = !c.lengths && !c.reset && at.step >= 0;
    const bool carried = Cell::direct_h || !plain || at.after < 0;  // else it is zero, and stays so
    const int nv = n.nv_backward;
    for (int i = 0; i < rows; ++i) {
      const Index r = r0 + i, row = at.t * n.B + part.b0 + r;
      for (int v = 0; v < nv && ub0 + v < n.UB; ++v) {
        const Index ub = ub0 + v;
        V ds[S], ds_prev[S], gates[C + 1], h_prev[1], h[1], d_wx[G], d_rh[G];
        adjoint_from_later(n, s, product + (i * nv + v) * W, ub, r, carried, ds);
        if (at.ahead) prefetch_next(c, n, at, kept, ub, r, row);
        if (!plain && unusual_row(c, n, part, s, at, ub, r, ds)) continue;
        if (c.dhs) ds[0] += load_units(c.dhs + row * n.H, n, ub);
        if (at.scale)
          for (int k = 0; k < S; ++k) ds[k] = at.scale[r] * ds[k];
        for (int k = 0; k < C; ++k) gates[k] = V::load(kept.at(n.UB, at.step, ub, r) + k * W);
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

  // Rᵀ d(rh) of the step after, for one tile.
  THROUGHTIME_INLINE static void recurrent_product(const Shape& n, const Tiles<T>& tiles, const BackwardWeights& w, const BackwardScratch& s,
                                                   bool any, Index p, Index r, int rows, T* out) {
    const Index K = G * n.UB * W;
    tiles.times_panel[rows](any ? K : 0, s.d_next + r * W, n.tile_stride(), w.R + p * K * n.nv_backward * W, nullptr, out);
  }

  // The sum of squares of this member's units of each row's adjoint, and from all of them the row's scale.
  static void find_scales(const BackwardCall<T>& c, const Shape& n, const Part& part, const BackwardWeights& w, const BackwardScratch& s,
                          const Step& at, Index touched, T* scale) {
    const int nv = n.nv_backward;
    const Tiles<T>& tiles = tiles_of<T, Arch>(nv);
    T* mine = s.norms + part.member * n.R;
    for (Index r = 0; r < touched; ++r) mine[r] = 0;
    for (Index p = part.first(n.backward_panels()); p < part.last(n.backward_panels()); ++p)
      each_tile(touched, tiles.most, [&](Index r0, int rows) {
        T* product = s.adjoint + (p * n.R + r0) * nv * W;
        recurrent_product(n, tiles, w, s, at.after >= 0, p, r0, rows, product);
        for (int i = 0; i < rows; ++i) {
          const Index r = r0 + i;
          if (at.frozen(c, part, r)) continue;
          V squares = V::zero();
          for (int v = 0; v < nv && p * nv + v < n.UB; ++v) {
            V ds[S];
            adjoint_from_later(n, s, product + (i * nv + v) * W, p * nv + v, r, true, ds);
            if (at.cut(c, part, r))
              for (int k = 0; k < S; ++k) ds[k] = V::zero();
            if (c.dhs) ds[0] += load_units(c.dhs + (at.t * n.B + part.b0 + r) * n.H, n, p * nv + v);
            for (int k = 0; k < S; ++k) squares = fma(ds[k], ds[k], squares);
          }
          mine[r] += squares.sum();
        }
      });
    part.meet();
    for (Index r = 0; r < touched; ++r) {
      T sum = 0;
      for (int m = 0; m < part.members; ++m) sum += s.norms[m * n.R + r];
      const T norm = square_root(sum);
      scale[r] = norm > c.clip ? c.clip / norm : 1;
    }
    part.meet();
  }

  THROUGHTIME_INLINE static T square_root(T x) {
    if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x); else return __builtin_sqrt(x);
  }

  // ④ of the header for one step. `touched` rows may have something to pass on.
  static void backward_step(const BackwardCall<T>& c, const Shape& n, const Part& part, const BackwardWeights& w, const BackwardScratch& s,
                            Step at, const Kept& kept, Index touched, T* scale) {
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_backward);
    const bool clipped = c.clipped && at.step >= 0;
    if (clipped) {
      find_scales(c, n, part, w, s, at, touched, scale);
      at.scale = scale;
    }
    alignas(64) T out[most_vectors * W];
    for (Index p = part.first(n.backward_panels()); p < part.last(n.backward_panels()); ++p)
      each_tile(touched, tiles.most, [&](Index r, int rows) {
        const T* product = s.adjoint + (p * n.R + r) * n.nv_backward * W;
        if (!clipped) {
          recurrent_product(n, tiles, w, s, at.after >= 0, p, r, rows, out);
          product = out;
        }
        backward_tile(c, n, part, s, at, kept, p * n.nv_backward, r, rows, product);
      });
  }

  static void input_gradients(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const BackwardWeights& w,
                              const BackwardScratch& s) {
    const Index K = G * n.UB * W;
    const T* d_wx = s.D + (slots - G) * n.UB * n.chunk_stride();
    const Index width = n.nv_dx * W;
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_dx);
    alignas(64) T out[most_vectors * W];
    for (Index p = part.first(n.dx_panels()); p < part.last(n.dx_panels()); ++p)
      each_tile(chunk.rows, tiles.most, [&](Index r, int rows) {
        tiles.times_panel[rows](K, d_wx + r * W, n.chunk_stride(), w.W_ + p * K * width, nullptr, out);
        const Index i = p * width, left = n.I - i, count = left < width ? left : width;
        for (int j = 0; j < rows; ++j) unpack_row<T, Arch>(out + j * width, W, count, c.dxs + chunk.row_of[r + j] * n.I + i);
      });
    zero_rest(c, n, part, chunk, c.dxs, n.I);
  }

  // Zeros where no live row wrote: `to` is (T, B, columns).
  static void zero_rest(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, T* to, Index columns) {
    if (part.member != 0 || chunk.rows == chunk.steps * part.R) return;
    for (Index i = 0; i < chunk.steps; ++i) {
      T* rows = to + (time_of(c, chunk.first_step + i) * n.B + part.b0) * columns;
      __builtin_memset(rows + chunk.live(i) * columns, 0, sizeof(T) * static_cast<std::size_t>((part.R - chunk.live(i)) * columns));
    }
  }

  // d(wx) of the chunk's rows, for a caller who made wx.
  static void given_input_gradients(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const BackwardScratch& s) {
    for (Index i = part.first(chunk.rows); i < part.last(chunk.rows); ++i)
      for (int g = 0; g < G; ++g)
        unpack_row<T, Arch>(s.D + Cell::wx_slot(g) * n.UB * n.chunk_stride() + i * W, n.chunk_stride(), n.H, c.dwx + (chunk.row_of[i] * G + g) * n.H);
    zero_rest(c, n, part, chunk, c.dwx, G * n.H);
  }

  // sums[g][u][n] (+)= Σ_rows D[slot(g)][row][u] · X[row][n], for this member's unit blocks.
  //
  //   X        blocked, of `cols` columns
  //   sums     (G, H, cols)
  template <class Slot>
  static void weight_gradient(const Shape& n, const Part& part, Slot slot, Index rows, const T* D, const T* X, Index cols,
                              T* sums, bool overwrite) {
    constexpr int MR = W < 8 ? W : Arch::registers >= 32 ? 8 : 4;
    constexpr int NV = Arch::registers * 3 / 4 / MR >= 3 ? 3 : 2;
    const Index stride = n.chunk_stride(), blocks = ceil_div(cols, W);
    const Index units = part.first(n.UB) * W, units_end = part.last(n.UB) * W < n.H ? part.last(n.UB) * W : n.H;
    for (Index nb = 0; nb < blocks;) {
      const Index left = blocks - nb;
      const int nv = left == NV + 1 && NV > 2 ? 2 : left < NV ? static_cast<int>(left) : NV;
      for (int g = 0; g < G; ++g)
        for (Index u = units; u < units_end; u += MR) {
          const T* A = D + (slot(g) * n.UB + u / W) * stride + u % W;
          T* to = sums + (g * n.H + u) * cols + nb * W;
          const int m = units_end - u < MR ? static_cast<int>(units_end - u) : MR;
          const T* B = X + nb * stride;
          const Index count = cols - nb * W < nv * W ? cols - nb * W : nv * W;
          if (nv == 1) outer_product<T, Arch, MR, 1>(rows, A, B, stride, to, cols, m, count, overwrite);
          else if (nv == 2) outer_product<T, Arch, MR, 2>(rows, A, B, stride, to, cols, m, count, overwrite);
          else if constexpr (NV >= 3) outer_product<T, Arch, MR, 3>(rows, A, B, stride, to, cols, m, count, overwrite);
        }
      nb += nv;
    }
  }

  // db[g][u] (+)= Σ_rows D[slot(g)][row][u].
  template <class Slot>
  static void bias_gradient(const Shape& n, const Part& part, Slot slot, Index rows, const T* D, T* db, bool overwrite) {
    for (int g = 0; g < G; ++g)
      for (Index ub = part.first(n.UB); ub < part.last(n.UB); ++ub) {
        const T* d = D + (slot(g) * n.UB + ub) * n.chunk_stride();
        V sum[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
        Index r = 0;
        for (; r + 4 <= rows; r += 4)
          for (int k = 0; k < 4; ++k) sum[k] += V::load(d + (r + k) * W);
        for (; r < rows; ++r) sum[0] += V::load(d + r * W);
        V total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        const Index left = n.H - ub * W;
        const int count = left < W ? static_cast<int>(left) : W;
        T* to = db + g * n.H + ub * W;
        if (!overwrite) total += V::load(to, count);
        total.store(to, count);
      }
  }

  // The sums over rows that one group adds to: the user's arrays for the first, scratch for the others.
  struct Sums { T *dW, *dR, *db_ih, *db_hh; };
  THROUGHTIME_INLINE static Sums sums_of(const BackwardCall<T>& c, const BackwardScratch& s, int group) {
    if (group == 0) return {c.dW, c.dR, c.db_ih, c.db_hh};
    return {s.dW, s.dR, c.db_ih ? s.db_ih : nullptr, c.db_hh ? s.db_hh : nullptr};
  }

  // ⑤ of the header, but for dx.
  static void parameter_gradients(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const BackwardScratch& s,
                                  const Sums& sums, bool overwrite) {
    (void)c;
    const auto wx_slot = [](int g) { return Cell::wx_slot(g); };
    const auto rh_slot = [](int g) { return Cell::rh_slot(g); };
    weight_gradient(n, part, wx_slot, chunk.rows, s.D, s.x, n.I, sums.dW, overwrite);
    weight_gradient(n, part, rh_slot, chunk.rows, s.D, s.h_prev, n.H, sums.dR, overwrite);
    if (sums.db_ih) bias_gradient(n, part, wx_slot, chunk.rows, s.D, sums.db_ih, overwrite);
    if (sums.db_hh) bias_gradient(n, part, rh_slot, chunk.rows, s.D, sums.db_hh, overwrite);
  }

  struct BackwardPlan {
    Shape n;
    bool again;          // lean: gates are computed again
    Workspace w;
    BackwardWeights weights;
    ForwardWeights forward_weights;
    std::size_t shared;

    THROUGHTIME_INLINE static ForwardWeights forward_weights_of(const Shape& n, Workspace& w, bool again) {
      Workspace none{nullptr};
      return again ? ForwardWeights(n, w) : ForwardWeights(n, none);
    }
    THROUGHTIME_INLINE BackwardPlan(const BackwardCall<T>& c, Split split, void* block)
        : n(c, split), again(C > 0 && c.keep == Keep::lean), w{static_cast<char*>(block)}, weights(n, w),
          forward_weights(forward_weights_of(n, w, again)), shared(w.used) {}

    struct Group {
      BackwardScratch s;
      ForwardScratch f;
      T* gates;          // (chunk steps, UB, R, C, W)
      T* scale;          // (R) this member's
    };
    THROUGHTIME_INLINE Group take(const BackwardCall<T>& c, Workspace& g, Split split, int member) const {
      Workspace none{nullptr};
      Workspace& f = again ? g : none;
      BackwardScratch s(c, n, g, split, member);
      ForwardScratch forward(n, f);
      T* gates = g.take<T>(again ? n.rows * n.UB * C * W : 0);
      T* scale = g.take<T>(c.clipped ? split.members * (n.R + 16) : 0) + (c.clipped ? member * (n.R + 16) : 0);
      return {s, forward, gates, scale};
    }
    THROUGHTIME_INLINE Group group(const BackwardCall<T>& c, Split split, int group, int member) {
      Workspace measure{nullptr};
      take(c, measure, split, 0);
      Workspace mine{w.block ? w.block + shared + group * measure.used : nullptr};
      w.used = shared + split.groups * measure.used;
      return take(c, mine, split, member);
    }
  };

  static std::size_t backward_scratch(const BackwardCall<T>& c, Split split) {
    BackwardPlan plan(c, split, nullptr);
    plan.group(c, split, 0, 0);
    return plan.w.used;
  }

  static void backward_pack(const BackwardCall<T>& c, Split split, void* scratch) {
    const BackwardPlan plan(c, split, scratch);
    plan.weights.pack(c, plan.n);
    if (plan.again) plan.forward_weights.pack(c, plan.n);
  }

  static void start_backward(const BackwardCall<T>& c, const Shape& n, const Part& part, const BackwardScratch& s) {
    const Index step = G * n.UB * n.tile_stride();
    for (Index i = 0; i < step; i += W) V::zero().store(s.d_next + i), V::zero().store(s.d_now + i);
    pack_states(c.dlast, n, part, s.carry);
    for (int k = 0; k < S; ++k)
      if (c.drestart[k]) __builtin_memset(c.drestart[k] + part.b0 * n.H, 0, sizeof(T) * static_cast<std::size_t>(part.R * n.H));
  }

  // ③ of the header.
  static void gates_again(const BackwardCall<T>& c, const Shape& n, const Part& part, Index j, const Chunk& chunk, const BackwardPlan& plan,
                          ForwardScratch& f, const Kept& gates) {
    const T* from[S];
    for (int k = 0; k < S; ++k) from[k] = c.kept + (j * S + k) * n.B * n.H;
    if (part.member == 0) pack_states(from, n, part, f.s_prev);
    forward_chunk(c, n, part, chunk, plan.forward_weights, f, nullptr, gates);
  }

  static void backward_share(const BackwardCall<T>& c, Split split, void* scratch, int group, int member, Team* team) {
    BackwardPlan plan(c, split, scratch);
    const Shape& n = plan.n;
    auto [s, f, again, scale] = plan.group(c, split, group, member);
    const Part part(n, split, group, member, team);
    const Sums sums = sums_of(c, s, group);
    if (member == 0) start_backward(c, n, part, s);
    part.meet();
    bool nothing_yet = true;
    Index after = -1, live_after = 0;
    for (Index j = n.chunks() - 1; j >= 0; --j) {
      Chunk chunk = chunk_at(n, j, s.base, s.row_of);
      lay_out(c, part, chunk);
      Kept gates{const_cast<T*>(c.kept), n.B, part.b0, 0};
      if (plan.again) {
        gates = {again, part.R, 0, chunk.first_step};
        gates_again(c, n, part, j, chunk, plan, f, gates);
      }
      pack_inputs_of(c, n, part, chunk, s.x);
      pack_h_prev(c, n, part, chunk, s.h_prev);
      part.meet();
      for (Index i = chunk.steps - 1; i >= 0; --i) {
        const Index step = chunk.first_step + i, t = time_of(c, step), live = chunk.live(i);
        const Index touched = live > live_after ? live : live_after;
        backward_step(c, n, part, plan.weights, s, {step, t, after, chunk.base[i], live, i > 0 ? (c.reverse ? n.B : -n.B) : 0, nullptr}, gates, touched, scale);
        s.swap();
        part.meet();
        after = t, live_after = live;
      }
      if (c.dxs) input_gradients(c, n, part, chunk, plan.weights, s);
      if (c.dwx) given_input_gradients(c, n, part, chunk, s);
      if (chunk.rows > 0) {
        parameter_gradients(c, n, part, chunk, s, sums, nothing_yet);
        nothing_yet = false;
      }
      part.meet();
    }
    // Beyond the first step: what is left reaches the initial state, or a restart.
    backward_step(c, n, part, plan.weights, s, {-1, 0, after, 0, 0, 0, nullptr}, {}, live_after, scale);
    if (nothing_yet) parameter_gradients(c, n, part, chunk_of_nothing(), s, sums, true);
    part.meet();
    if (member == 0) unpack_states(s.carry, n, part, c.dstate);
  }

  THROUGHTIME_INLINE static Chunk chunk_of_nothing() { return {0, 0, 0, nullptr, nullptr}; }

  // Adds the other groups' sums to the user's, in the order of the groups.
  static void backward_finish(const BackwardCall<T>& c, Split split, void* scratch) {
    BackwardPlan plan(c, split, scratch);
    const Shape& n = plan.n;
    for (int group = 1; group < split.groups; ++group) {
      const BackwardScratch s = plan.group(c, split, group, 0).s;
      add(s.dW, G * n.H * n.I, c.dW);
      add(s.dR, G * n.H * n.H, c.dR);
      if (c.db_ih) add(s.db_ih, G * n.H, c.db_ih);
      if (c.db_hh) add(s.db_hh, G * n.H, c.db_hh);
    }
  }

  static void add(const T* from, Index count, T* to) {
    Index i = 0;
    for (; i + W <= count; i += W) (V::load(to + i) + V::load(from + i)).store(to + i);
    for (; i < count; ++i) to[i] += from[i];
  }
};

template <class Cell, class T, class Arch>
constexpr Kernel<T> kernel_of = {
    Cell::gates, Cell::states, Cell::kept, Vec<T, Arch>::width,
    &Recurrence<Cell, T, Arch>::forward_scratch, &Recurrence<Cell, T, Arch>::forward_pack, &Recurrence<Cell, T, Arch>::forward_share,
    &Recurrence<Cell, T, Arch>::backward_scratch, &Recurrence<Cell, T, Arch>::backward_pack, &Recurrence<Cell, T, Arch>::backward_share,
    &Recurrence<Cell, T, Arch>::backward_finish};

}  // namespace throughtime
