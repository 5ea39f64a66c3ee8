// The time loop backward, for every cell: ③ to ⑤ of recurrence.hpp.
#pragma once

#include "forward.hpp"
#include "weight_gradients.hpp"

namespace throughtime {

// Whether anybody wants what reaches the state before the first step.
template <class T>
THROUGHTIME_INLINE bool reaches_start(const BackwardCall<T>& c) {
  bool wanted = false;
  for (int k = 0; k < max_states; ++k) wanted = wanted || c.dstate[k] || c.drestart[k];
  return wanted;
}

// Panels of Rᵀ and Wᵀ. All members share them.
template <class T, class Arch>
struct BackwardWeights {
  T *R, *R_late, *W;      // R_late: of the gates whose R multiplies q
  T* p;                   // (derived, UB, W) of the cell's own vectors
  int rh_gate[max_gates], late_gate[max_gates], wx_gate[max_gates];  // the gate whose gradient lives in each slot of a half

  BackwardWeights(const Shape<T, Arch>& n, Workspace& w) {
    R = w.take<T>(n.backward_panels() * n.backward_width() * n.gate_units(n.early()));
    R_late = w.take<T>(n.backward_panels() * n.backward_width() * n.gate_units(n.late));
    W = w.take<T>(n.dx_panels() * n.dx_width() * n.gate_units(n.gates));
    p = w.take<T>(n.derived * n.UB * n.W);
    for (int g = 0; g < n.gates; ++g) wx_gate[n.wx_slot[g] - (n.slots - n.gates)] = g;
    for (int g = 0; g < n.early(); ++g) rh_gate[n.rh_slot[g]] = g;
    for (int g = 0; g < n.late; ++g) late_gate[n.rh_slot[n.early() + g] - n.early()] = g;
  }
  void pack(const BackwardCall<T>& c, const Shape<T, Arch>& n, int part, int parts) const {
    if (c.parameters && part == 0) c.kernel->prepare(c.parameters, n.H, p);
    if (n.few) return;
    const Span of_R = part_of(n.backward_panels(), part, parts), of_W = part_of(n.dx_panels(), part, parts);
    if (n.early() > 0 && (n.T_ > 1 || reaches_start(c))) pack_inputs<T, Arch>(early_rows(c, c.R, n.H), rh_gate, n.nv_backward, of_R, R);
    if (n.late > 0) pack_inputs<T, Arch>(late_rows(c, c.R, n.H), late_gate, n.nv_backward, of_R, R_late);
    if (c.dxs) pack_inputs<T, Arch>(input_weights(c), wx_gate, n.nv_dx, of_W, W);
  }
};

// What one group needs, but for the sums over rows.
template <class T, class Arch>
struct BackwardScratch {
  T *d_next, *d_now;   // (E, UB, tile rows, W) d(rh) of the step after, and of this one; they change places
  T* carry;            // (S, UB, tile rows, W) the adjoint that reaches the state before other than through rh
  T* D;                // (slots, UB, chunk rows, W) gate gradients
  T* d_own;            // (learned, UB, W) the gradients of the cell's own vectors, summed over the rows of a chunk
  T* x;                // (IB, chunk rows, W)
  T* h_prev;           // (UB, chunk rows, W)
  T* q;                // (UB, chunk rows, W) what the late gates' R multiplied
  T* adjoint;          // (panels, rows, NV, W) Rᵀ d(rh), when a norm must be known first
  T* norms;            // (panels, rows) sums of squares of a panel's units
  T* scale;            // (rows) of each row's adjoint; each member has its own

