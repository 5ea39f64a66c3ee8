// Releases Python's lock while a kernel runs, and keeps daemon threads safe when the interpreter ends.
//
// Before Python 3.14, a daemon thread that requests the lock while the interpreter ends is unwound by force. C++ frames do not
// survive that: the process ends in std::terminate, in PyTorch's frames as in these. Therefore:
//   * a thread that is in a kernel when the interpreter ends stays there: it sleeps until the process ends;
//   * threads that have run kernels and are elsewhere get a moment to enter one, as a training loop soon does.
#pragma once

#include <nanobind/nanobind.h>

namespace throughtime {

class WithoutGil {
 public:
  WithoutGil();
  ~WithoutGil();
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

// Call it once, with the lock held, when the interpreter begins to end.
void keep_threads_in_kernels();

}  // namespace throughtime
