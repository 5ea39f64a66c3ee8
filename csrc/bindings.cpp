// The only file that knows of the module's Python face. It checks every array, drops the GIL and calls a kernel.
//
// T time, B batch, I input, H hidden, G gates, S states.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "dispatch.hpp"
#include "gil.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace throughtime;

namespace {

constexpr ArchName all_architectures[] = {ArchName::baseline, ArchName::avx2, ArchName::avx512, ArchName::neon};  // plainest first

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
    if (!wrong_.empty()) throw nb::value_error(wrong_.c_str());
    return arch_;
  }

 private:
  ArchName arch_;
  std::string wrong_;
};

const Default default_architecture;

template <class T> constexpr Element element_for = sizeof(T) == 4 ? Element::float32 : Element::float64;

// An array that a call reads, or null for None.
template <class T>
const T* input(nb::handle object, const char* name, Element element, std::initializer_list<Index> sizes, const char* axes) {
  if (object.is_none()) return nullptr;
  const Array a(object, name, false);
  a.expect(element, sizes, axes);
  return a.data<const T>();
}

template <class T>
const T* required(nb::handle object, const char* name, std::initializer_list<Index> sizes, const char* axes) {
  const T* p = input<T>(object, name, element_for<T>, sizes, axes);
  if (!p) throw nb::type_error((std::string(name) + " is None; expected an array " + axes + ".").c_str());
  return p;
}

template <class T>
T* output(nb::handle object, const char* name, std::initializer_list<Index> sizes, const char* axes) {
  if (object.is_none()) return nullptr;
  const Array a(object, name, true);
  a.expect(element_for<T>, sizes, axes);
  return a.data<T>();
}

template <class T>
T* required_output(nb::handle object, const char* name, std::initializer_list<Index> sizes, const char* axes) {
  T* p = output<T>(object, name, sizes, axes);
  if (!p) throw nb::type_error((std::string(name) + " is None; expected an array " + axes + " to write to.").c_str());
  return p;
}

Keep parse_keep(const char* keep) {
  const std::string k = keep;
  if (k == "none") return Keep::none;
  if (k == "lean") return Keep::lean;
  if (k == "fast") return Keep::fast;
  throw nb::value_error(("keep is '" + k + "'; expected 'fast' (gates kept), 'lean' (gates computed again) or 'none' (no backward).").c_str());
}

CellKind parse_cell(int kind) {
  if (kind < 0 || kind > static_cast<int>(CellKind::lstm))
    throw nb::value_error(("cell is " + std::to_string(kind) + "; expected one of this module's constants, such as GRU.").c_str());
  return static_cast<CellKind>(kind);
}

ArchName parse_arch(nb::handle arch) {
  if (arch.is_none()) return default_architecture();
  ArchName a;
  const std::string name = nb::cast<std::string>(arch);
  if (!parse_architecture(name.c_str(), a) || !is_supported(a)) throw nb::value_error(("arch is " + not_an_architecture(name) + ".").c_str());
  return a;
}

int parse_threads(int threads) {
  if (threads < 1) throw nb::value_error(("threads is " + std::to_string(threads) + "; expected at least 1.").c_str());
  return threads < 64 ? threads : 64;
}

// What both passes are told about the layer. Where W is None, xs is (T, B, G, H), the input half already made.
struct LayerArguments {
  nb::handle xs, h0, c0, W, R, b_ih, b_hh, lengths, reset, restart_h, restart_c;
  bool reverse;
  Keep keep;
};

template <class T>
void input_and_weights(Layer<T>& c, const LayerArguments& a, Index G) {
  const Array xs(a.xs, "xs", false), W(a.W, "W", false);
  if (xs.ndim() != 3 || xs.size(0) < 1 || xs.size(1) < 1 || xs.size(2) < 1)
    throw nb::value_error(("xs is " + xs.described() + "; expected (T, B, I), each at least 1. Time comes first.").c_str());
  if (W.ndim() != 3 || W.size(1) < 1)
    throw nb::value_error(("W is " + W.described() + "; expected (G, H, I), H at least 1.").c_str());
  c.n = {xs.size(0), xs.size(1), xs.size(2), W.size(1)};
  xs.expect(element_for<T>, {c.n.T, c.n.B, c.n.I}, "(T, B, I)");
  W.expect(element_for<T>, {G, c.n.H, c.n.I}, "(G, H, I)");
  c.xs = xs.data<const T>();
  c.W = W.data<const T>();
  c.b_ih = input<T>(a.b_ih, "b_ih", element_for<T>, {G, c.n.H}, "(G, H)");
}