  BackwardScratch(const BackwardCall<T>& c, const Shape<T, Arch>& n, Workspace& w, int members) {
    const Index clipped = c.clipped ? n.R : 0;
    d_next = w.take<T>(n.in_tile(n.rows, 0));
    d_now = w.take<T>(n.in_tile(n.rows, 0));
    carry = w.take<T>(n.in_tile(n.states, 0));
    D = w.take<T>(n.in_chunk(n.slots, 0));
    d_own = w.take<T>(n.learned * n.UB * n.W);
    x = w.take<T>(n.IB * n.chunk_stride());
    h_prev = w.take<T>(n.reads_h_prev ? n.in_chunk(1, 0) : 0);
    q = w.take<T>(n.late > 0 ? n.in_chunk(1, 0) : 0);
    adjoint = w.take<T>(n.backward_panels() * clipped * n.backward_width());
    norms = w.take<T>(n.backward_panels() * clipped);
    scale = w.take<T>(members * (clipped + 16));
  }
  THROUGHTIME_INLINE void swap() { T* d = d_next; d_next = d_now; d_now = d; }
};

// One step, and one tile of it: `rows` rows from r0 by `blocks` unit blocks from ub, of which some may be beyond the last. Beyond the
// first step (step < 0) every row counts as frozen.
template <class T>
struct BackwardStep {
  Index step, t;
  Index after;         // the time of the step done before, which lies one later in the order of travel; −1: none
  Index base, live;    // first row in the chunk; rows that may be live
  Index ahead;         // rows from this step to the next one to be done; 0: that one lies in another chunk
  const T* scale;      // (R) of each row's adjoint, or null
};

template <class T>
struct BackwardTile {
  Index ub, blocks, r0;
  int rows;
  const T* product;    // (rows, blocks, W) Rᵀ d(rh): of the step after, or dq of the late gates' of this one; null: zeros, where R has no rows
};

// One member on its way back.
template <class T, class Arch>
struct BackwardTraversal {
  using V = Vec<T, Arch>;
  using Tile = void (*)(const BackwardTraversal&, const BackwardStep<T>&, const BackwardTile<T>&);
  static constexpr int W = V::width;
  const BackwardCall<T>& call;
  const Share<T, Arch> share;
  const BackwardWeights<T, Arch>& weights;
  BackwardScratch<T, Arch> s;
  Residuals<T, Arch> residuals;
  const Shape<T, Arch>& n = share.n;
  const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_backward);
  Index after = -1, live_after = 0;  // of the step done last: its time, and how many of its rows were live

  THROUGHTIME_INLINE bool is_frozen(const BackwardStep<T>& at, Index r) const { return r >= at.live || !share.is_live(at.t, r); }

  // The state after this step was thrown away: what reaches it belongs to the restart.
  THROUGHTIME_INLINE bool is_cut(const BackwardStep<T>& at, Index r) const {
    return at.after >= 0 && share.is_reset(at.after, r) && share.is_live(at.after, r);
  }

  void start() const {
    const Index step = n.in_tile(n.rows, 0);
    for (Index i = 0; i < step; i += W) V::zero().store(s.d_next + i), V::zero().store(s.d_now + i);
    for (Index i = 0; i < n.learned * n.UB; ++i) V::zero().store(s.d_own + i * W);
    share.pack_states(call.dlast, s.carry);
    for (int k = 0; k < n.states; ++k)
      if (call.drestart[k]) __builtin_memset(call.drestart[k] + share.b0 * n.H, 0, sizeof(T) * static_cast<std::size_t>(share.R * n.H));
  }

  // Where h before step t of row r lies; null stands for zeros.
  const T* h_before(Index t, Index r) const {
    if (!share.is_live(t, r)) return nullptr;
    const Index b = share.b0 + r;
    if (share.is_reset(t, r)) return call.restart[0] ? call.restart[0] + b * n.H : nullptr;
    const Index start = !call.reverse ? 0 : call.lengths ? call.lengths[b] - 1 : n.T_ - 1;
    if (t == start) return call.state[0] ? call.state[0] + b * n.H : nullptr;
    return call.hs + share.at(call.reverse ? t + 1 : t - 1, r) * n.H;
  }

  void pack_h_prev(const Chunk& chunk) const {
    for (Index i : share.of(chunk.rows)) {
      const Index t = chunk.row_of[i] / n.B, b = chunk.row_of[i] % n.B;
      pack_row<T, Arch>(h_before(t, b - share.b0), n.H, s.h_prev + i * W, n.chunk_stride());
    }
  }

  // A product of the way back: gate gradients of a step by their rows of R.
  struct Product {
    const T* d;             // (gates, UB, tile rows, W)
    Weights<T> stored;
    const int* gate_of;     // the gate whose gradient lives in each slot
    const T* packed;
    bool zeros;             // whether there are none
  };

  THROUGHTIME_INLINE Product of_step_after(const BackwardStep<T>& at) const {
    return {s.d_next, early_rows(call, call.R, n.H), weights.rh_gate, weights.R, n.early() == 0 || at.after < 0};
  }
  THROUGHTIME_INLINE Product of_late_gates() const {
    return {s.d_now + n.in_tile(n.early(), 0), late_rows(call, call.R, n.H), weights.late_gate, weights.R_late, false};
  }

