// The interface of a cell. A cell is one time step of elementwise mathematics on vectors of hidden units. It has no loop over
// time or batch, no matrices and no Python.
//
//   gates      G   pre-activations per unit, each in two halves: wx = W x + b_ih and rh = R h + b_hh
//   states     S   state vectors; state 0 is h
//   residuals  C   numbers per unit that forward keeps for backward (0: the output h is enough)
//   slots          distinct gate gradients: G if both halves have the same, more if they have not
//   wx_slot(g), rh_slot(g)   the slot of the gradient of each half: see slots_fit
//   direct_h       whether h' depends on h other than through rh, so that ds_prev[0] of backward is not zero
//   needs_h_prev, needs_h    whether backward reads h before, and after, the step
//   has_R          false: R multiplies nothing, rh is not read and d_rh not written; a cell with R may leave it away
//   parameters, learned      vectors (H) of the cell's own, and how many of them, the first, have gradients; a cell without any may
//                            leave both away, and gets no `p` and `d_p`
#pragma once

#include "functions.hpp"
#include "kernels.hpp"

namespace throughtime {

// Whether each gate's half has a slot of its own from `first` on, so that the half is one contiguous range.
template <class Slot>
consteval bool is_range(int gates, int first, Slot slot) {
  unsigned taken = 0;
  for (int g = 0; g < gates; ++g)
    if (slot(g) >= first && slot(g) < first + gates) taken |= 1u << (slot(g) - first);
  return taken == (1u << gates) - 1;
}

// The slots of the rh halves are 0 … G−1, those of the wx halves slots−G … slots−1, each in any order.
template <class Cell>
consteval bool has_R() {
  if constexpr (requires { Cell::has_R; }) return Cell::has_R;
  return true;
}

template <class Cell>
consteval bool slots_fit() {
  return (!has_R<Cell>() || is_range(Cell::gates, 0, [](int g) { return Cell::rh_slot(g); })) &&
         is_range(Cell::gates, Cell::slots - Cell::gates, [](int g) { return Cell::wx_slot(g); });
}

template <class Cell>
consteval int parameters_of() {
  if constexpr (requires { Cell::parameters; }) return Cell::parameters;
  return 0;
}
template <class Cell>
consteval int learned_of() {
  if constexpr (requires { Cell::learned; }) return Cell::learned;
  return 0;
}

template <class Cell, class V>
concept Steps = requires(const V* in, V* out) {
  //            wx  rh  s_prev s_next residuals
  Cell::forward(in, in, in, out, out);
  //             residuals s_prev s_next ds  d_wx d_rh ds_prev     (s_prev, s_next: h only, where asked for)
  Cell::backward(in, in, in, in, out, out, out);
};

template <class Cell, class V>
concept StepsWithParameters = requires(const V* in, V* out) {
  //            wx  rh  s_prev p  s_next residuals
  Cell::forward(in, in, in, in, out, out);
  //             residuals s_prev s_next ds  p  d_wx d_rh ds_prev d_p
  Cell::backward(in, in, in, in, in, out, out, out, out);
};

template <class Cell, class V>
concept CellOf = requires {
  requires Cell::gates >= 1 && Cell::gates <= max_gates;
  requires Cell::states >= 1 && Cell::states <= max_states;
  requires Cell::slots >= Cell::gates && Cell::slots <= 2 * Cell::gates;
  requires Cell::residuals > 0 || Cell::needs_h_prev || Cell::needs_h;  // backward is given something of the step
  requires learned_of<Cell>() <= parameters_of<Cell>();
  requires (parameters_of<Cell>() > 0 ? StepsWithParameters<Cell, V> : Steps<Cell, V>);
};

template <class Cell>
consteval Form form_of() {
  static_assert(slots_fit<Cell>(), "the gradients of each half must fill one range of slots: rh 0 … G-1, wx slots-G … slots-1");
  Form f{Cell::gates, Cell::states, Cell::residuals, Cell::slots, {}, {}, parameters_of<Cell>(), learned_of<Cell>(), Cell::needs_h_prev || has_R<Cell>(), has_R<Cell>()};
  for (int g = 0; g < Cell::gates; ++g) f.wx_slot[g] = Cell::wx_slot(g), f.rh_slot[g] = Cell::rh_slot(g);
  return f;
}

}  // namespace throughtime
