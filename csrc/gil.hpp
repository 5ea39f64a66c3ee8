// Python's lock, dropped while a kernel runs; and what becomes of daemon threads when the interpreter ends.
//
// Before Python 3.14 a daemon thread that asks for the lock while the interpreter ends is unwound by force. C++ frames
// do not bear that: the process ends in std::terminate. PyTorch's frames and ours are alike in this. So:
//   * a thread that is in a kernel when the interpreter ends stays there: it sleeps, and dies with the process;
//   * those that are anywhere else, but have run kernels, get a moment to come into one, as a training loop soon does.
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

// To be called once, with the lock, when the interpreter begins to end.
void keep_threads_in_kernels();

}  // namespace throughtime
