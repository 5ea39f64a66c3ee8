// The time loop forward, for every cell: ① and ② of recurrence.hpp.
#pragma once

#include "cell_tiles.hpp"

namespace throughtime {

template <class T, class Arch>
struct ForwardWalk : Geometry<T, Arch> {
  using Base = Geometry<T, Arch>;
  using Code = CellCode<T, Arch>;
  using Scratch = ForwardScratch<T, Arch>;
  using typename Base::V, typename Base::Shape, typename Base::Part, typename Base::Chunk, typename Base::Kept;
  using Base::W, Base::most_vectors, Base::time_of, Base::is_live, Base::lay_out, Base::chunk_at, Base::each_tile, Base::each_panel, Base::input_weights,
      Base::recurrent_weights, Base::pack_states, Base::unpack_states, Base::pack_inputs_of, Base::load_units;

  struct PackedWeights {
    T *W_, *R, *b_ih, *b_hh;  // panels of W and R; biases in their order
    PackedWeights(const Shape& n, Workspace& w) {
      const Index width = n.forward_panels() * n.forward_width();
      W_ = w.take<T>(width * n.I);
      R = w.take<T>(width * n.H);
      b_ih = w.take<T>(width);
      b_hh = w.take<T>(width);
    }
    void pack(const Layer<T>& c, const Shape& n) const {
      const Index P = n.forward_panels();
      if (!n.single) {
        if (c.W) pack_units<T, Arch>(input_weights(c), n.gates, n.H, n.I, n.nv_forward, 0, P, W_);
        pack_units<T, Arch>(recurrent_weights(c), n.gates, n.H, n.H, n.nv_forward, 0, P, R);
      }
      pack_bias<T, Arch>(c.b_ih, n.gates, n.H, n.nv_forward, P, b_ih);
      pack_bias<T, Arch>(c.b_hh, n.gates, n.H, n.nv_forward, P, b_hh);
    }
  };

  // ① where the caller has made it.
  static void given_input_half(const Layer<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const Scratch& s) {
    const Index width = n.forward_width();
    const int G = n.gates;
    for (Index p = part.first(n.forward_panels()); p < part.last(n.forward_panels()); ++p)
      for (Index r = 0; r < chunk.rows; ++r)
        for (int v = 0; v < n.nv_forward && p * n.nv_forward + v < n.UB; ++v)
          for (int g = 0; g < G; ++g)
            load_units(c.wx + (chunk.row_of[r] * G + g) * n.H, n, p * n.nv_forward + v).store(s.wx + (p * n.rows + r) * width + (v * G + g) * W);
  }

  // ①
  static void input_half(const Layer<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const PackedWeights& w, const Scratch& s) {
    if (c.wx) return given_input_half(c, n, part, chunk, s);
    const Index width = n.forward_width();
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_forward * n.gates);
    for (Index p = part.first(n.forward_panels()); p < part.last(n.forward_panels()); ++p)
      each_tile(chunk.rows, tiles.most, [&](Index r, int rows) {
        if (n.single) return row_times_weights<T, Arch>(input_weights(c), n.gates, n.H, n.I, s.x, n.nv_forward, p, w.b_ih + p * width, s.wx + p * width);
        tiles.times_panel[rows](n.I, s.x + r * W, n.chunk_stride(), w.W_ + p * n.I * width, w.b_ih + p * width,
                                s.wx + (p * n.rows + r) * width);
      });
  }

  static void restart_states(const Layer<T>& c, const Shape& n, const Part& part, Index t, T* s) {
    for (Index r = 0; r < part.R; ++r) {
      const Index b = part.b0 + r;
      if (!c.reset[t * n.B + b] || !is_live(c, t, b)) continue;
      for (int k = 0; k < n.states; ++k)
        pack_row<T, Arch>(c.restart[k] ? c.restart[k] + b * n.H : nullptr, n.H, s + k * n.UB * n.tile_stride() + r * W, n.tile_stride());
    }
  }

  // Rows beyond the last live one: the state stands still.
  static void freeze_rows(const Shape& n, const Part& part, Index live, const Scratch& s, T* hs) {
    const Index stride = n.tile_stride(), P = n.forward_panels();
    const Index first = part.first(P) * n.nv_forward, end = part.last(P) * n.nv_forward, last = end < n.UB ? end : n.UB;
    for (Index r = live; r < part.R; ++r)
      for (Index ub = first; ub < last; ++ub) {
        for (int k = 0; k < n.states; ++k) V::load(s.s_prev + (k * n.UB + ub) * stride + r * W).store(s.s_next + (k * n.UB + ub) * stride + r * W);
        if (hs) V::zero().store(hs + r * n.H + ub * W, n.units_in(ub));
      }
  }

