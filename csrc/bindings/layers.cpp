// Several layers over the same steps, from the first to the last, with weights as torch stores them.
#include "layers.hpp"

#include <algorithm>
#include <vector>

#include "../gil.hpp"
#include "../stack.hpp"
#include "module.hpp"

namespace throughtime {

using namespace nb::literals;

namespace {

// The tuple's entry that belongs to a layer, or None where there is no tuple.
nb::handle of_layer(nb::handle tuple, int layer, int layers, const char* name) {
  if (tuple.is_none()) return tuple;
  if (!nb::isinstance<nb::tuple>(tuple) || nb::len(tuple) != static_cast<std::size_t>(layers))
    raise_value(std::string(name) + " is a " + class_of(tuple) + "; expected a tuple of one array for each layer, or None.");
  return nb::borrow<nb::tuple>(tuple)[static_cast<std::size_t>(layer)].ptr();
}

// The rows (B, H) of one layer in the S arrays (layers, B, H) of a state, each by `check`; None leaves `to` as it is.
template <class T, class P>
void read_layer_states(nb::handle object, const StateNames& names, const Layer<T>& c, int layer, int layers,
                       P (*check)(nb::handle, const char*, Axes), P* to) {
  if (object.is_none()) return;
  Entries entries(object, static_cast<std::size_t>(c.kernel->states), names.whole);
  for (int k = 0; k < c.kernel->states; ++k)
    if (P all = check(entries.next(), names.each[k], {{layers, c.n.B, c.n.H}, "(layers, B, H)"})) to[k] = all + layer * c.n.B * c.n.H;
}

// What both passes of one layer share, but for xs, which for upper layers is what the layer below returned.
template <class T>
void check_stacked_layer(Layer<T>& c, const StackArguments& a, int layer, nb::handle below) {
  c.kernel = &kernel_of_cell<T>(a.cell, default_architecture());
  c.keep = a.keep;
  const Index G = c.kernel->gates, E = c.kernel->rows;
  Entries entries(a.weights, arrays_of_layer * static_cast<std::size_t>(a.layers), "weights");
  entries.skip(arrays_of_layer * static_cast<std::size_t>(layer));
  const nb::handle W = entries.next(), R = entries.next(), b_ih = entries.next(), b_hh = entries.next();
  const Array xs(below, "xs", false), recurrent(R, "R", false);
  if (xs.ndim() != 3 || xs.size(0) < 1 || xs.size(1) < 1 || xs.size(2) < 1)
    raise_value("xs is " + xs.described() + "; expected (T, B, I), each at least 1. Time comes first.");
  if (recurrent.ndim() != 2 || recurrent.size(1) < 1) raise_value("R is " + recurrent.described() + "; expected (rows*H, H), H at least 1.");
  c.n = {xs.size(0), xs.size(1), xs.size(2), recurrent.size(1)};
  const auto [T_, B, I, H] = c.n;
  xs.expect(element_for<T>, {T_, B, I}, "(T, B, I)");
  recurrent.expect(element_for<T>, {E * H, H}, "(rows*H, H)");
  c.xs = xs.data<const T>();
  c.W = required<T>(W, "W", {{G * H, I}, "(G*H, I)"});
  c.b_ih = input<T>(b_ih, "b_ih", {{G * H}, "(G*H,)"});
  if (E > 0) {
    c.R = recurrent.data<const T>();
    c.b_hh = input<T>(b_hh, "b_hh", {{E * H}, "(rows*H,)"});
  }
  read_layer_states(a.state, {"state, a tuple of S arrays or None", {"state[0]", "state[1]", "state[2]", "state[3]"}}, c, layer, a.layers,
                    required<T>, c.state);
}

// The cells' own vectors, (H,) each, as kernels read them and write their gradients: (P, H) and (L, H) of every layer.
template <class T>
class OwnVectors {
 public:
  explicit OwnVectors(int layers) : layers_(static_cast<std::size_t>(layers)), given_(layers_), gradients_(layers_) {}

