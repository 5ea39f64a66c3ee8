// One layer through time: what a pass does, and the table of its entry points for a cell, element type and architecture.
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
//
// geometry.hpp cuts the work up; cell_tiles.hpp is the cell on one tile, forward.hpp and backward.hpp the two loops over
// time, weight_gradients.hpp the sums over rows. The loops are compiled once for all cells and call a tile by pointer.
#pragma once

#include "backward.hpp"

namespace throughtime {

template <class Cell, class T, class Arch>
struct Recurrence {
  using Forward = ForwardWalk<T, Arch>;
  using Backward = BackwardWalk<T, Arch>;
  static constexpr const CellCode<T, Arch>& code = code_of<Cell, T, Arch>;

  static std::size_t forward_scratch(const ForwardCall<T>& c, Split split) { return Forward::scratch(code, c, split); }
  static void forward_pack(const ForwardCall<T>& c, Split split, void* scratch) { Forward::pack(code, c, split, scratch); }
  static void forward_share(const ForwardCall<T>& c, Split split, void* scratch, int group, int member, Team* team) {
    Forward::share(code, c, split, scratch, group, member, team);
  }
  static std::size_t backward_scratch(const BackwardCall<T>& c, Split split) { return Backward::scratch(code, c, split); }
  static void backward_pack(const BackwardCall<T>& c, Split split, void* scratch) { Backward::pack(code, c, split, scratch); }
  static void backward_share(const BackwardCall<T>& c, Split split, void* scratch, int group, int member, Team* team) {
    Backward::share(code, c, split, scratch, group, member, team);
  }
  static void backward_finish(const BackwardCall<T>& c, Split split, void* scratch) { Backward::finish(code, c, split, scratch); }
};

template <class Cell, class T, class Arch>
constexpr Kernel<T> kernel_of = {
    Cell::gates, Cell::states, Cell::kept, Vec<T, Arch>::width,
    &Recurrence<Cell, T, Arch>::forward_scratch, &Recurrence<Cell, T, Arch>::forward_pack, &Recurrence<Cell, T, Arch>::forward_share,
    &Recurrence<Cell, T, Arch>::backward_scratch, &Recurrence<Cell, T, Arch>::backward_pack, &Recurrence<Cell, T, Arch>::backward_share,
    &Recurrence<Cell, T, Arch>::backward_finish};

}  // namespace throughtime
