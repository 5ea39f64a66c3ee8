// The arguments of one layer's passes, read into the calls of kernels.hpp.
#pragma once

#include <cstdint>
#include <vector>

#include "../run.hpp"
#include "arguments.hpp"

namespace throughtime {

// The arguments that both passes share. If W is None, xs is the input half (T, B, G, H).
struct LayerArguments {
  int cell;
  nb::handle xs, state, W, R, b_ih, b_hh, parameters = nb::none(), lengths, reset, restart;
  mutable std::vector<std::int64_t> read_lengths;  // a copy, to which the call points: it lasts as long as these arguments
  bool reverse;
  Keep keep;
  int threads;
  ArchName arch;

  explicit LayerArguments(nb::handle call) {
    Entries e(call, 11, "call = (cell, xs, state, weights, lengths, reset, restart, reverse, keep, threads, arch)");
    cell = parse_cell(e.next());
    xs = e.next(), state = e.next();
    const bool loaded = cell >= first_loaded;
    Entries weights(e.next(), loaded ? 5 : 4, loaded ? "weights = (W, R, b_ih, b_hh, parameters)" : "weights = (W, R, b_ih, b_hh)");
    W = weights.next(), R = weights.next(), b_ih = weights.next(), b_hh = weights.next();
    if (loaded) parameters = weights.next();
    lengths = e.next(), reset = e.next(), restart = e.next();
    reverse = read<bool>(e.next(), "reverse", "a bool");
    keep = parse_keep(e.next());
    threads = parse_threads(e.next());
    arch = parse_arch(e.next());
  }
};

template <class T>
void input_and_weights(Layer<T>& c, const LayerArguments& a) {
  const Index G = c.kernel->gates;
  const Array xs(a.xs, "xs", false), W(a.W, "W", false);
  if (xs.ndim() != 3 || xs.size(0) < 1 || xs.size(1) < 1 || xs.size(2) < 1)
    raise_value("xs is " + xs.described() + "; expected (T, B, I), each at least 1. Time comes first.");
  if (W.ndim() != 3 || W.size(1) < 1) raise_value("W is " + W.described() + "; expected (G, H, I), H at least 1.");
  c.n = {xs.size(0), xs.size(1), xs.size(2), W.size(1)};
  xs.expect(element_for<T>, {c.n.T, c.n.B, c.n.I}, "(T, B, I)");
  W.expect(element_for<T>, {G, c.n.H, c.n.I}, "(G, H, I)");
  c.xs = xs.data<const T>();
  c.W = W.data<const T>();
  c.b_ih = input<T>(a.b_ih, "b_ih", {{G, c.n.H}, "(G, H)"});
}

template <class T>
void given_input_half(Layer<T>& c, const LayerArguments& a) {
  const Index G = c.kernel->gates;
  const Array wx(a.xs, "xs", false);
  if (wx.ndim() != 4 || wx.size(0) < 1 || wx.size(1) < 1 || wx.size(3) < 1)
    raise_value("xs is " + wx.described() + " and W is None; expected (T, B, G, H), each at least 1: W x + b_ih, already made.");
  if (!a.b_ih.is_none()) raise_value("b_ih is given and W is None; expected neither or W: where the input half is made, b_ih is in it.");
  c.n = {wx.size(0), wx.size(1), 0, wx.size(3)};
  wx.expect(element_for<T>, {c.n.T, c.n.B, G, c.n.H}, "(T, B, G, H)");
  c.wx = wx.data<const T>();
}

// The lengths of a call, checked; none for None. A copy: what says where to read and write must not change while the call runs.
std::vector<std::int64_t> checked_lengths(nb::handle lengths, Sizes n);

// Fills `c`, whose lengths are those of `a`, which the caller keeps while the call runs.
template <class T>
void check_layer(Layer<T>& c, const LayerArguments& a) {
  c.kernel = &kernel_of_cell<T>(a.cell, a.arch);
  a.W.is_none() ? given_input_half(c, a) : input_and_weights(c, a);
  const auto [T_, B, I, H] = c.n;
  const Index E = c.kernel->rows;
  if (const Index P = c.kernel->parameters) c.parameters = required<T>(a.parameters, "parameters", {{P, H}, "(P, H)"});
  if (E > 0) {
    c.R = required<T>(a.R, "R", {{E, H, H}, "(rows of R, H, H)"});
    c.b_hh = input<T>(a.b_hh, "b_hh", {{E, H}, "(rows of R, H)"});
  }
  if (a.state.is_none()) raise_type("state is None; expected a tuple of S arrays (B, H).");
  read_states(a.state, {"state, a tuple of S arrays", {"state[0]", "state[1]", "state[2]", "state[3]"}}, c, required<T>, c.state);
  read_states(a.restart, {"restart, a tuple of S arrays or None", {"restart[0]", "restart[1]", "restart[2]", "restart[3]"}}, c, input<T>, c.restart);
  c.reset = input<std::uint8_t>(a.reset, "reset", {{T_, B}, "(T, B)"});
  c.reverse = a.reverse;
  c.keep = a.keep;
  a.read_lengths = checked_lengths(a.lengths, c.n);
  c.lengths = a.read_lengths.empty() ? nullptr : a.read_lengths.data();
}

template <class T>
ForwardCall<T> forward_call(const LayerArguments& layer, Entries results) {
  ForwardCall<T> c{};
  check_layer<T>(c, layer);
  c.hs = required_output<T>(results.next(), "hs", {{c.n.T, c.n.B, c.n.H}, "(T, B, H)"});
  const nb::handle last = results.next(), residuals = results.next();
  if (last.is_none()) raise_type("last is None; expected a tuple of S arrays (B, H) to write to.");
  read_states(last, {"last, a tuple of S arrays", {"last[0]", "last[1]", "last[2]", "last[3]"}}, c, required_output<T>, c.last);
  if (const Index size = static_cast<Index>(c.kernel->residuals_size(c.n, c.keep)))
    c.residuals = required_output<T>(residuals, "residuals", {{size}, "(residuals_size(...),)"});
  return c;
}

struct BackwardArguments {
  nb::handle hs, residuals, dhs, dlast, dxs, dstate, dW, dR, db_ih, db_hh, dparameters = nb::none(), drestart;
  double clip = -1;

