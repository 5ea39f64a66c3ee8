// One layer through time: what a pass does, and the table of its entry points for a cell, element type and architecture.
//
// A pass goes through time in chunks of about 256 rows (a row is one sequence at one step), so that its scratch does not grow
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
// A cell with late gates has two stages in ② and ④, each with a product of its own, and all units of the first are done before the
// second begins: forward the early gates' rh and q, then the late gates' R q; backward the late gates' d(rh), then dq = Rᵀ d(rh).
//
// A sequence that is over (t ≥ its length) is *frozen*: state and adjoint stand still, hs is zero, no gradient. Rows
// of a chunk are compacted: step t has rows only up to the last sequence that is live, so that finished sequences
// cost nothing when lengths are sorted.
//
// geometry.hpp cuts the work up; cell_tiles.hpp is the cell on one tile, forward.hpp and backward.hpp the two loops over
// time, weight_gradients.hpp the sums over rows. The loops are compiled once for all cells and call a tile by pointer.
#pragma once

#include "cell_tiles.hpp"

namespace throughtime {

// A kernel as its own architecture knows it: with the tiles that forward.hpp and backward.hpp call by pointer.
template <class T, class Arch>
struct CellKernel : Kernel<T> {
  typename ForwardTraversal<T, Arch>::Tile forward_tile;
  typename BackwardTraversal<T, Arch>::Tile backward_tile;
  typename ForwardTraversal<T, Arch>::Tile between_tile;  // null without late gates
  typename BackwardTraversal<T, Arch>::Tile late_tile;
};

// Every Layer's kernel is a CellKernel of the architecture whose phases it holds: arch/instances.inl makes no others.
template <class T, class Arch>
auto ForwardTraversal<T, Arch>::tiles_of_cell(const Kernel<T>& k) -> CellsTiles {
  const auto& kernel = static_cast<const CellKernel<T, Arch>&>(k);
  return {kernel.between_tile, kernel.forward_tile};
}
template <class T, class Arch>
auto BackwardTraversal<T, Arch>::tiles_of_cell(const Kernel<T>& k) -> CellsTiles {
  const auto& kernel = static_cast<const CellKernel<T, Arch>&>(k);
  return {kernel.late_tile, kernel.backward_tile};
}

template <class Cell, class T, class Arch>
constexpr CellKernel<T, Arch> kernel_of = {
    {form_of<Cell>(), Vec<T, Arch>::width, phases_of<ForwardPass<T, Arch>, ForwardWalk<T, Arch>>, phases_of<BackwardPass<T, Arch>, BackwardWalk<T, Arch>>, prepare_of<Cell, T, Arch>()},
    &CellTiles<Cell, T, Arch>::forward, &CellTiles<Cell, T, Arch>::backward, between_tile<Cell, T, Arch>(), late_tile<Cell, T, Arch>()};

}  // namespace throughtime
