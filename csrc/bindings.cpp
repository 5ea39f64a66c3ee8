// The only file that knows of the module's Python face. It checks every array, drops the GIL and runs the call.
//
// T time, B batch, I input, H hidden, G gates, S states.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "architectures.hpp"
#include "arrays.hpp"
#include "gil.hpp"
#include "loaded.hpp"
#include "run.hpp"
#include "stack.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace throughtime;

namespace {

[[noreturn]] void raise_value(const std::string& message) { throw nb::value_error(message.c_str()); }
[[noreturn]] void raise_type(const std::string& message) { throw nb::type_error(message.c_str()); }

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  for (ArchName a : all_architectures)
    if (is_supported(a)) names.push_back(name_of(a));
  return names;
}

// Why `name` cannot serve.
std::string not_an_architecture(const std::string& name) {
  ArchName known;
  std::string message = "'" + name + "'" + (parse_architecture(name.c_str(), known) ? ", which this machine cannot run" : "") + "; expected one of ";
  for (const std::string& other : supported_architectures()) message += "'" + other + "', ";
  return message + "which are those that this machine runs";
}

// What serves when a call names no architecture: the best, or the one that THROUGHTIME_ARCH names. Where that cannot
// serve, no call does: the import goes well, so that the error is not taken for an extension that is missing.
class Default {
 public:
  Default() : arch_(best_architecture()) {
    const char* forced = std::getenv("THROUGHTIME_ARCH");
    if (!forced || !*forced || (parse_architecture(forced, arch_) && is_supported(arch_))) return;
    wrong_ = "THROUGHTIME_ARCH is " + not_an_architecture(forced) + ". Set it to one of them, or unset it to have the best.";
  }
  ArchName operator()() const {
    if (!wrong_.empty()) raise_value(wrong_);
    return arch_;
  }

 private:
  ArchName arch_;
  std::string wrong_;
};

const Default default_architecture;

// ---- Words and numbers

template <class T>
T read(nb::handle object, const char* name, const char* expected) {
  T value;
  if (!nb::try_cast(object, value, false)) raise_type(std::string(name) + " is a " + class_of(object) + "; expected " + expected + ".");
  return value;
}

Keep parse_keep(nb::handle object) {
  const auto keep = read<std::string>(object, "keep", "'fast', 'lean' or 'none'");
  if (keep == "none") return Keep::none;
  if (keep == "lean") return Keep::lean;
  if (keep == "fast") return Keep::fast;
  raise_value("keep is '" + keep + "'; expected 'fast' (gates kept), 'lean' (gates computed again) or 'none' (no backward).");
}

// One of the kinds, or the number of a loaded cell.
int parse_cell(nb::handle object) {
  const int cell = read<int>(object, "cell", "one of this module's constants, such as GRU");
  if (cell < 0 || (cell > static_cast<int>(CellKind::lstm) && cell < first_loaded))
    raise_value("cell is " + std::to_string(cell) + "; expected one of this module's constants, such as GRU, or what load_cell returned.");
  return cell;
}

template <class T>
const Kernel<T>& kernel_of_cell(int cell, ArchName arch) {
  if (cell < first_loaded) return kernel<T>(static_cast<CellKind>(cell), arch);
  if (const Kernel<T>* found = loaded_kernel<T>(cell, arch)) return *found;
  raise_value("cell is " + std::to_string(cell) + ", which was not loaded for float" + (sizeof(T) == 4 ? "32" : "64") + " and " +
              name_of(arch) + "; expected what load_cell returned for these.");
}

ArchName parse_arch(nb::handle arch) {
  if (arch.is_none()) return default_architecture();
  ArchName a;
  const auto name = read<std::string>(arch, "arch", "a name from architectures(), or None");
  if (!parse_architecture(name.c_str(), a) || !is_supported(a)) raise_value("arch is " + not_an_architecture(name) + ".");
  return a;
}

int parse_threads(nb::handle object) {
  const int threads = read<int>(object, "threads", "an int");
  if (threads < 1) raise_value("threads is " + std::to_string(threads) + "; expected at least 1.");
  return threads < 64 ? threads : 64;
}

// ---- Arrays

template <class T> constexpr Element element_for = sizeof(T) == 4 ? Element::float32 : Element::float64;
template <> constexpr Element element_for<std::int64_t> = Element::int64;
template <> constexpr Element element_for<std::uint8_t> = Element::boolean;

