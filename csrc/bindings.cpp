// The only file that knows of the module's Python face. It checks every array, drops the GIL and runs the call.
//
// T time, B batch, I input, H hidden, G gates, S states.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "architectures.hpp"
#include "arrays.hpp"
#include "gil.hpp"
#include "loaded.hpp"
#include "run.hpp"

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

void check_lengths(const std::int64_t* lengths, Sizes n) {
  for (Index b = 0; lengths && b < n.B; ++b)
    if (lengths[b] < 0 || lengths[b] > n.T)
      raise_value("lengths[" + std::to_string(b) + "] is " + std::to_string(lengths[b]) + "; expected 0 to T = " + std::to_string(n.T) + ".");
}

template <class T>
void check_layer(Layer<T>& c, const LayerArguments& a) {
  c.kernel = &kernel_of_cell<T>(a.cell, a.arch);
  a.W.is_none() ? given_input_half(c, a) : input_and_weights(c, a);
  const auto [T_, B, I, H] = c.n;
  const Index G = c.kernel->gates;
  if (const Index P = c.kernel->parameters) c.parameters = required<T>(a.parameters, "parameters", {{P, H}, "(P, H)"});
  c.R = required<T>(a.R, "R", {{G, H, H}, "(G, H, H)"});
  c.b_hh = input<T>(a.b_hh, "b_hh", {{G, H}, "(G, H)"});
  if (a.state.is_none()) raise_type("state is None; expected a tuple of S arrays (B, H).");
  read_states(a.state, {"state, a tuple of S arrays", {"state[0]", "state[1]", "state[2]", "state[3]"}}, c, required<T>, c.state);
  read_states(a.restart, {"restart, a tuple of S arrays or None", {"restart[0]", "restart[1]", "restart[2]", "restart[3]"}}, c, input<T>, c.restart);
  c.lengths = input<std::int64_t>(a.lengths, "lengths", {{B}, "(B,)"});
  check_lengths(c.lengths, c.n);
  c.reset = input<std::uint8_t>(a.reset, "reset", {{T_, B}, "(T, B)"});
  c.reverse = a.reverse;
  c.keep = a.keep;
}

template <class T>
void forward(const LayerArguments& layer, Entries results) {
  ForwardCall<T> c{};
  check_layer<T>(c, layer);
  c.hs = required_output<T>(results.next(), "hs", {{c.n.T, c.n.B, c.n.H}, "(T, B, H)"});
  const nb::handle last = results.next(), residuals = results.next();
  if (last.is_none()) raise_type("last is None; expected a tuple of S arrays (B, H) to write to.");
  read_states(last, {"last, a tuple of S arrays", {"last[0]", "last[1]", "last[2]", "last[3]"}}, c, required_output<T>, c.last);
  if (const Index size = static_cast<Index>(c.kernel->residuals_size(c.n, c.keep)))
    c.residuals = required_output<T>(residuals, "residuals", {{size}, "(residuals_size(...),)"});
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
  const Index G = c.kernel->gates;
  c.dR = required_output<T>(a.dR, "dR", {{G, H, H}, "(G, H, H)"});
  c.db_hh = output<T>(a.db_hh, "db_hh", {{G, H}, "(G, H)"});
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
void backward(const LayerArguments& layer, const BackwardArguments& a) {
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
  const WithoutGil nogil;
  run(c, layer.threads);
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

// ---- Sizes

std::size_t residuals_size(nb::handle cell, std::array<Index, 3> sizes, nb::handle keep, bool float64, nb::handle arch) {
  const auto [T_, B, H] = sizes;
  if (T_ < 1 || B < 1 || H < 1) raise_value("T, B and H are at least 1.");
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
  if (T_ < 1 || B < 1 || I < 1 || H < 1) raise_value("T, B, I and H are at least 1.");
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
  m.def("cross_entropy", &cross_entropy_any, "call"_a,
        "losses (N) = cross-entropy in nats of the rows of logits (N, V).\n\n"
        "call: (logits, targets, scale, losses, gradient, threads, arch); with gradient, logits become (softmax - one-hot) * scale.");
  m.def("tanh", &tanh_any, "x"_a, "y"_a, "arch"_a.none() = nb::none(), "y = tanh(x), as the kernels compute it.");
  m.def("sigmoid", &sigmoid_any, "x"_a, "y"_a, "arch"_a.none() = nb::none(), "y = 1 / (1 + exp(-x)), as the kernels compute it.");

  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&keep_threads_in_kernels));
}
