// Several layers over the same steps, each called as one layer is.
#include "../stack.hpp"

#include <span>
#include <vector>

#include "../gil.hpp"
#include "layer.hpp"
#include "module.hpp"

namespace throughtime {

using namespace nb::literals;

namespace {

// Layers can take turns in time where each goes on with what the one before has written, step for step.
template <class T>
void check_follows(const Layer<T>& before, const Layer<T>& c, bool connected) {
  if (before.lengths || c.lengths || before.reverse || c.reverse)
    raise_value("lengths or reverse is given for one of several layers; expected neither. Call one layer after the other.");
  if (!connected || before.n.T != c.n.T || before.n.B != c.n.B)
    raise_value("a layer does not read the array that the layer before it writes; expected forward's hs as the next one's xs, and "
                "backward's dxs as the next one's dhs.");
}

template <class T>
void add_call(std::vector<ForwardCall<T>>& calls, const LayerArguments& layer, nb::handle entry) {
  Entries e(entry, 2, "(call, results) of a layer");
  e.skip(1);
  const ForwardCall<T> c = forward_call<T>(layer, Entries(e.next(), 3, "results = (hs, last, residuals)"));
  if (!calls.empty()) check_follows<T>(calls.back(), c, c.xs == calls.back().hs);
  calls.push_back(c);
}

template <class T>
void add_call(std::vector<BackwardCall<T>>& calls, const LayerArguments& layer, nb::handle entry) {
  Entries e(entry, 4, "(call, run, arriving, results) of a layer");
  e.skip(1);
  const nb::handle run = e.next(), arriving = e.next();
  const BackwardCall<T> c = backward_call<T>(layer, BackwardArguments(layer.cell >= first_loaded, run, arriving, e.next()));
  if (!calls.empty()) check_follows<T>(calls.back(), c, c.dhs && c.dhs == calls.back().dxs);
  calls.push_back(c);
}

template <class Call>
void run_connected(nb::tuple layers) {
  std::vector<Call> calls;
  int threads = 1;
  for (nb::handle entry : layers) {
    const LayerArguments layer(nb::borrow<nb::tuple>(entry)[0]);
    threads = layer.threads;
    add_call(calls, layer, entry);
  }
  const WithoutGil nogil;
  run_stack(std::span<Call>(calls), threads);
}

// float32 or float64, by the first layer's xs. The others are checked against it.
bool is_double_stack(nb::handle layers) {
  if (!nb::isinstance<nb::tuple>(layers) || nb::len(layers) == 0) raise_type("layers is a " + class_of(layers) + "; expected a tuple of a tuple for each layer.");
  for (nb::handle entry : nb::borrow<nb::tuple>(layers))
    if (!nb::isinstance<nb::tuple>(entry) || nb::len(entry) == 0) raise_type("a layer is a " + class_of(entry) + "; expected a tuple that begins with its call.");
  return is_double(LayerArguments(nb::borrow<nb::tuple>(nb::borrow<nb::tuple>(layers)[0])[0]).xs, "xs");
}

void forward_stack_any(nb::handle layers) {
  const bool wide = is_double_stack(layers);
  const auto all = nb::borrow<nb::tuple>(layers);
  wide ? run_connected<ForwardCall<double>>(all) : run_connected<ForwardCall<float>>(all);
}

void backward_stack_any(nb::handle layers) {
  const bool wide = is_double_stack(layers);
  const auto all = nb::borrow<nb::tuple>(layers);
  wide ? run_connected<BackwardCall<double>>(all) : run_connected<BackwardCall<float>>(all);
}

}  // namespace

void add_stack(nb::module_& m) {
  m.def("forward_stack", &forward_stack_any, "layers"_a,
        "Several layers forward, each over the hs of the one before; for small batches they take turns in time.\n\n"
        "layers: a tuple of (call, results) of forward for each, from the first to the last.");
  m.def("backward_stack", &backward_stack_any, "layers"_a,
        "The same layers backward, the dxs of each the dhs of the next.\n\n"
        "layers: a tuple of (call, run, arriving, results) of backward for each, from the last to the first.");
}

}  // namespace throughtime