  BackwardArguments(bool loaded, nb::handle run, nb::handle arriving, nb::handle results) {
    Entries left(run, 2, "run = (hs, residuals)"), above(arriving, 3, "arriving = (dhs, dlast, clip)");
    hs = left.next(), residuals = left.next();
    dhs = above.next(), dlast = above.next();
    if (const nb::handle norm = above.next(); !norm.is_none()) clip = read<double>(norm, "clip", "a float or None");
    Entries d(results, 4, "results = (dxs, dstate, dweights, drestart)");
    dxs = d.next(), dstate = d.next();
    Entries weights(d.next(), loaded ? 5 : 4, loaded ? "dweights = (dW, dR, db_ih, db_hh, dparameters)" : "dweights = (dW, dR, db_ih, db_hh)");
    dW = weights.next(), dR = weights.next(), db_ih = weights.next(), db_hh = weights.next();
    if (loaded) dparameters = weights.next();
    drestart = d.next();
  }
};

template <class T>
void weight_gradients(BackwardCall<T>& c, const BackwardArguments& a) {
  const auto [T_, B, I, H] = c.n;
  const Index G = c.kernel->gates, E = c.kernel->rows;
  if (E > 0) {
    c.dR = required_output<T>(a.dR, "dR", {{E, H, H}, "(rows of R, H, H)"});
    c.db_hh = output<T>(a.db_hh, "db_hh", {{E, H}, "(rows of R, H)"});
  }
  if (const Index L = c.kernel->learned) c.dparameters = required_output<T>(a.dparameters, "dparameters", {{L, H}, "(L, H)"});
  if (c.wx) {
    c.dwx = output<T>(a.dxs, "dxs", {{T_, B, G, H}, "(T, B, G, H)"});
    return;
  }
  c.dxs = output<T>(a.dxs, "dxs", {{T_, B, I}, "(T, B, I)"});
  c.dW = required_output<T>(a.dW, "dW", {{G, H, I}, "(G, H, I)"});
  c.db_ih = output<T>(a.db_ih, "db_ih", {{G, H}, "(G, H)"});
}

template <class T>
BackwardCall<T> backward_call(const LayerArguments& layer, const BackwardArguments& a) {
  BackwardCall<T> c{};
  check_layer<T>(c, layer);
  const auto [T_, B, I, H] = c.n;
  if (c.keep == Keep::none && c.kernel->residuals > 0)
    raise_value("keep is 'none', which leaves nothing to go backward from; expected the 'fast' or 'lean' of the forward call.");
  c.hs = required<T>(a.hs, "hs", {{T_, B, H}, "(T, B, H)"});
  if (const Index size = static_cast<Index>(c.kernel->residuals_size(c.n, c.keep)))
    c.residuals = required<T>(a.residuals, "residuals", {{size}, "(residuals_size(...),)"});
  c.dhs = input<T>(a.dhs, "dhs", {{T_, B, H}, "(T, B, H)"});
  read_states(a.dlast, {"dlast, a tuple of S arrays or None", {"dlast[0]", "dlast[1]", "dlast[2]", "dlast[3]"}}, c, input<T>, c.dlast);
  c.clipped = a.clip >= 0;
  c.clip = static_cast<T>(a.clip);
  weight_gradients(c, a);
  if (a.dstate.is_none()) raise_type("dstate is None; expected a tuple of S arrays (B, H) to write to.");
  read_states(a.dstate, {"dstate, a tuple of S arrays", {"dstate[0]", "dstate[1]", "dstate[2]", "dstate[3]"}}, c, required_output<T>, c.dstate);
  read_states(a.drestart, {"drestart, a tuple of S arrays or None", {"drestart[0]", "drestart[1]", "drestart[2]", "drestart[3]"}}, c, output<T>, c.drestart);
  return c;
}

}  // namespace throughtime
