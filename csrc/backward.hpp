// The time loop backward, for every cell: ③ to ⑤ of recurrence.hpp.
#pragma once

#include "forward.hpp"
#include "weight_gradients.hpp"

namespace throughtime {

template <class T, class Arch>
struct BackwardWalk : Geometry<T, Arch> {
  using Base = Geometry<T, Arch>;
  using Code = CellCode<T, Arch>;
  using Scratch = BackwardScratch<T, Arch>;
  using Step = BackwardStep<T, Arch>;
  using Forward = ForwardWalk<T, Arch>;
  using Weight = WeightGradients<T, Arch>;
  using typename Base::V, typename Base::Shape, typename Base::Part, typename Base::Chunk, typename Base::Kept;
  using Base::W, Base::most_vectors, Base::time_of, Base::is_live, Base::lay_out, Base::chunk_at, Base::each_tile, Base::each_panel, Base::input_weights,
      Base::recurrent_weights, Base::pack_states, Base::unpack_states, Base::pack_inputs_of, Base::load_units;

  struct PackedWeights {
    T *R, *W_;  // panels of Rᵀ and Wᵀ
    PackedWeights(const Shape& n, Workspace& w) {
      R = w.take<T>(n.backward_panels() * n.backward_width() * n.gate_units());
      W_ = w.take<T>(n.dx_panels() * n.nv_dx * W * n.gate_units());
    }
    void pack(const BackwardCall<T>& c, const Shape& n) const {
      int rh_gate[max_gates], wx_gate[max_gates];  // the gate whose gradient lives in each slot of a half
      for (int g = 0; g < n.gates; ++g) rh_gate[n.rh_slot[g]] = g, wx_gate[n.wx_slot[g] - (n.slots - n.gates)] = g;
      pack_inputs<T, Arch>(recurrent_weights(c), rh_gate, n.gates, n.H, n.H, n.nv_backward, 0, n.backward_panels(), R);
      if (c.dxs) pack_inputs<T, Arch>(input_weights(c), wx_gate, n.gates, n.H, n.I, n.nv_dx, 0, n.dx_panels(), W_);
    }
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

  // Rᵀ d(rh) of the step after, for one tile.
  THROUGHTIME_INLINE static void recurrent_product(const Shape& n, const Tiles<T>& tiles, const PackedWeights& w, const Scratch& s, const Step& at, Index p,
                                                   Index r, int rows, T* out) {
    const Index K = n.gate_units();
    const auto product = n.B == 1 && at.step % 2 ? tiles.row_backward : tiles.times_panel[rows];
    product(at.after >= 0 ? K : 0, s.d_next + r * W, n.tile_stride(), w.R + p * K * n.backward_width(), nullptr, out);
  }

  // Σ over one block's units of the squares of row r's adjoint. `product` is its Rᵀ d(rh).
  static V squares_of_block(const BackwardCall<T>& c, const Shape& n, const Part& part, const Scratch& s, const Step& at, Index ub, Index r,
                            const T* product, V squares) {
    const bool cut = at.cut(c, part, r);
    for (int k = 0; k < n.states; ++k) {
      V ds = V::load(s.carry + (k * n.UB + ub) * n.tile_stride() + r * W);
      if (k == 0) ds = V::load(product) + ds;
      if (cut) ds = V::zero();
      if (k == 0 && c.dhs) ds += load_units(c.dhs + (at.t * n.B + part.b0 + r) * n.H, n, ub);
      squares = fma(ds, ds, squares);
    }
    return squares;
  }

  // The sum of squares of each row's adjoint, panel by panel, and from all of them the row's scale. The order of the sum
  // does not depend on who did which panel.
  static void find_scales(const BackwardCall<T>& c, const Shape& n, const Part& part, const PackedWeights& w, const Scratch& s, const Step& at,
                          Index touched) {
    const int nv = n.nv_backward;
    const Tiles<T>& tiles = tiles_of<T, Arch>(nv);
    for (Index p = part.first(n.backward_panels()); p < part.last(n.backward_panels()); ++p)
      each_tile(touched, tiles.most, [&](Index r0, int rows) {
        T* product = s.adjoint + (p * n.R + r0) * nv * W;
        recurrent_product(n, tiles, w, s, at, p, r0, rows, product);
        for (int i = 0; i < rows; ++i) {
          V squares = V::zero();
          if (!at.frozen(c, part, r0 + i))
            for (int v = 0; v < nv && p * nv + v < n.UB; ++v)
              squares = squares_of_block(c, n, part, s, at, p * nv + v, r0 + i, product + (i * nv + v) * W, squares);
          s.norms[p * n.R + r0 + i] = squares.sum();
        }
      });
    part.meet();
    for (Index r = 0; r < touched; ++r) {
      T sum = 0;
      for (Index p = 0; p < n.backward_panels(); ++p) sum += s.norms[p * n.R + r];
      const T norm = square_root(sum);
      s.scale[r] = norm > c.clip ? c.clip / norm : 1;
    }
    part.meet();
  }