  // Rᵀ d(rh), for `rows` rows from r and one panel.
  THROUGHTIME_INLINE void recurrent_product(const BackwardStep<T>& at, const Product& by, Index p, Index r, int rows, T* out) const {
    if (n.few && !by.zeros) {
      for (Index j = 0; j < rows; ++j)
        gradients_times_weights<T, Arch>(by.stored, by.gate_of, n.nv_backward, p * n.backward_width(), {by.d + (r + j) * W, n.tile_stride()},
                                         out + j * n.backward_width());
      return;
    }
    const auto product = n.B == 1 && at.step % 2 ? tiles.row_backward : tiles.times_panel[rows];
    const Index K = n.gate_units(by.stored.gates);
    product(by.zeros ? 0 : K, {by.d + r * W, n.tile_stride()}, by.packed + p * K * n.backward_width(), nullptr, out);
  }

  // The squares of row r's adjoint in one block of units, added to `squares`. `product` is its Rᵀ d(rh).
  V add_squares(const BackwardStep<T>& at, Index ub, Index r, const T* product, V squares) const {
    const bool cut = is_cut(at, r);
    for (int k = 0; k < n.states; ++k) {
      V ds = V::load(s.carry + n.in_tile(k, ub) + r * W);
      if (k == 0) ds = V::load(product) + ds;
      if (cut) ds = V::zero();
      if (k == 0 && call.dhs) ds += share.load_units(call.dhs + share.at(at.t, r) * n.H, ub);
      squares = fma(ds, ds, squares);
    }
    return squares;
  }

  // The adjoints of `touched` rows in one panel, and the sums of their squares.
  void find_norms(const BackwardStep<T>& at, Index p, Index touched) const {
    const int nv = n.nv_backward;
    each_tile(touched, tiles.most, [&](Index r0, int rows) {
      T* product = s.adjoint + (p * n.R + r0) * nv * W;
      recurrent_product(at, of_step_after(at), p, r0, rows, product);
      for (Index r = r0; r < r0 + rows; ++r, product += nv * W) {
        V squares = V::zero();
        if (!is_frozen(at, r))
          for (int v = 0; v < nv && p * nv + v < n.UB; ++v) squares = add_squares(at, p * nv + v, r, product + v * W, squares);
        s.norms[p * n.R + r] = squares.sum();
      }
    });
  }

  // Each row's scale, from the norms of all panels. The order of the sum does not depend on who did which panel.
  void find_scales(const BackwardStep<T>& at, Index touched) const {
    for (Index p : share.of(n.backward_panels())) find_norms(at, p, touched);
    share.meet();
    for (Index r = 0; r < touched; ++r) {
      T sum = 0;
      for (Index p = 0; p < n.backward_panels(); ++p) sum += s.norms[p * n.R + r];
      const T norm = square_root(sum);
      s.scale[r] = norm > call.clip ? call.clip / norm : 1;
    }
    share.meet();
  }