template <class T>
void given_input_half(Layer<T>& c, const LayerArguments& a, Index G) {
  const Array wx(a.xs, "xs", false);
  if (wx.ndim() != 4 || wx.size(0) < 1 || wx.size(1) < 1 || wx.size(3) < 1)
    throw nb::value_error(("xs is " + wx.described() + " and W is None; expected (T, B, G, H), each at least 1: W x + b_ih, already made.").c_str());
  if (!a.b_ih.is_none()) throw nb::value_error("b_ih is given and W is None; expected neither or W: where the input half is made, b_ih is in it.");
  c.n = {wx.size(0), wx.size(1), 0, wx.size(3)};
  wx.expect(element_for<T>, {c.n.T, c.n.B, G, c.n.H}, "(T, B, G, H)");
  c.wx = wx.data<const T>();
}

template <class T>
Layer<T> check_layer(const Kernel<T>& k, const LayerArguments& a) {
  Layer<T> c{};
  const Index G = k.gates;
  if (a.W.is_none()) given_input_half(c, a, G);
  else input_and_weights(c, a, G);
  const Index T_ = c.n.T, B = c.n.B, H = c.n.H;
  c.R = required<T>(a.R, "R", {G, H, H}, "(G, H, H)");
  c.b_hh = input<T>(a.b_hh, "b_hh", element_for<T>, {G, H}, "(G, H)");
  c.state[0] = required<T>(a.h0, "h0", {B, H}, "(B, H)");
  if (k.states > 1) c.state[1] = required<T>(a.c0, "c0", {B, H}, "(B, H)");
  c.lengths = input<std::int64_t>(a.lengths, "lengths", Element::int64, {B}, "(B,)");
  if (c.lengths)
    for (Index b = 0; b < B; ++b)
      if (c.lengths[b] < 0 || c.lengths[b] > T_)
        throw nb::value_error(("lengths[" + std::to_string(b) + "] is " + std::to_string(c.lengths[b]) + "; expected 0 to T = " + std::to_string(T_) + ".").c_str());
  c.reset = input<std::uint8_t>(a.reset, "reset", Element::boolean, {T_, B}, "(T, B)");
  c.restart[0] = input<T>(a.restart_h, "restart_h", element_for<T>, {B, H}, "(B, H)");
  if (k.states > 1) c.restart[1] = input<T>(a.restart_c, "restart_c", element_for<T>, {B, H}, "(B, H)");
  c.reverse = a.reverse;
  c.keep = a.keep;
  return c;
}

template <class T>
void forward(CellKind kind, ArchName arch, const LayerArguments& layer, nb::handle hs, nb::handle h_last, nb::handle c_last, nb::handle kept, int threads) {
  const Kernel<T>& k = kernel<T>(kind, arch);
  ForwardCall<T> c{check_layer<T>(k, layer), nullptr, {}, nullptr};
  c.hs = required_output<T>(hs, "hs", {c.n.T, c.n.B, c.n.H}, "(T, B, H)");
  c.last[0] = required_output<T>(h_last, "h_last", {c.n.B, c.n.H}, "(B, H)");
  if (k.states > 1) c.last[1] = required_output<T>(c_last, "c_last", {c.n.B, c.n.H}, "(B, H)");
  const Index size = static_cast<Index>(k.kept_size(c.n, c.keep));
  if (size > 0) c.kept = required_output<T>(kept, "kept", {size}, "(kept_size(...),)");
  const WithoutGil nogil;
  run_forward<T>(kind, arch, c, threads);
}

struct BackwardArguments {
  nb::handle hs, kept, dhs, dh_last, dc_last, dxs, dW, dR, db_ih, db_hh, dh0, dc0, drestart_h, drestart_c;
  double clip;
};