  void read(Layer<T>& c, nb::handle tuple, std::size_t layer) {
    const auto P = static_cast<std::size_t>(c.kernel->parameters), H = static_cast<std::size_t>(c.n.H);
    if (P == 0) return;
    Entries entries(tuple, P * layers_, "vectors, P arrays (H,) for each layer");
    entries.skip(P * layer);
    for (std::size_t k = 0; k < P; ++k) {
      const T* vector = required<T>(entries.next(), "vectors", {{c.n.H}, "(H,)"});
      given_[layer].insert(given_[layer].end(), vector, vector + H);
    }
    c.parameters = given_[layer].data();
  }

  void room_for_gradients(BackwardCall<T>& c, nb::handle tuple, std::size_t layer) {
    const auto L = static_cast<std::size_t>(c.kernel->learned), H = static_cast<std::size_t>(c.n.H);
    if (L == 0) return;
    Entries entries(tuple, L * layers_, "dvectors, L arrays (H,) for each layer");
    entries.skip(L * layer);
    gradients_[layer].resize(L * H);
    c.dparameters = gradients_[layer].data();
    for (std::size_t k = 0; k < L; ++k)
      results_.push_back({c.dparameters + k * H, required_output<T>(entries.next(), "dvectors", {{c.n.H}, "(H,)"}), H});
  }

  void hand_over_gradients() const {
    for (const auto& [from, to, n] : results_) std::copy(from, from + n, to);
  }

 private:
  struct Result { const T* from; T* to; std::size_t n; };
  std::size_t layers_;
  std::vector<std::vector<T>> given_, gradients_;
  std::vector<Result> results_;
};

template <class T>
void forward_layers(const StackArguments& a, Entries results) {
  std::vector<ForwardCall<T>> calls(static_cast<std::size_t>(a.layers));
  OwnVectors<T> vectors(a.layers);
  const nb::handle hs = results.next(), last = results.next(), residuals = results.next();
  nb::handle below = a.xs;
  for (int l = 0; l < a.layers; ++l) {
    ForwardCall<T>& c = calls[static_cast<std::size_t>(l)];
    check_stacked_layer<T>(c, a, l, below);
    vectors.read(c, a.vectors, static_cast<std::size_t>(l));
    below = of_layer(hs, l, a.layers, "hs");
    c.hs = required_output<T>(below, "hs", {{c.n.T, c.n.B, c.n.H}, "(T, B, H)"});
    if (last.is_none()) raise_type("last is None; expected a tuple of S arrays (layers, B, H) to write to.");
    read_layer_states(last, {"last, a tuple of S arrays", {"last[0]", "last[1]", "last[2]", "last[3]"}}, c, l, a.layers, required_output<T>, c.last);
    if (const Index size = static_cast<Index>(c.kernel->residuals_size(c.n, c.keep)))
      c.residuals = required_output<T>(of_layer(residuals, l, a.layers, "residuals"), "residuals", {{size}, "(residuals_size(...),)"});
  }
  const WithoutGil nogil;
  run_stack<T>(calls, a.threads);
}

struct StackBackwardArguments {
  nb::handle hs, residuals, dhs, dlast, dxs, dstate, dweights, dvectors, between;

