// How one thread waits for another. For files that are compiled once: the architectures' include nothing of the library.
#pragma once

#include <sched.h>

#include <chrono>

namespace throughtime {

// Spins for a while, about 20 to 80 µs, then yields for as long as it takes. Returns whether that was so long (a millisecond) that
// the thread it waits for must have lost its core.
template <class Ready>
bool wait_until(Ready ready) {
  for (int n = 0; n < 2000; ++n) {
    if (ready()) return false;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  using namespace std::chrono;
  const auto began = steady_clock::now();
  while (!ready()) sched_yield();
  return steady_clock::now() - began > milliseconds(1);
}

}  // namespace throughtime
