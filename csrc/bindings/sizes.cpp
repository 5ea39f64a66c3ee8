// How large the arrays of a call are, told before it is made.
#include <nanobind/stl/array.h>

#include <algorithm>
#include <array>

#include "../run.hpp"
#include "arguments.hpp"
#include "module.hpp"

namespace throughtime {

using namespace nb::literals;

namespace {

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

}  // namespace

void add_sizes(nb::module_& m) {
  m.def("residuals_size", &residuals_size, "cell"_a, "sizes"_a, "keep"_a, "float64"_a, "arch"_a.none() = nb::none(),
        "How many elements forward leaves in `residuals`; sizes: (T, B, H).");
  m.def("scratch_size", &scratch_size, "cell"_a, "sizes"_a, "keep"_a, "float64"_a, "threads"_a,
        "Bytes of scratch while forward runs, and while backward does; sizes: (T, B, I, H).");
}

}  // namespace throughtime
