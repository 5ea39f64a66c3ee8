// Which architecture serves, how a call is divided among threads, and where its scratch comes from.
#pragma once

#include "kernels.hpp"

namespace throughtime {

enum class ArchName { baseline, avx2, avx512, neon };

const char* name_of(ArchName);
bool is_supported(ArchName);              // built into this extension, and known to this machine
ArchName best_architecture();             // the best supported
bool parse_architecture(const char* name, ArchName& arch);

template <class T> const Kernel<T>& kernel(CellKind, ArchName);
template <class T> const Functions<T>& functions(ArchName);

// Whole passes. Throws std::bad_alloc when there is no memory for scratch, and then has written nothing.
template <class T> void run_forward(CellKind, ArchName, const ForwardCall<T>&, int threads);
template <class T> void run_backward(CellKind, ArchName, const BackwardCall<T>&, int threads);


// Rows of logits (N, V); see cross_entropy.hpp.
template <class T>
struct CrossEntropyCall {
  T* o;
  const std::int64_t* targets;
  const T* g;
  T* losses;
  Index N, V;
  bool gradient;
};
template <class T> void run_cross_entropy(ArchName, const CrossEntropyCall<T>&, int threads);

}  // namespace throughtime
