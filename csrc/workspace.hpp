// One block of scratch, divided. The same code that hands out pointers, run with a null block, measures it.
#pragma once

#include "simd.hpp"

namespace throughtime {

struct Workspace {
  char* block;            // aligned to 64 bytes, or null to measure only; owned by the caller
  std::size_t used = 0;

  // `count` elements, aligned to a cache line, not initialised.
  template <class T>
  THROUGHTIME_INLINE T* take(Index count) {
    T* p = block ? reinterpret_cast<T*>(block + used) : nullptr;
    used += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return p;
  }
};

}  // namespace throughtime
