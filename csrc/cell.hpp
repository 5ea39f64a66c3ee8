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
//   rows       E   gates that have a half rh, each with a row of blocks in R; a cell that leaves it away has G. With 0, R multiplies
//                  nothing, rh is not read and d_rh not written
//   late           of these gates the last ones, whose R multiplies not h but q, which the cell makes of h and of the gates before
//                  them; a cell that leaves it away has none
//   passed         numbers per unit that `between` of a cell with late gates hands to `forward`
//   zeros_stay     whether, of zeros for everything, forward and backward make zeros: lanes beyond the last unit then stay zero by
//                  themselves
//   parameters, learned      vectors (H) of the cell's own, and how many of them, the first, have gradients; a cell without any may
//                            leave these and what follows away, and gets no `p` and `d_p`
//   derived                  vectors that `prepare` makes of them once a call: these are the `p` of the other functions
#pragma once

#include "functions.hpp"
#include "kernels.hpp"

namespace throughtime {

template <class Cell>
consteval int rows_of() {
  if constexpr (requires { Cell::rows; }) return Cell::rows;
  return Cell::gates;
}
template <class Cell>
consteval int late_of() {
  if constexpr (requires { Cell::late; }) return Cell::late;
  return 0;
}
template <class Cell>
consteval int passed_of() {
  if constexpr (requires { Cell::passed; }) return Cell::passed;
  return 0;
}
template <class Cell>
consteval bool zeros_stay() {
  if constexpr (requires { Cell::zeros_stay; }) return Cell::zeros_stay;
  return true;
}

// Whether each of some gates has a slot of its own from `first` on, so that together they are one contiguous range.
template <class Slot>
consteval bool is_range(int gates, int first, Slot slot) {
  unsigned taken = 0;
  for (int g = 0; g < gates; ++g)
    if (slot(g) >= first && slot(g) < first + gates) taken |= 1u << (slot(g) - first);
  return taken == (1u << gates) - 1;
}

// The slots of the rh halves are 0 … E−1, late gates' behind the others', those of the wx halves slots−G … slots−1; each in any order.
template <class Cell>
consteval bool slots_fit() {
  constexpr int early = rows_of<Cell>() - late_of<Cell>();
  return is_range(early, 0, [](int g) { return Cell::rh_slot(g); }) &&
         is_range(late_of<Cell>(), early, [](int g) { return Cell::rh_slot(rows_of<Cell>() - late_of<Cell>() + g); }) &&
         is_range(Cell::gates, Cell::slots - Cell::gates, [](int g) { return Cell::wx_slot(g); });
}

template <class Cell>
consteval int parameters_of() {
  if constexpr (requires { Cell::parameters; }) return Cell::parameters;
  return 0;
}
template <class Cell>
consteval int derived_of() {
  if constexpr (requires { Cell::derived; }) return Cell::derived;
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
  Cell::prepare(in, out);
  //            wx  rh  s_prev p  s_next residuals
  Cell::forward(in, in, in, in, out, out);
  //             residuals s_prev s_next ds  p  d_wx d_rh ds_prev d_p
  Cell::backward(in, in, in, in, in, out, out, out, out);
};

// A cell with late gates has two stages each way; the vectors of its own are always passed.
template <class Cell, class V>
concept HasTwoStages = requires(const V* in, V* out) {
  //            wx  rh  s_prev p  q    passed         (rh of the early gates)
  Cell::between(in, in, in, in, out, out);
  //            wx  rh  passed s_prev p  s_next residuals      (rh of the late ones)
  Cell::forward(in, in, in, in, in, out, out);
  //                  residuals s_prev s_next ds  p  d_rh q    (d_rh of the late ones)
  Cell::backward_late(in, in, in, in, in, out, out);
  //             residuals s_prev s_next ds  p  dq  d_late d_wx d_rh ds_prev d_p        (d_rh of the early ones)
  Cell::backward(in, in, in, in, in, in, in, out, out, out, out);
};

template <class Cell, class V>
concept HasOneStage = (parameters_of<Cell>() > 0 ? StepsWithParameters<Cell, V> : Steps<Cell, V>);

template <class Cell, class V>
concept CellOf = requires {
  requires Cell::gates >= 1 && Cell::gates <= max_gates;
  requires Cell::states >= 1 && Cell::states <= max_states;
  requires rows_of<Cell>() >= late_of<Cell>() && rows_of<Cell>() <= max_gates;
  requires Cell::slots >= Cell::gates && Cell::slots >= rows_of<Cell>() && Cell::slots <= Cell::gates + rows_of<Cell>();
  requires Cell::residuals > 0 || Cell::needs_h_prev || Cell::needs_h;  // backward is given something of the step
  requires learned_of<Cell>() <= parameters_of<Cell>();
  requires (late_of<Cell>() > 0 ? HasTwoStages<Cell, V> : HasOneStage<Cell, V>);
};

template <class Cell>
consteval Form form_of() {
  static_assert(slots_fit<Cell>(), "the gradients of each half must fill one range of slots: rh 0 … E-1, wx slots-G … slots-1");
  constexpr int rows = rows_of<Cell>(), late = late_of<Cell>();
  Form f{Cell::gates, Cell::states, Cell::residuals, Cell::slots, {}, {}, parameters_of<Cell>(), learned_of<Cell>(),
         (Cell::needs_h_prev && rows > 0) || rows > late, rows, late, passed_of<Cell>(), derived_of<Cell>()};
  for (int g = 0; g < Cell::gates; ++g) f.wx_slot[g] = Cell::wx_slot(g);
  for (int g = 0; g < rows; ++g) f.rh_slot[g] = Cell::rh_slot(g);
  return f;
}

}  // namespace throughtime