template <class T>
void backward(CellKind kind, ArchName arch, const LayerArguments& layer, const BackwardArguments& a, int threads) {
  const Kernel<T>& k = kernel<T>(kind, arch);
  BackwardCall<T> c{};
  static_cast<Layer<T>&>(c) = check_layer<T>(k, layer);
  const Sizes n = c.n;
  const Index G = k.gates;
  if (c.keep == Keep::none && k.kept > 0)
    throw nb::value_error("keep is 'none', which leaves nothing to go backward from; expected the 'fast' or 'lean' of the forward call.");
  c.hs = required<T>(a.hs, "hs", {n.T, n.B, n.H}, "(T, B, H)");
  const Index size = static_cast<Index>(k.kept_size(n, c.keep));
  if (size > 0) c.kept = required<T>(a.kept, "kept", {size}, "(kept_size(...),)");
  c.dhs = input<T>(a.dhs, "dhs", element_for<T>, {n.T, n.B, n.H}, "(T, B, H)");
  c.dlast[0] = input<T>(a.dh_last, "dh_last", element_for<T>, {n.B, n.H}, "(B, H)");
  c.clipped = a.clip >= 0;
  c.clip = static_cast<T>(a.clip);
  if (c.wx) {
    c.dwx = output<T>(a.dxs, "dxs", {n.T, n.B, G, n.H}, "(T, B, G, H)");
  } else {
    c.dxs = output<T>(a.dxs, "dxs", {n.T, n.B, n.I}, "(T, B, I)");
    c.dW = required_output<T>(a.dW, "dW", {G, n.H, n.I}, "(G, H, I)");
    c.db_ih = output<T>(a.db_ih, "db_ih", {G, n.H}, "(G, H)");
  }
  c.dR = required_output<T>(a.dR, "dR", {G, n.H, n.H}, "(G, H, H)");
  c.db_hh = output<T>(a.db_hh, "db_hh", {G, n.H}, "(G, H)");
  c.dstate[0] = required_output<T>(a.dh0, "dh0", {n.B, n.H}, "(B, H)");
  c.drestart[0] = output<T>(a.drestart_h, "drestart_h", {n.B, n.H}, "(B, H)");
  if (k.states > 1) {
    c.dlast[1] = input<T>(a.dc_last, "dc_last", element_for<T>, {n.B, n.H}, "(B, H)");
    c.dstate[1] = required_output<T>(a.dc0, "dc0", {n.B, n.H}, "(B, H)");
    c.drestart[1] = output<T>(a.drestart_c, "drestart_c", {n.B, n.H}, "(B, H)");
  }
  const WithoutGil nogil;
  run_backward<T>(kind, arch, c, threads);
}

// float32 or float64, by what xs is.
bool is_double(nb::handle xs, const char* name = "xs") {
  const Array a(xs, name, false);
  if (a.element() == Element::float64) return true;
  if (a.element() == Element::float32) return false;
  throw nb::type_error((std::string(name) + " is " + a.described() + "; expected float32 or float64. Convert with .to(...).").c_str());
}

void forward_any(int cell, nb::handle xs, nb::handle h0, nb::handle c0, nb::handle W, nb::handle R, nb::handle b_ih, nb::handle b_hh, nb::handle lengths,
                 nb::handle reset, nb::handle restart_h, nb::handle restart_c, bool reverse, const char* keep, nb::handle hs, nb::handle h_last,
                 nb::handle c_last, nb::handle kept, int threads, nb::handle arch) {
  const LayerArguments layer{xs, h0, c0, W, R, b_ih, b_hh, lengths, reset, restart_h, restart_c, reverse, parse_keep(keep)};
  const auto run = is_double(xs) ? forward<double> : forward<float>;
  run(parse_cell(cell), parse_arch(arch), layer, hs, h_last, c_last, kept, parse_threads(threads));
}

void backward_any(int cell, nb::handle xs, nb::handle h0, nb::handle c0, nb::handle W, nb::handle R, nb::handle b_ih, nb::handle b_hh, nb::handle lengths,
                  nb::handle reset, nb::handle restart_h, nb::handle restart_c, bool reverse, const char* keep, nb::handle hs, nb::handle kept,
                  nb::handle dhs, nb::handle dh_last, nb::handle dc_last, double clip, nb::handle dxs, nb::handle dW, nb::handle dR, nb::handle db_ih,
                  nb::handle db_hh, nb::handle dh0, nb::handle dc0, nb::handle drestart_h, nb::handle drestart_c, int threads, nb::handle arch) {
  const LayerArguments layer{xs, h0, c0, W, R, b_ih, b_hh, lengths, reset, restart_h, restart_c, reverse, parse_keep(keep)};
  const BackwardArguments a{hs, kept, dhs, dh_last, dc_last, dxs, dW, dR, db_ih, db_hh, dh0, dc0, drestart_h, drestart_c, clip};
  const auto run = is_double(xs) ? backward<double> : backward<float>;
  run(parse_cell(cell), parse_arch(arch), layer, a, parse_threads(threads));
}

std::size_t kept_size(int cell, Index T_, Index B, Index H, const char* keep, bool float64, nb::handle arch) {
  if (T_ < 1 || B < 1 || H < 1) throw nb::value_error("T, B and H are at least 1.");
  const CellKind kind = parse_cell(cell);
  const ArchName a = parse_arch(arch);
  const Sizes n{T_, B, 1, H};
  return float64 ? kernel<double>(kind, a).kept_size(n, parse_keep(keep)) : kernel<float>(kind, a).kept_size(n, parse_keep(keep));
}