  StackBackwardArguments(nb::handle run, nb::handle arriving, nb::handle results) {
    Entries left(run, 2, "run = (hs, residuals)"), above(arriving, 2, "arriving = (dhs, dlast)");
    hs = left.next(), residuals = left.next();
    dhs = above.next(), dlast = above.next();
    Entries d(results, 5, "results = (dxs, dstate, dweights, dvectors, between)");
    dxs = d.next(), dstate = d.next(), dweights = d.next(), dvectors = d.next(), between = d.next();
  }
};

template <class T>
void backward_layers(const StackArguments& a, const StackBackwardArguments& b) {
  std::vector<BackwardCall<T>> calls(static_cast<std::size_t>(a.layers));
  OwnVectors<T> vectors(a.layers);
  for (int l = 0; l < a.layers; ++l) {
    BackwardCall<T>& c = calls[static_cast<std::size_t>(l)];
    check_stacked_layer<T>(c, a, l, l ? of_layer(b.hs, l - 1, a.layers, "hs") : a.xs);
    vectors.read(c, a.vectors, static_cast<std::size_t>(l));
    vectors.room_for_gradients(c, b.dvectors, static_cast<std::size_t>(l));
    const auto [T_, B, I, H] = c.n;
    const Index G = c.kernel->gates, E = c.kernel->rows;
    if (c.keep == Keep::none && c.kernel->residuals > 0)
      raise_value("keep is 'none', which leaves nothing to go backward from; expected the 'fast' or 'lean' of the forward call.");
    c.hs = required<T>(of_layer(b.hs, l, a.layers, "hs"), "hs", {{T_, B, H}, "(T, B, H)"});
    if (const Index size = static_cast<Index>(c.kernel->residuals_size(c.n, c.keep)))
      c.residuals = required<T>(of_layer(b.residuals, l, a.layers, "residuals"), "residuals", {{size}, "(residuals_size(...),)"});
    Entries d(b.dweights, arrays_of_layer * static_cast<std::size_t>(a.layers), "dweights, shaped as weights");
    d.skip(arrays_of_layer * static_cast<std::size_t>(l));
    c.dW = required_output<T>(d.next(), "dW", {{G * H, I}, "(G*H, I)"});
    const nb::handle dR = d.next();
    c.db_ih = output<T>(d.next(), "db_ih", {{G * H}, "(G*H,)"});
    if (E > 0) {
      c.dR = required_output<T>(dR, "dR", {{E * H, H}, "(rows*H, H)"});
      c.db_hh = output<T>(d.next(), "db_hh", {{E * H}, "(rows*H,)"});
    }
    read_layer_states(b.dlast, {"dlast, a tuple of S arrays or None", {"dlast[0]", "dlast[1]", "dlast[2]", "dlast[3]"}}, c, l, a.layers, input<T>,
                      c.dlast);
    read_layer_states(b.dstate, {"dstate, a tuple of S arrays or None", {"dstate[0]", "dstate[1]", "dstate[2]", "dstate[3]"}}, c, l, a.layers,
                      output<T>, c.dstate);
    // What a layer hands down is the layer below's dhs; two arrays suffice, in turns.
    c.dhs = l == a.layers - 1 ? input<T>(b.dhs, "dhs", {{T_, B, H}, "(T, B, H)"}) : nullptr;
    if (l == 0) {
      c.dxs = output<T>(b.dxs, "dxs", {{T_, B, I}, "(T, B, I)"});
    } else {
      Entries between(b.between, a.layers > 2 ? 2 : 1, "between, one array (T, B, H), or two where there are three layers");
      between.skip(static_cast<std::size_t>((l - 1) % 2));
      c.dxs = required_output<T>(between.next(), "between", {{T_, B, H}, "(T, B, H)"});
      calls[static_cast<std::size_t>(l - 1)].dhs = c.dxs;
    }
  }
  const WithoutGil nogil;
  std::ranges::reverse(calls);
  run_stack<T>(calls, a.threads);
  vectors.hand_over_gradients();
}

void forward_layers_any(nb::handle call, nb::handle results) {
  const StackArguments stack(call);
  const Entries entries(results, 3, "results = (hs, last, residuals)");
  is_double(stack.xs, "xs") ? forward_layers<double>(stack, entries) : forward_layers<float>(stack, entries);
}

void backward_layers_any(nb::handle call, nb::handle run, nb::handle arriving, nb::handle results) {
  const StackArguments stack(call);
  const StackBackwardArguments arguments(run, arriving, results);
  is_double(stack.xs, "xs") ? backward_layers<double>(stack, arguments) : backward_layers<float>(stack, arguments);
}

}  // namespace

void add_layers(nb::module_& m) {
  m.def("forward_layers", &forward_layers_any, "call"_a, "results"_a,
        "Several layers forward, from the first step to the last, with weights as torch stores them.\n\n"
        "call: (cell, xs, state or None, weights, vectors or None, keep, threads), weights one tuple of W, R, b_ih, b_hh of every layer,\n"
        "vectors another of the arrays (H,) that a loaded cell has of its own, those of every layer, learned ones first;\n"
        "results, written: (hs, last, residuals): tuples of one array for each layer, of S arrays (layers, B, H), and again of one for each.");
  m.def("backward_layers", &backward_layers_any, "call"_a, "run"_a, "arriving"_a, "results"_a,
        "The same layers backward.\n\n"
        "call: as forward_layers's; run: (hs, residuals) of it; arriving: (dhs, dlast);\n"
        "results, written: (dxs, dstate, dweights, dvectors, between), between a tuple of one or two arrays (T, B, H) of no meaning afterwards.");
}

}  // namespace throughtime