  THROUGHTIME_INLINE static T square_root(T x) {
    if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x); else return __builtin_sqrt(x);
  }

  // ④ for one step. `touched` rows may have something to pass on.
  void step(BackwardStep<T> at, Index touched) const {
    const auto [late, last] = tiles_of_cell(*call.kernel);
    const bool clipped = call.clipped && at.step >= 0;
    if (clipped) {
      find_scales(at, touched);
      at.scale = s.scale;
    }
    stage(at, touched, of_step_after(at), clipped, n.late > 0 ? late : last);
    if (n.late == 0 || at.step < 0) return;
    share.meet();
    stage(at, touched, of_late_gates(), false, last);
  }

  // One of a step's stages: its product, by tiles, and the tile that takes it. With `found` the product has been computed for the norms.
  void stage(const BackwardStep<T>& at, Index touched, const Product& by, bool found, Tile tile) const {
    alignas(64) T out[most_vectors * W];
    if (by.stored.gates == 0) {  // no product: all units of a row, which lie side by side, then the next row's
      const Range panels = share.of(n.backward_panels());
      return tile(*this, at, {panels.first * n.nv_backward, (panels.last - panels.first) * n.nv_backward, 0, static_cast<int>(touched), nullptr});
    }
    each_panel(share.of(n.backward_panels()), at.step, [&](Index p) {
      each_tile(touched, tiles.most, [&](Index r, int rows) {
        const T* product = s.adjoint + (p * n.R + r) * n.backward_width();
        if (!found) {
          recurrent_product(at, by, p, r, rows, out);
          product = out;
        }
        tile(*this, at, {p * n.nv_backward, n.nv_backward, r, rows, product});
      });
    });
  }

  // ④ for one chunk, its steps last to first.
  void walk(const Chunk& chunk) {
    for (Index i = chunk.steps - 1; i >= 0; --i) {
      const Index step_ = chunk.first_step + i, t = share.time_of(step_), live = chunk.live(i);
      const Index ahead = i == 0 ? 0 : call.reverse ? n.B : -n.B;
      step({step_, t, after, chunk.base[i], live, ahead, nullptr}, live > live_after ? live : live_after);
      s.swap();
      share.meet();
      after = t, live_after = live;
    }
  }

  // Beyond the first step: what is left reaches the initial state, or a restart.
  void end() const {
    if (!reaches_start(call)) return;
    step({-1, 0, after, 0, 0, 0, nullptr}, live_after);
    share.meet();
    if (share.member == 0) share.unpack_states(s.carry, call.dstate);
  }

  // dx of the chunk's rows.
  void input_gradients(const Chunk& chunk) const {
    const Index K = n.gate_units(n.gates), width = n.dx_width();
    const T* d_wx = s.D + n.in_chunk(n.slots - n.gates, 0);
    const Tiles<T>& dx_tiles = tiles_of<T, Arch>(n.nv_dx);
    alignas(64) T out[most_vectors * W];
    for (Index p : share.of(n.dx_panels()))
      each_tile(chunk.rows, dx_tiles.most, [&](Index r, int rows) {
        for (Index j = 0; n.few && j < rows; ++j)
          gradients_times_weights<T, Arch>(input_weights(call), weights.wx_gate, n.nv_dx, p * width, {d_wx + (r + j) * W, n.chunk_stride()}, out + j * width);
        if (!n.few) dx_tiles.times_panel[rows](K, {d_wx + r * W, n.chunk_stride()}, weights.W + p * K * width, nullptr, out);
        const Index i = p * width, left = n.I - i, count = left < width ? left : width;
        for (int j = 0; j < rows; ++j) unpack_row<T, Arch>(out + j * width, W, count, call.dxs + chunk.row_of[r + j] * n.I + i);
      });
    zero_rest(chunk, call.dxs, n.I);
  }

  // d(wx) of the chunk's rows, for a caller who made wx.
  void given_input_gradients(const Chunk& chunk) const {
    for (Index i : share.of(chunk.rows))
      for (int g = 0; g < n.gates; ++g)
        unpack_row<T, Arch>(s.D + n.in_chunk(n.wx_slot[g], 0) + i * W, n.chunk_stride(), n.H, call.dwx + (chunk.row_of[i] * n.gates + g) * n.H);
    zero_rest(chunk, call.dwx, n.gates * n.H);
  }

  // Zeros where no live row wrote: `to` is (T, B, columns).
  void zero_rest(const Chunk& chunk, T* to, Index columns) const {
    if (share.member != 0 || chunk.rows == chunk.steps * share.R) return;
    for (Index i = 0; i < chunk.steps; ++i) {
      T* rows = to + share.at(share.time_of(chunk.first_step + i), 0) * columns;
      __builtin_memset(rows + chunk.live(i) * columns, 0, sizeof(T) * static_cast<std::size_t>((share.R - chunk.live(i)) * columns));
    }
  }

  struct CellsTiles { Tile late, last; };                   // late: null without late gates
  static CellsTiles tiles_of_cell(const Kernel<T>&);        // recurrence.hpp
};

// The pass: scratch is the packed weights, which all share (in lean mode those of the way forward too), then each group's
// own.
template <class T, class Arch>
struct BackwardPass {
  using Call = BackwardCall<T>;
  using Weights = BackwardWeights<T, Arch>;
  using Forward = ForwardWeights<T, Arch>;
  const Call& call;
  Split split;
  Shape<T, Arch> n;
  bool again;           // lean: gates are computed again
  Workspace w;
  Weights weights;
  Forward forward_weights;
  std::size_t shared;   // bytes before the first group's

  BackwardPass(const Call& c, Split divided, void* block)
      : call(c), split(divided), n(c, divided), again(n.residuals > 0 && c.keep == Keep::lean), w{static_cast<char*>(block)}, weights(n, w),
        forward_weights(when_again<Forward>(w)), shared(w.used) {}

  // Scratch of a part that lean mode alone has: measured elsewhere, and not to be touched, in the other modes.
  template <class Part>
  Part when_again(Workspace& mine) const {
    Workspace none{nullptr};
    return Part(n, again ? mine : none);
  }