  // ② for one step.
  static void step(const Layer<T>& c, const Shape& n, const Part& part, const PackedWeights& w, const Scratch& s, const ForwardStep<T, Arch>& at,
                   Index live, const T* wx) {
    const Index width = n.forward_width();
    const Tiles<T>& tiles = tiles_of<T, Arch>(n.nv_forward * n.gates);
    alignas(64) T rh[most_vectors * W];
    const auto product = n.B == 1 && at.step % 2 ? tiles.row_backward : tiles.times_panel[1];
    each_panel(part, n.forward_panels(), at.step, [&](Index p) {
      each_tile(live, tiles.most, [&](Index r, int rows) {
        if (n.single) row_times_weights<T, Arch>(recurrent_weights(c), n.gates, n.H, n.H, s.s_prev, n.nv_forward, p, w.b_hh + p * width, rh);
        else (rows == 1 ? product : tiles.times_panel[rows])(n.H, s.s_prev + r * W, n.tile_stride(), w.R + p * n.H * width, w.b_hh + p * width, rh);
        n.cell->forward(c, n, part, s, at, p * n.nv_forward, r, rows, wx + (p * n.rows + r) * width, rh);
      });
    });
    if (live < part.R) freeze_rows(n, part, live, s, at.hs);
  }

  // One chunk: ① and ②. hs is the user's (T, B, H), or null when only the gates are wanted.
  static void walk_chunk(const Layer<T>& c, const Shape& n, const Part& part, const Chunk& chunk, const PackedWeights& w, Scratch& s, T* hs,
                         const Kept& kept) {
    pack_inputs_of(c, n, part, chunk, s.x);
    part.meet();
    input_half(c, n, part, chunk, w, s);
    for (Index i = 0; i < chunk.steps; ++i) {
      const Index t = time_of(c, chunk.first_step + i);
      if (c.reset) {
        if (part.member == 0) restart_states(c, n, part, t, s.s_prev);
        part.meet();
      }
      T* h_out = hs ? hs + (t * n.B + part.b0) * n.H : nullptr;
      step(c, n, part, w, s, {chunk.first_step + i, t, h_out, kept}, chunk.live(i), s.wx + chunk.base[i] * n.forward_width());
      s.swap();
      part.meet();
    }
  }

  // Scratch: the packed weights, which all share, then each group's own.
  struct Plan {
    Shape n;
    Workspace w;
    PackedWeights weights;
    std::size_t shared;  // bytes before the first group's scratch

    Plan(const Code& code, const ForwardCall<T>& c, Split split, void* block)
        : n(code, c, split), w{static_cast<char*>(block)}, weights(n, w), shared(w.used) {}

    struct Group : Scratch {
      Index *base, *row_of;
      Group(const Shape& n, Workspace& w, int members, int member) : Scratch(n, w) {
        base = w.take<Index>(members * (n.steps + 9)) + member * (n.steps + 9);
        row_of = w.take<Index>(members * (n.rows + 8)) + member * (n.rows + 8);
      }
    };
    Group group(Split split, int group, int member) {
      Workspace measure{nullptr};
      Group(n, measure, split.members, 0);
      Workspace mine{w.block ? w.block + shared + group * measure.used : nullptr};
      Group g(n, mine, split.members, member);
      w.used = shared + split.groups * measure.used;
      return g;
    }
  };

  static std::size_t scratch(const Code& code, const ForwardCall<T>& c, Split split) {
    Plan plan(code, c, split, nullptr);
    plan.group(split, 0, 0);
    return plan.w.used;
  }

  static void pack(const Code& code, const ForwardCall<T>& c, Split split, void* scratch) {
    const Plan plan(code, c, split, scratch);
    plan.weights.pack(c, plan.n);
  }

  // The states at a chunk's start, kept as (chunks, S, B, H).
  static void keep_states(const Shape& n, const Part& part, Index j, const T* s, T* kept) {
    T* to[max_states];
    for (int k = 0; k < n.states; ++k) to[k] = kept + (j * n.states + k) * n.B * n.H;
    if (part.member == 0) unpack_states(s, n, part, to);
  }

  static void share(const Code& code, const ForwardCall<T>& c, Split split, void* scratch, int group, int member, Team* team) {
    Plan plan(code, c, split, scratch);
    const Shape& n = plan.n;
    auto s = plan.group(split, group, member);
    const Part part(n, split, group, member, team);
    const Kept gates{n.kept > 0 && c.keep == Keep::fast ? c.kept : nullptr, n.B, part.b0, 0};
    const bool keeps_states = n.kept > 0 && c.keep == Keep::lean;
    if (member == 0) pack_states(c.state, n, part, s.s_prev);
    part.meet();
    for (Index j = 0; j < n.chunks(); ++j) {
      Chunk chunk = chunk_at(n, j, s.base, s.row_of);
      lay_out(c, part, chunk);
      if (keeps_states) keep_states(n, part, j, s.s_prev, c.kept);
      walk_chunk(c, n, part, chunk, plan.weights, s, c.hs, gates);
    }
    if (member == 0) unpack_states(s.s_prev, n, part, c.last);
  }
};

}  // namespace throughtime
