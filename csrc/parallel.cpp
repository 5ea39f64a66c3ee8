#include "parallel.hpp"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <new>
#include <thread>

namespace throughtime {

namespace {

constexpr int barrier_spins = 2000;  // about 20 to 80 µs: many times what a step takes
constexpr int idle_spins = 4000;     // how long a worker stays awake after its last job
constexpr int gather_spins = 200;    // how long a caller waits for a team to turn up

void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Waits for at most `spins` pauses. Returns whether that was enough.
template <class Ready>
bool spin_until(Ready ready, int spins) {
  for (int n = 0; n < spins; ++n, pause())
    if (ready()) return true;
  return ready();
}

// Spins for a while, then yields for as long as it takes. Returns whether it had to yield.
template <class Ready>
bool wait_until(Ready ready) {
  if (spin_until(ready, barrier_spins)) return false;
  while (!ready()) sched_yield();
  return true;
}

// Whether there is a core for every member of a team. A late member says no, and each time for twice as long.
class Quiet {
 public:
  explicit operator bool() const { return now() >= from_.load(std::memory_order_relaxed); }
  void was_not() {
    const auto pause = pause_.load(std::memory_order_relaxed);
    if (pause < most) pause_.store(2 * pause, std::memory_order_relaxed);
    from_.store(now() + pause, std::memory_order_relaxed);
  }
  void was() {
    const auto pause = pause_.load(std::memory_order_relaxed);
    if (pause > least) pause_.store(pause - pause / 16, std::memory_order_relaxed);
  }

 private:
  static std::int64_t now() {
    using namespace std::chrono;
    return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
  }
  static constexpr std::int64_t least = 16'000, most = 2'048'000;  // microseconds
  std::atomic<std::int64_t> from_{0}, pause_{least};
};

Quiet quiet;

}  // namespace

class Team {
 public:
  static constexpr int most = 64;
  int size = 1;

  // Each member counts its own arrivals, on a cache line of its own, and reads the others'. The store releases what the
  // member wrote before; the loads acquire what the others did.
  bool meet(int member) {
    const long mine = arrivals_[member].count.load(std::memory_order_relaxed) + 1;
    arrivals_[member].count.store(mine, std::memory_order_release);
    bool late = false;
    for (const Arrivals& other : *this)
      late |= wait_until([&] { return other.count.load(std::memory_order_acquire) >= mine; });
    return late;
  }

 private:
  struct alignas(64) Arrivals { std::atomic<long> count{0}; };
  const Arrivals* begin() const { return arrivals_; }
  const Arrivals* end() const { return arrivals_ + size; }
  Arrivals arrivals_[most];
};

void meet(Team& team, int member) {
  if (team.meet(member) && member == 0) quiet.was_not();
}

namespace {

// What there is to do, in one word, so that a claim can never mix two jobs: how many parts, and how many are taken.
struct Ticket {
  std::uint64_t word;
  int parts() const { return static_cast<int>(word >> 16 & 0xffff); }
  int taken() const { return static_cast<int>(word & 0xffff); }
  bool is_open() const { return taken() < parts(); }
  Ticket claimed() const { return {word + 1}; }
  Ticket closed() const { return {(word & ~std::uint64_t{0xffff}) | (word >> 16 & 0xffff)}; }
  Ticket next(int parts) const { return {((word >> 32) + 1) << 32 | static_cast<std::uint64_t>(parts) << 16}; }
};

// All functions except acquire are for the thread that has acquired the pool, and for its workers.
class Pool {
 public:
  bool acquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void release() { busy_.store(false, std::memory_order_release); }

  // Start so many workers, if the system has threads left.
  void hire(int wanted) {
    try {
      for (; workers_ < wanted; ++workers_) std::thread([this] { work(); }).detach();
    } catch (...) {}  // the caller computes the parts that no worker has claimed
  }

  // Offers `parts` parts of a job. Whoever claims one runs it.
  void post(int parts, void (*run)(void*, int), void* context) {
    run_ = run;
    context_ = context;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(ticket().next(parts).word);  // releases the three above to the thread that claims a part
    ticket_.notify_all();
  }