template <class T>
void cross_entropy(nb::handle logits, nb::handle targets, nb::handle scale, nb::handle losses, bool gradient, int threads, ArchName arch) {
  const Array o(logits, "logits", gradient);
  if (o.ndim() != 2 || o.size(0) < 1 || o.size(1) < 1)
    throw nb::value_error(("logits is " + o.described() + "; expected (N, V), each at least 1.").c_str());
  const Index N = o.size(0), V = o.size(1);
  o.expect(element_for<T>, {N, V}, "(N, V)");
  CrossEntropyCall<T> c{o.data<T>(), nullptr, nullptr, nullptr, N, V, gradient};
  c.targets = input<std::int64_t>(targets, "targets", Element::int64, {N}, "(N,)");
  if (!c.targets) throw nb::type_error("targets is None; expected an array (N,) of int64.");
  for (Index i = 0; i < N; ++i)
    if (c.targets[i] < 0 || c.targets[i] >= V)
      throw nb::value_error(("targets[" + std::to_string(i) + "] is " + std::to_string(c.targets[i]) + "; expected 0 to V - 1 = " + std::to_string(V - 1) + ".").c_str());
  c.g = input<T>(scale, "scale", element_for<T>, {N}, "(N,)");
  c.losses = required_output<T>(losses, "losses", {N}, "(N,)");
  const WithoutGil nogil;
  run_cross_entropy<T>(arch, c, threads);
}

// y = f(x) elementwise, for the tests of accuracy.
template <class T>
void apply(nb::handle x, nb::handle y, nb::handle arch, void (*Functions<T>::*f)(const T*, T*, Index)) {
  const Array in(x, "x", false), out(y, "y", true);
  const Index n = in.ndim() == 1 ? in.size(0) : -1;
  in.expect(element_for<T>, {n}, "(n,)");
  out.expect(element_for<T>, {n}, "(n,)");
  (functions<T>(parse_arch(arch)).*f)(in.data<const T>(), out.data<T>(), n);
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
  m.def("kept_size", &kept_size, "cell"_a, "T"_a, "B"_a, "H"_a, "keep"_a, "float64"_a, "arch"_a.none() = nb::none(),
        "How many elements forward leaves in `kept`.");
  m.def("forward", &forward_any, "cell"_a, "xs"_a, "h0"_a, "c0"_a.none(), "W"_a.none(), "R"_a, "b_ih"_a.none(), "b_hh"_a.none(), "lengths"_a.none(), "reset"_a.none(),
        "restart_h"_a.none(), "restart_c"_a.none(), "reverse"_a, "keep"_a, "hs"_a, "h_last"_a, "c_last"_a.none(), "kept"_a.none(), "threads"_a, "arch"_a.none() = nb::none(),
        "One layer forward over all of time, into hs, h_last, c_last and kept.");
  m.def("backward", &backward_any, "cell"_a, "xs"_a, "h0"_a, "c0"_a.none(), "W"_a.none(), "R"_a, "b_ih"_a.none(), "b_hh"_a.none(), "lengths"_a.none(), "reset"_a.none(),
        "restart_h"_a.none(), "restart_c"_a.none(), "reverse"_a, "keep"_a, "hs"_a, "kept"_a.none(), "dhs"_a.none(), "dh_last"_a.none(), "dc_last"_a.none(), "clip"_a,
        "dxs"_a.none(), "dW"_a.none(), "dR"_a, "db_ih"_a.none(), "db_hh"_a.none(), "dh0"_a, "dc0"_a.none(), "drestart_h"_a.none(), "drestart_c"_a.none(), "threads"_a,
        "arch"_a.none() = nb::none(), "The same layer backward, into every array whose name begins with d; a negative clip is none.");
  m.def("cross_entropy", [](nb::handle logits, nb::handle targets, nb::handle scale, nb::handle losses, bool gradient, int threads, nb::handle arch) {
          const auto run = is_double(logits, "logits") ? cross_entropy<double> : cross_entropy<float>;
          run(logits, targets, scale, losses, gradient, parse_threads(threads), parse_arch(arch));
        }, "logits"_a, "targets"_a, "scale"_a.none(), "losses"_a, "gradient"_a, "threads"_a, "arch"_a.none() = nb::none(),
        "losses (N) = cross-entropy in nats of the rows of logits (N, V). With gradient, logits become (softmax - one-hot) * scale.");
  m.def("tanh", [](nb::handle x, nb::handle y, nb::handle arch) {
          is_double(x, "x") ? apply<double>(x, y, arch, &Functions<double>::tanh) : apply<float>(x, y, arch, &Functions<float>::tanh);
        }, "x"_a, "y"_a, "arch"_a.none() = nb::none(), "y = tanh(x), as the kernels compute it.");
  m.def("sigmoid", [](nb::handle x, nb::handle y, nb::handle arch) {
          is_double(x, "x") ? apply<double>(x, y, arch, &Functions<double>::sigmoid) : apply<float>(x, y, arch, &Functions<float>::sigmoid);
        }, "x"_a, "y"_a, "arch"_a.none() = nb::none(), "y = 1 / (1 + exp(-x)), as the kernels compute it.");

  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&keep_threads_in_kernels));
}
