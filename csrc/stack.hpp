// The layers of a stack, which take turns.
#pragma once

#include <span>

#include "kernels.hpp"

namespace throughtime {

// The calls of a stack's layers, in the order in which they can be computed: each reads what the one before it writes. With a small
// batch, one thread computes a chunk of time of a layer while another computes the next chunk of the layer before. The result does
// not depend on the number of threads. Throws std::bad_alloc as run does.
template <class T> void run_stack(std::span<ForwardCall<T>> layers, int threads);
template <class T> void run_stack(std::span<BackwardCall<T>> layers, int threads);

}  // namespace throughtime
