// What a cell must provide. A cell is one time step of elementwise mathematics on vectors of hidden units; it knows
// nothing of time, of batches, of matrices or of Python.
//
//   gates    G   pre-activations per unit, each in two halves: wx = W x + b_ih and rh = R h + b_hh
//   states   S   state vectors; state 0 is h
//   kept     C   numbers per unit that forward leaves for backward (0: the output h is enough)
//   slots        distinct gate gradients: G when both halves receive the same, more when they do not
//   wx_slot(g), rh_slot(g)   where the gradient of each half lives. The slots of the rh halves are 0 … G−1 and those
//                of the wx halves slots−G … slots−1, so that each half is one contiguous range.
//   direct_h     whether h reaches h' other than through rh, so that backward gives more than zero for ds_prev[0]
//   needs_h_prev, needs_h    whether backward looks at h before, and after, the step
#pragma once

#include "functions.hpp"

namespace throughtime {

template <class Cell, class V>
concept CellOf = requires(const V* in, V* out) {
  requires Cell::gates >= 1 && Cell::states >= 1 && Cell::kept >= 0;
  requires Cell::slots >= Cell::gates;
  requires Cell::wx_slot(0) + Cell::rh_slot(0) >= 0;
  requires Cell::direct_h || Cell::needs_h_prev || Cell::needs_h || true;
  //            wx  rh  s_prev s_next kept
  Cell::forward(in, in, in, out, out);
  //             kept s_prev s_next ds  d_wx d_rh ds_prev     (s_prev, s_next: h only, where asked for)
  Cell::backward(in, in, in, in, out, out, out);
};

constexpr int max_gates = 4;

// The numbers above, for code that is compiled once for all cells.
struct Form {
  int gates, states, kept, slots;
  int wx_slot[max_gates], rh_slot[max_gates];
};

template <class Cell>
consteval Form form_of() {
  Form f{Cell::gates, Cell::states, Cell::kept, Cell::slots, {}, {}};
  for (int g = 0; g < Cell::gates; ++g) f.wx_slot[g] = Cell::wx_slot(g), f.rh_slot[g] = Cell::rh_slot(g);
  return f;
}

}  // namespace throughtime