// What an array must be: its sizes, and their letters.
struct Axes {
  std::initializer_list<Index> sizes;
  const char* letters;
};

// An array that a call reads, or null for None.
template <class T>
const T* input(nb::handle object, const char* name, Axes axes) {
  if (object.is_none()) return nullptr;
  const Array a(object, name, false);
  a.expect(element_for<T>, axes.sizes, axes.letters);
  return a.data<const T>();
}

template <class T>
const T* required(nb::handle object, const char* name, Axes axes) {
  const T* p = input<T>(object, name, axes);
  if (!p) raise_type(std::string(name) + " is None; expected an array " + axes.letters + ".");
  return p;
}

// An array that a call writes, or null for None.
template <class T>
T* output(nb::handle object, const char* name, Axes axes) {
  if (object.is_none()) return nullptr;
  const Array a(object, name, true);
  a.expect(element_for<T>, axes.sizes, axes.letters);
  return a.data<T>();
}

template <class T>
T* required_output(nb::handle object, const char* name, Axes axes) {
  T* p = output<T>(object, name, axes);
  if (!p) raise_type(std::string(name) + " is None; expected an array " + axes.letters + " to write to.");
  return p;
}

// The entries of a tuple, one after the other.
class Entries {
 public:
  Entries(nb::handle tuple, std::size_t count, const char* expected) : tuple_(tuple) {
    if (!nb::isinstance<nb::tuple>(tuple)) raise_type("a " + class_of(tuple) + " was given; expected the tuple " + expected + ".");
    if (nb::len(tuple) != count) raise_value("a tuple of " + std::to_string(nb::len(tuple)) + " was given; expected " + expected + ".");
  }
  nb::handle next() { return nb::borrow<nb::tuple>(tuple_)[next_++].ptr(); }
  void skip(std::size_t count) { next_ += count; }

 private:
  nb::handle tuple_;
  std::size_t next_ = 0;
};

// How messages call a state and its arrays.
struct StateNames { const char *whole, *each[max_states]; };

// The S arrays (B, H) of a state, each by `check`; None leaves `to` as it is.
template <class T, class P>
void read_states(nb::handle object, const StateNames& names, const Layer<T>& c, P (*check)(nb::handle, const char*, Axes), P* to) {
  if (object.is_none()) return;
  Entries entries(object, static_cast<std::size_t>(c.kernel->states), names.whole);
  for (int k = 0; k < c.kernel->states; ++k) to[k] = check(entries.next(), names.each[k], {{c.n.B, c.n.H}, "(B, H)"});
}

// ---- Calls

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
std::vector<std::int64_t> checked_lengths(nb::handle object, Sizes n) {
  const std::int64_t* given = input<std::int64_t>(object, "lengths", {{n.B}, "(B,)"});
  if (!given) return {};
  const std::vector<std::int64_t> lengths(given, given + n.B);
  for (Index b = 0; b < n.B; ++b)
    if (const std::int64_t length = lengths[static_cast<std::size_t>(b)]; length < 0 || length > n.T)
      raise_value("lengths[" + std::to_string(b) + "] is " + std::to_string(length) + "; expected 0 to T = " + std::to_string(n.T) + ".");
  return lengths;
}

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

