// One layer, forward and backward.
#include "layer.hpp"

#include "../gil.hpp"
#include "module.hpp"

namespace throughtime {

using namespace nb::literals;

std::vector<std::int64_t> checked_lengths(nb::handle object, Sizes n) {
  const std::int64_t* given = input<std::int64_t>(object, "lengths", {{n.B}, "(B,)"});
  if (!given) return {};
  const std::vector<std::int64_t> lengths(given, given + n.B);
  for (Index b = 0; b < n.B; ++b)
    if (const std::int64_t length = lengths[static_cast<std::size_t>(b)]; length < 0 || length > n.T)
      raise_value("lengths[" + std::to_string(b) + "] is " + std::to_string(length) + "; expected 0 to T = " + std::to_string(n.T) + ".");
  return lengths;
}

namespace {

template <class T>
void forward(const LayerArguments& layer, Entries results) {
  const ForwardCall<T> c = forward_call<T>(layer, results);
  const WithoutGil nogil;
  run(c, layer.threads);
}

template <class T>
void backward(const LayerArguments& layer, const BackwardArguments& a) {
  const BackwardCall<T> c = backward_call<T>(layer, a);
  const WithoutGil nogil;
  run(c, layer.threads);
}

void forward_any(nb::handle call, nb::handle results) {
  const LayerArguments layer(call);
  const Entries entries(results, 3, "results = (hs, last, residuals)");
  is_double(layer.xs, "xs") ? forward<double>(layer, entries) : forward<float>(layer, entries);
}

void backward_any(nb::handle call, nb::handle run, nb::handle arriving, nb::handle results) {
  const LayerArguments layer(call);
  const BackwardArguments arguments(layer.cell >= first_loaded, run, arriving, results);
  is_double(layer.xs, "xs") ? backward<double>(layer, arguments) : backward<float>(layer, arguments);
}

}  // namespace

void add_layer(nb::module_& m) {
  m.def("forward", &forward_any, "call"_a, "results"_a,
        "One layer forward over all of time.\n\n"
        "call: (cell, xs, state, (W, R, b_ih, b_hh), lengths, reset, restart, reverse, keep, threads, arch);\n"
        "a loaded cell's weights: (W, R, b_ih, b_hh, parameters (P, H) or None);\n"
        "results, written: (hs, last, residuals).");
  m.def("backward", &backward_any, "call"_a, "run"_a, "arriving"_a, "results"_a,
        "The same layer backward.\n\n"
        "call: as forward's; run: (hs, residuals) of forward; arriving: (dhs, dlast, clip);\n"
        "results, written: (dxs, dstate, (dW, dR, db_ih, db_hh), drestart); a loaded cell's: (dW, dR, db_ih, db_hh, dparameters (L, H) or None).");
}

}  // namespace throughtime
