// The loss, and functions for the tests of their accuracy.
#include <cstdint>

#include "../gil.hpp"
#include "../run.hpp"
#include "arguments.hpp"
#include "module.hpp"

namespace throughtime {

using namespace nb::literals;

namespace {

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

}  // namespace

void add_functions(nb::module_& m) {
  m.def("cross_entropy", &cross_entropy_any, "call"_a,
        "losses (N) = cross-entropy in nats of the rows of logits (N, V).\n\n"
        "call: (logits, targets, scale, losses, gradient, threads, arch); with gradient, logits become (softmax - one-hot) * scale.");
  m.def("tanh", &tanh_any, "x"_a, "y"_a, "arch"_a.none() = nb::none(), "y = tanh(x), as the kernels compute it.");
  m.def("sigmoid", &sigmoid_any, "x"_a, "y"_a, "arch"_a.none() = nb::none(), "y = 1 / (1 + exp(-x)), as the kernels compute it.");
}

}  // namespace throughtime