template <class T>
void forward(const LayerArguments& layer, Entries results) {
  const ForwardCall<T> c = forward_call<T>(layer, results);
  const WithoutGil nogil;
  run(c, layer.threads);
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

template <class T>
void backward(const LayerArguments& layer, const BackwardArguments& a) {
  const BackwardCall<T> c = backward_call<T>(layer, a);
  const WithoutGil nogil;
  run(c, layer.threads);
}

// ---- Several layers over the same steps, from the first to the last, with weights as torch stores them

constexpr std::size_t arrays_of_layer = 4;  // W (G·H, I), R (E·H, H), b_ih (G·H) and b_hh (E·H) or None

struct StackArguments {
  int cell;
  nb::handle xs, state, weights, vectors;
  int layers;
  Keep keep;
  int threads;

  explicit StackArguments(nb::handle call) {
    Entries e(call, 7, "call = (cell, xs, state, weights, vectors, keep, threads)");
    cell = parse_cell(e.next());
    xs = e.next(), state = e.next(), weights = e.next(), vectors = e.next();
    if (!nb::isinstance<nb::tuple>(weights) || nb::len(weights) == 0 || nb::len(weights) % arrays_of_layer)
      raise_value("weights is a " + class_of(weights) + "; expected a tuple of W, R, b_ih and b_hh for each layer.");
    layers = static_cast<int>(nb::len(weights) / arrays_of_layer);
    keep = parse_keep(e.next());
    threads = parse_threads(e.next());
  }
};

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

// float32 or float64, by what xs is.
bool is_double(nb::handle xs, const char* name) {
  const Array a(xs, name, false);
  if (a.element() == Element::float64) return true;
  if (a.element() == Element::float32) return false;
  raise_type(std::string(name) + " is " + a.described() + "; expected float32 or float64. Convert with .to(...).");
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

// ---- Several layers over the same steps, each called as one layer is

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

// ---- One step after another

// Several layers that keep their state and their packed weights from step to step. Its owner calls it from one thread at a
// time: it keeps the GIL, which for a step would take as long to pass on as the step.
template <class T>
class StepsOf {
 public:
  StepsOf(const StackArguments& a, Index B) : B_(B) {
    for (int l = 0; l < a.layers; ++l) {
      ForwardCall<T> c{};
      check_stepped_layer(c, a, l);
      I_ = l ? I_ : c.n.I;
      H_ = c.n.H, S_ = c.kernel->states;
      layers_.emplace_back(c, a.threads);
    }
    for (auto& state : state_) state.assign(static_cast<std::size_t>(S_ * a.layers * B_ * H_), T(0));
    for (auto& h : between_) h.resize(static_cast<std::size_t>(B_ * H_));
  }

  void step(nb::handle x, nb::handle y) {
    const T* below = required<T>(x, "x", {{B_, I_}, "(B, I)"});
    T* const top = required_output<T>(y, "y", {{B_, H_}, "(B, H)"});
    const std::size_t L = layers_.size();
    for (std::size_t l = 0; l < L; ++l) {
      const T* before[max_states] = {};
      T* after[max_states] = {};
      for (int k = 0; k < S_; ++k) before[k] = at(now_, k, l), after[k] = at(1 - now_, k, l);
      T* const h = l + 1 == L ? top : between_[l % 2].data();
      layers_[l].step(below, before, h, after);
      below = h;
    }
    now_ = 1 - now_;
  }

  void read_state(nb::handle states) {
    each_state(states, required_output<T>, [](T* theirs, T* mine, std::size_t n) { std::memcpy(theirs, mine, n); });
  }
  void write_state(nb::handle states) {
    each_state(states, required<T>, [](const T* theirs, T* mine, std::size_t n) { std::memcpy(mine, theirs, n); });
  }

 private:
  void check_stepped_layer(ForwardCall<T>& c, const StackArguments& a, int layer) {
    c.kernel = &kernel_of_cell<T>(a.cell, default_architecture());
    c.keep = Keep::none;
    const Index G = c.kernel->gates;
    Entries entries(a.weights, arrays_of_layer * static_cast<std::size_t>(a.layers), "weights");
    entries.skip(arrays_of_layer * static_cast<std::size_t>(layer));
    const nb::handle W = entries.next(), R = entries.next();
    const Array input_weights(W, "W", false), recurrent(R, "R", false);
    if (input_weights.ndim() != 2 || input_weights.size(1) < 1) raise_value("W is " + input_weights.described() + "; expected (G*H, I), I at least 1.");
    if (recurrent.ndim() != 2 || recurrent.size(1) < 1) raise_value("R is " + recurrent.described() + "; expected (G*H, H), H at least 1.");
    const Index I = layer ? H_ : input_weights.size(1), H = layer ? H_ : recurrent.size(1);
    c.n = {1, B_, I, H};
    c.W = c.xs = required<T>(W, "W", {{G * H, I}, "(G*H, I)"});  // xs: anything but null
    c.R = required<T>(R, "R", {{G * H, H}, "(G*H, H)"});
    c.b_ih = input<T>(entries.next(), "b_ih", {{G * H}, "(G*H,)"});
    c.b_hh = input<T>(entries.next(), "b_hh", {{G * H}, "(G*H,)"});
  }

  T* at(int which, int state, std::size_t layer) { return state_[which].data() + (static_cast<Index>(state) * layers() + static_cast<Index>(layer)) * B_ * H_; }
  Index layers() const { return static_cast<Index>(layers_.size()); }

  template <class P, class Copy>
  void each_state(nb::handle states, P (*check)(nb::handle, const char*, Axes), Copy copy) {
    static constexpr const char* names[] = {"state[0]", "state[1]"};
    Entries entries(states, static_cast<std::size_t>(S_), "state, a tuple of S arrays");
    P theirs[max_states] = {};
    for (int k = 0; k < S_; ++k) theirs[k] = check(entries.next(), names[k], {{layers(), B_, H_}, "(layers, B, H)"});
    for (int k = 0; k < S_; ++k) copy(theirs[k], at(now_, k, 0), static_cast<std::size_t>(layers() * B_ * H_) * sizeof(T));
  }

  Index B_, I_ = 0, H_ = 0;
  int S_ = 0, now_ = 0;  // now_: which of the two states is the present one
  std::vector<Stepper<T>> layers_;
  std::vector<T> state_[2], between_[2];  // (S, layers, B, H) each; (B, H) each
};

// Of float32 or of float64, by what the weights are.
class Steps {
 public:
  Steps(nb::handle cell, nb::handle weights, nb::handle streams, nb::handle threads) {
    const Index B = read<int>(streams, "streams", "an int");
    if (B < 1) raise_value("streams is " + std::to_string(B) + "; expected at least 1.");
    const StackArguments a(nb::make_tuple(cell, nb::none(), nb::none(), weights, nb::none(), "none", threads));
    Entries entries(a.weights, arrays_of_layer * static_cast<std::size_t>(a.layers), "weights");
    if (is_double(entries.next(), "W")) float64_.emplace(a, B);
    else float32_.emplace(a, B);
  }
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;

  void step(nb::handle x, nb::handle y) { float64_ ? float64_->step(x, y) : float32_->step(x, y); }
  void read_state(nb::handle states) { float64_ ? float64_->read_state(states) : float32_->read_state(states); }
  void write_state(nb::handle states) { float64_ ? float64_->write_state(states) : float32_->write_state(states); }

 private:
  std::optional<StepsOf<float>> float32_;
  std::optional<StepsOf<double>> float64_;
};

// ---- Sizes

// Refuses sizes whose arrays no memory holds, so that no product of them overflows.
void check_sizes(std::initializer_list<Index> sizes, const char* letters) {
  constexpr Index most = Index{1} << 48;
  Index product = 1;
  for (Index size : sizes)
    if (size < 1 || size > most / product)
      raise_value(std::string("one of ") + letters + " is below 1, or their product above 2^48; expected sizes of arrays that fit into memory.");
    else
      product *= size;
}

std::size_t residuals_size(nb::handle cell, std::array<Index, 3> sizes, nb::handle keep, bool float64, nb::handle arch) {
  const auto [T_, B, H] = sizes;
  check_sizes({T_, B, H}, "T, B, H");
  const int kind = parse_cell(cell);
  const ArchName a = parse_arch(arch);
  const Sizes n{T_, B, 1, H};
  const Keep kept = parse_keep(keep);
  return float64 ? kernel_of_cell<double>(kind, a).residuals_size(n, kept) : kernel_of_cell<float>(kind, a).residuals_size(n, kept);
}

template <class T>
std::array<std::size_t, 2> scratch_of_layer(int cell, Sizes n, Keep keep, int threads) {
  ForwardCall<T> forward{};
  BackwardCall<T> backward{};
  T anything;
  for (Layer<T>* c : std::initializer_list<Layer<T>*>{&forward, &backward})
    c->kernel = &kernel_of_cell<T>(cell, default_architecture()), c->n = n, c->keep = keep;
  backward.db_ih = backward.db_hh = backward.dxs = &anything;
  return {scratch_of(forward, threads), scratch_of(backward, threads)};
}

std::array<std::size_t, 2> scratch_size(nb::handle cell, std::array<Index, 4> sizes, nb::handle keep, bool float64, nb::handle threads) {
  const auto [T_, B, I, H] = sizes;
  check_sizes({T_, B, I}, "T, B, I");
  check_sizes({T_, B, H}, "T, B, H");
  check_sizes({H, std::max(I, H)}, "I, H");
  const auto of = float64 ? scratch_of_layer<double> : scratch_of_layer<float>;
  return of(parse_cell(cell), {T_, B, I, H}, parse_keep(keep), parse_threads(threads));
}

// ---- The loss, and functions for the tests of their accuracy

struct CrossEntropyArguments {
  nb::handle logits, targets, scale, losses;
  bool gradient;
  int threads;
  ArchName arch;

  explicit CrossEntropyArguments(nb::handle call) {
    Entries e(call, 7, "call = (logits, targets, scale, losses, gradient, threads, arch)");
    logits = e.next(), targets = e.next(), scale = e.next(), losses = e.next();
    gradient = read<bool>(e.next(), "gradient", "a bool");
    threads = parse_threads(e.next());
    arch = parse_arch(e.next());
  }
};

template <class A, class B>
bool overlap(const A* a, Index as, const B* b, Index bs) {
  const auto start = [](const auto* p) { return reinterpret_cast<std::uintptr_t>(p); };
  return start(a) < start(b + bs) && start(b) < start(a + as);
}

template <class T>
void cross_entropy(const CrossEntropyArguments& a) {
  const Array o(a.logits, "logits", a.gradient);
  if (o.ndim() != 2 || o.size(0) < 1 || o.size(1) < 1) raise_value("logits is " + o.described() + "; expected (N, V), each at least 1.");
  const Index N = o.size(0), V = o.size(1);
  o.expect(element_for<T>, {N, V}, "(N, V)");
  CrossEntropyCall<T> c{o.data<T>(), nullptr, nullptr, nullptr, N, V, a.gradient};
  c.targets = required<std::int64_t>(a.targets, "targets", {{N}, "(N,)"});
  for (Index i = 0; i < N; ++i)
    if (c.targets[i] < 0 || c.targets[i] >= V)
      raise_value("targets[" + std::to_string(i) + "] is " + std::to_string(c.targets[i]) + "; expected 0 to V - 1 = " + std::to_string(V - 1) + ".");
  c.g = input<T>(a.scale, "scale", {{N}, "(N,)"});
  c.losses = required_output<T>(a.losses, "losses", {{N}, "(N,)"});
  if (overlap(c.targets, N, c.o, N * V) || overlap(c.targets, N, c.losses, N))
    raise_value("targets shares memory with logits or losses, which are written; expected targets in memory of their own. Pass a copy.");
  const WithoutGil nogil;
  run(functions<T>(a.arch), c, a.threads);
}

void cross_entropy_any(nb::handle call) {
  const CrossEntropyArguments a(call);
  is_double(a.logits, "logits") ? cross_entropy<double>(a) : cross_entropy<float>(a);
}

// y = f(x) elementwise.
template <class T>
void apply(nb::handle x, nb::handle y, nb::handle arch, void (*Functions<T>::*f)(const T*, T*, Index)) {
  const Array in(x, "x", false), out(y, "y", true);
  const Index n = in.ndim() == 1 ? in.size(0) : -1;
  in.expect(element_for<T>, {n}, "(n,)");
  out.expect(element_for<T>, {n}, "(n,)");
  (functions<T>(parse_arch(arch)).*f)(in.data<const T>(), out.data<T>(), n);
}

void tanh_any(nb::handle x, nb::handle y, nb::handle arch) {
  is_double(x, "x") ? apply<double>(x, y, arch, &Functions<double>::tanh) : apply<float>(x, y, arch, &Functions<float>::tanh);
}

void sigmoid_any(nb::handle x, nb::handle y, nb::handle arch) {
  is_double(x, "x") ? apply<double>(x, y, arch, &Functions<double>::sigmoid) : apply<float>(x, y, arch, &Functions<float>::sigmoid);
}

// ---- Cells that were compiled after this extension

int load(const std::string& path) {
  std::string why;
  const int cell = load_cell(path, why);
  if (cell < 0) raise_value(path + " is no cell for these kernels: " + why + ".");
  return cell;
}

}  // namespace

NB_MODULE(_kernels, m) {
  m.doc() = "Packed, fused kernels for backpropagation through time on the CPU.";

  m.attr("ELMAN_TANH") = static_cast<int>(CellKind::elman_tanh);
  m.attr("ELMAN_RELU") = static_cast<int>(CellKind::elman_relu);
  m.attr("ELMAN_IDENTITY") = static_cast<int>(CellKind::elman_identity);
  m.attr("ELMAN_SIGMOID") = static_cast<int>(CellKind::elman_sigmoid);
  m.attr("GRU") = static_cast<int>(CellKind::gru);
  m.attr("LSTM") = static_cast<int>(CellKind::lstm);

  m.def("architecture", [] { return std::string(name_of(default_architecture())); },
        "The architecture that serves when none is asked for. Raises ValueError where THROUGHTIME_ARCH names none that can.");
  m.def("architectures", &supported_architectures, "Those that this machine can run, plainest first.");
  m.def("headers", [] { return std::string(THROUGHTIME_HEADERS); }, "A sum over the headers that this extension was compiled from.");
  m.def("load_cell", &load, "path"_a,
        "The number of a cell that was compiled against the headers that headers() names, for one architecture and element type. Runs the file's code.");
  m.def("residuals_size", &residuals_size, "cell"_a, "sizes"_a, "keep"_a, "float64"_a, "arch"_a.none() = nb::none(),
        "How many elements forward leaves in `residuals`; sizes: (T, B, H).");
  m.def("scratch_size", &scratch_size, "cell"_a, "sizes"_a, "keep"_a, "float64"_a, "threads"_a,
        "Bytes of scratch while forward runs, and while backward does; sizes: (T, B, I, H).");
  m.def("forward", &forward_any, "call"_a, "results"_a,
        "One layer forward over all of time.\n\n"
        "call: (cell, xs, state, (W, R, b_ih, b_hh), lengths, reset, restart, reverse, keep, threads, arch);\n"
        "a loaded cell's weights: (W, R, b_ih, b_hh, parameters (P, H) or None);\n"
        "results, written: (hs, last, residuals).");
  m.def("backward", &backward_any, "call"_a, "run"_a, "arriving"_a, "results"_a,
        "The same layer backward.\n\n"
        "call: as forward's; run: (hs, residuals) of forward; arriving: (dhs, dlast, clip);\n"
        "results, written: (dxs, dstate, (dW, dR, db_ih, db_hh), drestart); a loaded cell's: (dW, dR, db_ih, db_hh, dparameters (L, H) or None).");
  m.def("forward_layers", &forward_layers_any, "call"_a, "results"_a,
        "Several layers forward, from the first step to the last, with weights as torch stores them.\n\n"
        "call: (cell, xs, state or None, weights, vectors or None, keep, threads), weights one tuple of W, R, b_ih, b_hh of every layer,\n"
        "vectors another of the arrays (H,) that a loaded cell has of its own, those of every layer, learned ones first;\n"
        "results, written: (hs, last, residuals): tuples of one array for each layer, of S arrays (layers, B, H), and again of one for each.");
  m.def("backward_layers", &backward_layers_any, "call"_a, "run"_a, "arriving"_a, "results"_a,
        "The same layers backward.\n\n"
        "call: as forward_layers's; run: (hs, residuals) of it; arriving: (dhs, dlast);\n"
        "results, written: (dxs, dstate, dweights, dvectors, between), between a tuple of one or two arrays (T, B, H) of no meaning afterwards.");
  m.def("forward_stack", &forward_stack_any, "layers"_a,
        "Several layers forward, each over the hs of the one before; for small batches they take turns in time.\n\n"
        "layers: a tuple of (call, results) of forward for each, from the first to the last.");
  m.def("backward_stack", &backward_stack_any, "layers"_a,
        "The same layers backward, the dxs of each the dhs of the next.\n\n"
        "layers: a tuple of (call, run, arriving, results) of backward for each, from the last to the first.");
  nb::class_<Steps>(m, "Steps",
        "Layers from the first to the last that keep their state and their packed weights from step to step.\n\n"
        "Call one from one thread at a time: it keeps the interpreter's lock.")
      .def(nb::init<nb::handle, nb::handle, nb::handle, nb::handle>(), "cell"_a, "weights"_a, "streams"_a, "threads"_a,
           "weights: one tuple of W, R, b_ih, b_hh of every layer, as torch stores them; they are copied. The state is zero.")
      .def("step", &Steps::step, "x"_a.none(), "y"_a.none(), "One step of every stream: x (B, I); y (B, H), written.")
      .def("read_state", &Steps::read_state, "state"_a.none(), "Copies the state into a tuple of S arrays (layers, B, H).")
      .def("write_state", &Steps::write_state, "state"_a.none(), "Copies the state from a tuple of S arrays (layers, B, H).");
  m.def("cross_entropy", &cross_entropy_any, "call"_a,
        "losses (N) = cross-entropy in nats of the rows of logits (N, V).\n\n"
        "call: (logits, targets, scale, losses, gradient, threads, arch); with gradient, logits become (softmax - one-hot) * scale.");
  m.def("tanh", &tanh_any, "x"_a, "y"_a, "arch"_a.none() = nb::none(), "y = tanh(x), as the kernels compute it.");
  m.def("sigmoid", &sigmoid_any, "x"_a, "y"_a, "arch"_a.none() = nb::none(), "y = 1 / (1 + exp(-x)), as the kernels compute it.");

  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&keep_threads_in_kernels));
}
