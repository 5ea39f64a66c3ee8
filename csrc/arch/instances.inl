// Included by each arch/<name>.cpp with ARCH defined: instantiates every kernel under that architecture's tag, for the
// element type that the build names (one object file each, so that they compile side by side).
#include "../cells/elman.hpp"
#include "../cells/gru.hpp"
#include "../cells/lstm.hpp"
#include "../cross_entropy.hpp"
#include "../recurrence.hpp"

namespace throughtime {

template <class Arch, class T>
const Kernel<T>& kernel_for(CellKind kind) {
  switch (kind) {
    case CellKind::elman_tanh: return kernel_of<Elman<Tanh>, T, Arch>;
    case CellKind::elman_relu: return kernel_of<Elman<Relu>, T, Arch>;
    case CellKind::elman_identity: return kernel_of<Elman<Identity>, T, Arch>;
    case CellKind::elman_sigmoid: return kernel_of<Elman<Sigmoid>, T, Arch>;
    case CellKind::gru: return kernel_of<GRU, T, Arch>;
    case CellKind::lstm: return kernel_of<LSTM, T, Arch>;
  }
  __builtin_unreachable();
}

template <class Arch, class T>
void kernel_from(const CellTable& cell, LoadedKernel<T>& to) {
  const CellKernel<T, Arch> kernel = {{cell.form, Vec<T, Arch>::width, phases_of<ForwardPass<T, Arch>, ForwardWalk<T, Arch>>,
                                       phases_of<BackwardPass<T, Arch>, BackwardWalk<T, Arch>>,
                                       reinterpret_cast<void (*)(const T*, Index, T*)>(cell.prepare)},
                                      reinterpret_cast<typename ForwardTraversal<T, Arch>::Tile>(cell.forward),
                                      reinterpret_cast<typename BackwardTraversal<T, Arch>::Tile>(cell.backward),
                                      reinterpret_cast<typename ForwardTraversal<T, Arch>::Tile>(cell.between),
                                      reinterpret_cast<typename BackwardTraversal<T, Arch>::Tile>(cell.backward_late)};
  static_assert(sizeof kernel == sizeof to.room);
  __builtin_memcpy(to.room, &kernel, sizeof kernel);
}

template <class Arch, class T, class F>
void apply(const T* x, T* y, Index n, F f) {
  using V = Vec<T, Arch>;
  for (Index i = 0; i < n; i += V::width) {
    const int count = n - i < V::width ? static_cast<int>(n - i) : V::width;
    f(V::load(x + i, count)).store(y + i, count);
  }
}

template <class Arch, class T>
void tanh_of(const T* x, T* y, Index n) { apply<Arch>(x, y, n, [](Vec<T, Arch> v) { return tanh(v); }); }

template <class Arch, class T>
void sigmoid_of(const T* x, T* y, Index n) { apply<Arch>(x, y, n, [](Vec<T, Arch> v) { return sigmoid(v); }); }

template <class Arch, class T>
const Functions<T>& functions_for() {
  static constexpr Functions<T> functions = {&tanh_of<Arch, T>, &sigmoid_of<Arch, T>, &cross_entropy_rows<T, Arch>};
  return functions;
}

template const Kernel<THROUGHTIME_ELEMENT>& kernel_for<ARCH, THROUGHTIME_ELEMENT>(CellKind);
template void kernel_from<ARCH, THROUGHTIME_ELEMENT>(const CellTable&, LoadedKernel<THROUGHTIME_ELEMENT>&);
template const Functions<THROUGHTIME_ELEMENT>& functions_for<ARCH, THROUGHTIME_ELEMENT>();

}  // namespace throughtime