  THROUGHTIME_INLINE static T square_root(T x) {
    if constexpr (sizeof(T) == 4) return __builtin_sqrtf(x); else return __builtin_sqrt(x);
  }

  // ④ for one step. `touched` rows may have something to pass on.
  static void step(const BackwardCall<T>& c, const Shape& n, const Part& part, const PackedWeights& w, const Scratch& s, Step at, Index touched) {
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_backward);
    const bool clipped = c.clipped && at.step >= 0;
    if (clipped) {
      find_scales(c, n, part, w, s, at, touched);
      at.scale = s.scale;
    }
    alignas(64) T out[most_vectors * W];
    each_panel(part, n.backward_panels(), at.step, [&](Index p) {
      each_tile(touched, tiles.most, [&](Index r, int rows) {
        const T* product = s.adjoint + (p * n.R + r) * n.backward_width();
        if (!clipped) {
          recurrent_product(n, tiles, w, s, at, p, r, rows, out);
          product = out;
        }
        n.cell->backward(c, n, part, s, at, p * n.nv_backward, r, rows, product);
      });
    });
  }

  // dx of the chunk's rows.
  static void input_gradients(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const PackedWeights& w, const Scratch& s) {
    const Index K = n.gate_units();
    const T* d_wx = s.D + (n.slots - n.gates) * n.UB * n.chunk_stride();
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

  // d(wx) of the chunk's rows, for a caller who made wx.
  static void given_input_gradients(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const Scratch& s) {
    for (Index i = part.first(chunk.rows); i < part.last(chunk.rows); ++i)
      for (int g = 0; g < n.gates; ++g)
        unpack_row<T, Arch>(s.D + n.wx_slot[g] * n.UB * n.chunk_stride() + i * W, n.chunk_stride(), n.H, c.dwx + (chunk.row_of[i] * n.gates + g) * n.H);
    zero_rest(c, n, part, chunk, c.dwx, n.gates * n.H);
  }

  // Zeros where no live row wrote: `to` is (T, B, columns).
  static void zero_rest(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, T* to, Index columns) {
    if (part.member != 0 || chunk.rows == chunk.steps * part.R) return;
    for (Index i = 0; i < chunk.steps; ++i) {
      T* rows = to + (time_of(c, chunk.first_step + i) * n.B + part.b0) * columns;
      __builtin_memset(rows + chunk.live(i) * columns, 0, sizeof(T) * static_cast<std::size_t>((part.R - chunk.live(i)) * columns));
    }
  }

  // Scratch: the packed weights, which all share (in lean mode those of the way forward too), then each group's own.
  struct Plan {
    Shape n;
    bool again;          // lean: gates are computed again
    Workspace w;
    PackedWeights weights;
    typename Forward::PackedWeights forward_weights;
    std::size_t shared;

    static typename Forward::PackedWeights forward_weights_of(const Shape& n, Workspace& w, bool again) {
      Workspace none{nullptr};
      return typename Forward::PackedWeights(n, again ? w : none);
    }
    Plan(const Code& code, const BackwardCall<T>& c, Split split, void* block)
        : n(code, c, split), again(n.kept > 0 && c.keep == Keep::lean), w{static_cast<char*>(block)}, weights(n, w),
          forward_weights(forward_weights_of(n, w, again)), shared(w.used) {}

    struct Group {
      Scratch s;
      ForwardScratch<T, Arch> f;
      T* gates;                     // (chunk steps, UB, R, C, W)
      typename Weight::Sums sums;   // unused by the first group
    };
    Group take(const BackwardCall<T>& c, Workspace& g, Split split, int member) const {
      Workspace none{nullptr};
      Scratch s(c, n, g, split, member);
      ForwardScratch<T, Arch> forward(n, again ? g : none);
      T* gates = g.take<T>(again ? n.rows * n.UB * n.kept * W : 0);
      return {s, forward, gates, Weight::scratch(c, n, g, split.groups > 1)};
    }
    Group group(const BackwardCall<T>& c, Split split, int group, int member) {
      Workspace measure{nullptr};
      take(c, measure, split, 0);
      Workspace mine{w.block ? w.block + shared + group * measure.used : nullptr};
      w.used = shared + split.groups * measure.used;
      return take(c, mine, split, member);
    }
  };

  static std::size_t scratch(const Code& code, const BackwardCall<T>& c, Split split) {
    Plan plan(code, c, split, nullptr);
    plan.group(c, split, 0, 0);
    return plan.w.used;
  }

  static void pack(const Code& code, const BackwardCall<T>& c, Split split, void* scratch) {
    const Plan plan(code, c, split, scratch);
    plan.weights.pack(c, plan.n);
    if (plan.again) plan.forward_weights.pack(c, plan.n);
  }

  static void start(const BackwardCall<T>& c, const Shape& n, const Part& part, const Scratch& s) {
    const Index step = n.gates * n.UB * n.tile_stride();
    for (Index i = 0; i < step; i += W) V::zero().store(s.d_next + i), V::zero().store(s.d_now + i);
    pack_states(c.dlast, n, part, s.carry);
    for (int k = 0; k < n.states; ++k)
      if (c.drestart[k]) __builtin_memset(c.drestart[k] + part.b0 * n.H, 0, sizeof(T) * static_cast<std::size_t>(part.R * n.H));
  }

  // ③
  static void gates_again(const BackwardCall<T>& c, const Shape& n, const Part& part, Index j, const Chunk& chunk,
                          const typename Forward::PackedWeights& w, ForwardScratch<T, Arch>& f, const Kept& gates) {
    const T* from[max_states];
    for (int k = 0; k < n.states; ++k) from[k] = c.kept + (j * n.states + k) * n.B * n.H;
    if (part.member == 0) pack_states(from, n, part, f.s_prev);
    Forward::walk_chunk(c, n, part, chunk, w, f, nullptr, gates);
  }

  // Where a walk backward has come to: the step done last, and how many of its rows were live.
  struct Behind { Index after = -1, live = 0; };

  // ④ for one chunk, its steps last to first.
  static void walk_chunk(const BackwardCall<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const PackedWeights& w, Scratch& s,
                         const Kept& gates, Behind& behind) {
    for (Index i = chunk.steps - 1; i >= 0; --i) {
      const Index t = time_of(c, chunk.first_step + i), live = chunk.live(i);
      const Index ahead = i == 0 ? 0 : c.reverse ? n.B : -n.B;
      step(c, n, part, w, s, {chunk.first_step + i, t, behind.after, chunk.base[i], live, ahead, nullptr, gates}, live > behind.live ? live : behind.live);
      s.swap();
      part.meet();
      behind = {t, live};
    }
  }

  static void share(const Code& code, const BackwardCall<T>& c, Split split, void* scratch, int group, int member, Team* team) {
    Plan plan(code, c, split, scratch);
    const Shape& n = plan.n;
    auto [s, f, again, own_sums] = plan.group(c, split, group, member);
    const Part part(n, split, group, member, team);
    const typename Weight::Sums sums = group == 0 ? typename Weight::Sums{c.dW, c.dR, c.db_ih, c.db_hh} : own_sums;
    if (member == 0) start(c, n, part, s);
    part.meet();
    bool nothing_yet = true;
    Behind behind;
    for (Index j = n.chunks() - 1; j >= 0; --j) {
      Chunk chunk = chunk_at(n, j, s.base, s.row_of);
      lay_out(c, part, chunk);
      Kept gates{const_cast<T*>(c.kept), n.B, part.b0, 0};
      if (plan.again) {
        gates = {again, part.R, 0, chunk.first_step};
        gates_again(c, n, part, j, chunk, plan.forward_weights, f, gates);
      }
      pack_inputs_of(c, n, part, chunk, s.x);
      pack_h_prev(c, n, part, chunk, s.h_prev);
      part.meet();
      walk_chunk(c, n, part, chunk, plan.weights, s, gates, behind);
      if (c.dxs) input_gradients(c, n, part, chunk, plan.weights, s);
      if (c.dwx) given_input_gradients(c, n, part, chunk, s);
      if (chunk.rows > 0) {
        Weight::add_rows(n, part, chunk.rows, s.D, s.x, s.h_prev, sums, nothing_yet);
        nothing_yet = false;
      }
      part.meet();
    }
    // Beyond the first step: what is left reaches the initial state, or a restart.
    step(c, n, part, plan.weights, s, {-1, 0, behind.after, 0, 0, 0, nullptr, {}}, behind.live);
    if (nothing_yet) Weight::add_rows(n, part, 0, s.D, s.x, s.h_prev, sums, true);
    part.meet();
    if (member == 0) unpack_states(s.carry, n, part, c.dstate);
  }

  // Adds the other groups' sums to the user's, in the order of the groups.
  static void finish(const Code& code, const BackwardCall<T>& c, Split split, void* scratch) {
    Plan plan(code, c, split, scratch);
    for (int group = 1; group < split.groups; ++group) Weight::add_group(c, plan.n, plan.group(c, split, group, 0).sums);
  }
};

}  // namespace throughtime