  struct Group {
    BackwardScratch<T, Arch> s;
    RowTable table;
    ForwardScratch<T, Arch> forward;
    T* gates;           // (chunk steps, UB, R, C, W) computed again
    Sums<T> sums;
  };
  Group take(Workspace& w, Place place) const {
    BackwardScratch<T, Arch> s(call, n, w, split.members);
    s.scale += place.member * (n.R + 16);
    RowTable table(n, w, split.members, place.member);
    auto forward = when_again<ForwardScratch<T, Arch>>(w);
    T* gates = w.take<T>(again ? n.chunk_rows * n.UB * n.residuals * Shape<T, Arch>::W : 0);
    return {s, table, forward, gates, place.group == 0 ? Sums<T>::of(call) : Sums<T>::scratch(call, w)};
  }
  std::size_t bytes_of_group() const {
    Workspace measure{nullptr};
    take(measure, {split.groups - 1, 0, nullptr});
    return measure.used;
  }
  Group group(Place place) const {
    Workspace mine{w.block + shared + place.group * bytes_of_group()};
    return take(mine, place);
  }

  static std::size_t scratch(const Call& c, Split split) {
    const BackwardPass pass(c, split, nullptr);
    return pass.shared + split.groups * pass.bytes_of_group();
  }

  static void pack(const Job<Call>& job, int part, int parts) {
    const BackwardPass pass(job.call, job.split, job.scratch);
    pass.weights.pack(job.call, pass.n, part, parts);
    if (pass.again) pass.forward_weights.pack(job.call, pass.n, part, parts);
  }

  // Adds the other groups' sums to the caller's, in the order of the groups.
  static void finish(const Job<Call>& job) {
    const BackwardPass pass(job.call, job.split, job.scratch);
    for (int group = 1; group < job.split.groups; ++group) add_group<T, Arch>(job.call, pass.group({group, 0, nullptr}).sums);
  }
};

// One member's share of the pass.
template <class T, class Arch>
struct BackwardWalk {
  using Call = BackwardCall<T>;
  const Call& call;
  const BackwardPass<T, Arch> pass;
  const typename BackwardPass<T, Arch>::Group mine;
  const Share<T, Arch> share;
  BackwardTraversal<T, Arch> way;
  WeightGradients<T, Arch> gradients;

  BackwardWalk(const Job<Call>& job, Place place)
      : call(job.call), pass(call, job.split, job.scratch), mine(pass.group(place)), share(call, pass.n, job.split, place),
        way{call, share, pass.weights, mine.s, {const_cast<T*>(call.residuals), pass.n.B, share.b0, 0}},
        gradients{share, pass.n, way.s.D, input_half(), early_half(), late_half(), way.s.d_own, mine.sums.dparameters} {}

  Half<T> input_half() const { return {pass.n.wx_slot, pass.n.gates, way.s.x, pass.n.I, mine.sums.dW, mine.sums.db_ih}; }
  Half<T> early_half() const {
    return {pass.n.rh_slot, pass.n.early(), pass.n.from_zeros ? nullptr : way.s.h_prev, pass.n.H, mine.sums.dR, mine.sums.db_hh};
  }
  Half<T> late_half() const {
    const Index first = pass.n.early(), H = pass.n.H;
    if (pass.n.late == 0) return {};
    return {pass.n.rh_slot + first, pass.n.late, way.s.q, H, mine.sums.dR + first * H * H, mine.sums.db_hh ? mine.sums.db_hh + first * H : nullptr};
  }

  Index chunks() const { return pass.n.chunks(); }

  void start() const {
    if (share.member == 0) way.start();
    share.meet();
  }

  void chunk(Index k) {
    const Chunk chunk = share.chunk(chunks() - 1 - k, mine.table);
    if (pass.again) {
      way.residuals = {mine.gates, share.R, 0, chunk.first_step};
      gates_again(chunk);
    }
    share.pack_inputs(chunk, way.s.x);
    if (pass.n.reads_h_prev) way.pack_h_prev(chunk);
    share.meet();
    way.walk(chunk);
    if (call.dxs) way.input_gradients(chunk);
    if (call.dwx) way.given_input_gradients(chunk);
    if (chunk.rows > 0) gradients.add_rows(chunk.rows);
    share.meet();
  }

  void end() {
    way.end();
    if (gradients.nothing_yet) gradients.add_rows(0);
  }

  // ③: the gates of one chunk.
  void gates_again(const Chunk& chunk) const {
    const T* from[max_states];
    const Shape<T, Arch>& n = pass.n;
    for (int k = 0; k < n.states; ++k) from[k] = call.residuals + (chunk.index * n.states + k) * n.B * n.H;
    if (share.member == 0) share.pack_states(from, mine.forward.s_prev);
    ForwardTraversal<T, Arch>{share, pass.forward_weights, mine.forward, nullptr, way.residuals}.walk(chunk);
  }
};

}  // namespace throughtime
