#include "gil.hpp"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace throughtime {

namespace {

std::atomic<bool> ending{false};
std::atomic<int> inside{0};  // threads in a kernel: none of them holds the lock
std::atomic<int> users{0};   // living threads that have run a kernel

// One thread among `users`, for as long as it lives.
struct User {
  User() { users.fetch_add(1); }
  ~User() { users.fetch_sub(1); }
};

void count_this_thread() { static thread_local User user; (void)user; }

// In the child of a fork there is one thread, and it is in no kernel.
void count_anew() {
  count_this_thread();
  users.store(1), inside.store(0);
}

[[noreturn]] void sleep_for_good() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
}

}  // namespace

WithoutGil::WithoutGil() {
  [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, count_anew);
  count_this_thread();
  inside.fetch_add(1);
  state_ = PyEval_SaveThread();
}

// Count the thread out first, then read `ending`: a thread that sets `ending` and then counts those inside knows that no other leaves.
WithoutGil::~WithoutGil() {
  inside.fetch_sub(1);
  if (ending.load()) {
    inside.fetch_add(1);
    sleep_for_good();
  }
  PyEval_RestoreThread(state_);
}

void keep_threads_in_kernels() {
  constexpr int most_ms = 1000;
  count_this_thread();
  ending.store(true);
  nanobind::gil_scoped_release nogil;
  for (int ms = 0; ms < most_ms && inside.load() < users.load() - 1; ++ms) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

}  // namespace throughtime