  // Claims the next part of the present job and runs it. Returns false when none is left.
  bool run_one() {
    Ticket now = ticket();
    while (now.is_open())
      if (ticket_.compare_exchange_weak(now.word, now.claimed().word, std::memory_order_acq_rel)) {
        run_(context_, now.taken());
        done_.fetch_add(1, std::memory_order_release);
        return true;
      }
    return false;
  }

  // No part will be claimed after this. Returns how many were.
  int close() {
    Ticket now = ticket();
    while (!ticket_.compare_exchange_weak(now.word, now.closed().word, std::memory_order_acq_rel)) {}
    return now.taken();
  }

  bool all_claimed() const { return !ticket().is_open(); }

  void wait_done(int parts) const {
    wait_until([&] { return done_.load(std::memory_order_acquire) >= parts; });
  }

 private:
  Ticket ticket() const { return {ticket_.load(std::memory_order_acquire)}; }

  [[noreturn]] void work() {
    for (;;) {
      while (run_one()) {}
      if (spin_until([this] { return ticket().is_open(); }, idle_spins)) continue;
      const Ticket last = ticket();
      if (!last.is_open()) ticket_.wait(last.word);
    }
  }

  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_{0};
  alignas(64) std::atomic<bool> busy_{false};
  void (*run_)(void*, int) = nullptr;
  void* context_ = nullptr;
  int workers_ = 0;
};

// Never destroyed: its workers wait in it until the process ends.
std::atomic<Pool*> the_pool{nullptr};

void forget_pool() { the_pool.store(nullptr); }  // in the child of a fork, where its threads do not exist

Pool* pool() {
  if (Pool* p = the_pool.load(std::memory_order_acquire)) return p;
  [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
  Pool* fresh = new (std::nothrow) Pool;
  Pool* first = nullptr;
  if (!fresh || the_pool.compare_exchange_strong(first, fresh)) return fresh;
  delete fresh;  // another thread was first; this one has no workers yet
  return first;
}

// The pool, if no other call is using it.
Pool* take_pool() {
  Pool* p = pool();
  return p && p->acquire() ? p : nullptr;
}

}  // namespace

void run_parts(int parts, void (*body)(void*, int), void* context) {
  Pool* pool = parts > 1 ? take_pool() : nullptr;
  if (!pool) {
    for (int part = 0; part < parts; ++part) body(context, part);
    return;
  }
  pool->hire(parts - 1);  // the caller is one more
  pool->post(parts, body, context);
  while (pool->run_one()) {}
  pool->wait_done(parts);
  pool->release();
}

namespace {

struct TeamJob {
  void (*body)(void*, Member);
  void* context;
  Team* team;
  std::atomic<int> size{0};  // 0 until the team is complete
};

void join_team(void* context, int part) {
  TeamJob& job = *static_cast<TeamJob*>(context);
  wait_until([&] { return job.size.load(std::memory_order_acquire) > 0; });
  job.body(job.context, {part + 1, job.team->size, job.team});
}

}  // namespace

void run_team(int wanted, void (*prepare)(void*), void (*body)(void*, Member), void* context) {
  Team team;
  Pool* pool = wanted > 1 && quiet ? take_pool() : nullptr;
  if (!pool) {
    prepare(context);
    return body(context, {0, 1, &team});
  }
  if (wanted > Team::most) wanted = Team::most;
  TeamJob job{body, context, &team};
  pool->hire(wanted - 1);
  pool->post(wanted - 1, join_team, &job);
  prepare(context);
  spin_until([&] { return pool->all_claimed(); }, gather_spins);
  const int others = pool->close();
  if (others == wanted - 1) quiet.was();
  team.size = 1 + others;
  job.size.store(team.size, std::memory_order_release);
  body(context, {0, team.size, &team});
  pool->wait_done(others);
  pool->release();
}

}  // namespace throughtime
