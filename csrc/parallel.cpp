#include "parallel.hpp"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace throughtime {

namespace {

using Clock = std::chrono::steady_clock;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins for about `spins` pauses, then yields for as long as it takes. Returns whether it had to yield.
template <class Ready>
bool wait_until(Ready ready, int spins) {
  for (int n = 0; n < spins; ++n) {
    if (ready()) return false;
    pause();
  }
  while (!ready()) sched_yield();
  return true;
}

constexpr int barrier_spins = 2000;  // about 20 to 80 µs: many times what a step takes
constexpr int idle_spins = 4000;     // how long a worker stays awake after its last job
constexpr int gather_spins = 200;    // how long a caller waits for a team to turn up

// When teams may be formed again, in Clock ticks, and how long the next pause will be.
std::atomic<std::int64_t> quiet_from{0};
std::atomic<std::int64_t> backoff_ms{16};

void machine_is_busy() {
  const auto wait = backoff_ms.load(std::memory_order_relaxed);
  backoff_ms.store(wait < 2048 ? 2 * wait : wait, std::memory_order_relaxed);
  quiet_from.store((Clock::now() + std::chrono::milliseconds(wait)).time_since_epoch().count(), std::memory_order_relaxed);
}

void team_met_promptly() {
  const auto wait = backoff_ms.load(std::memory_order_relaxed);
  if (wait > 16) backoff_ms.store(wait - wait / 16, std::memory_order_relaxed);
}

bool machine_is_quiet() {
  return Clock::now().time_since_epoch().count() >= quiet_from.load(std::memory_order_relaxed);
}

}  // namespace

void Team::wait(int member) {
  const long mine = ++arrivals[member].count;
  __atomic_store_n(&arrivals[member].count, mine, __ATOMIC_RELEASE);
  bool late = false;
  for (int m = 0; m < size; ++m)
    if (m != member)
      late |= wait_until([&] { return __atomic_load_n(&arrivals[m].count, __ATOMIC_ACQUIRE) >= mine; }, barrier_spins);
  if (late && member == 0) machine_is_busy();
}

class Pool {
 public:
  bool acquire() { return !busy_.exchange(true, std::memory_order_acquire); }
  void release() { busy_.store(false, std::memory_order_release); }

  // Posts `parts` parts of a job. Whoever claims a part runs it with `run`.
  void post(int parts, void (*run)(void*, int), void* context) {
    hire(parts - 1);
    run_ = run;
    context_ = context;
    done_.store(0, std::memory_order_relaxed);
    ticket_.store(next_ticket(parts), std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0) {
      std::lock_guard lock(mutex_);
      wake_.notify_all();
    }
  }

  // Takes the next part of the present job; −1 when none is left.
  int claim() {
    std::uint64_t now = ticket_.load(std::memory_order_acquire);
    while (taken(now) < parts(now))
      if (ticket_.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) return taken(now);
    return -1;
  }

  // No part will be claimed after this; returns how many were.
  int close() {
    std::uint64_t now = ticket_.load(std::memory_order_acquire);
    while (!ticket_.compare_exchange_weak(now, (now & ~mask(16)) | parts(now), std::memory_order_acq_rel)) {}
    return taken(now);
  }

  int claimed() const { return taken(ticket_.load(std::memory_order_acquire)); }

  void run(int part) {
    run_(context_, part);
    done_.fetch_add(1, std::memory_order_release);
  }

  void wait_done(int parts) {
    wait_until([&] { return done_.load(std::memory_order_acquire) >= parts; }, barrier_spins);
  }

  void end() {
    {
      std::lock_guard lock(mutex_);
      ended_.store(true, std::memory_order_seq_cst);
      wake_.notify_all();
    }
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
  }

  bool ended() const { return ended_.load(std::memory_order_relaxed); }

 private:
  // A ticket is one word, (generation, parts, taken), so that a claim can never mix two jobs.
  static constexpr std::uint64_t mask(int bits) { return (std::uint64_t{1} << bits) - 1; }
  static int taken(std::uint64_t ticket) { return static_cast<int>(ticket & mask(16)); }
  static int parts(std::uint64_t ticket) { return static_cast<int>(ticket >> 16 & mask(16)); }
  std::uint64_t next_ticket(int parts) const {
    const std::uint64_t generation = (ticket_.load(std::memory_order_relaxed) >> 32) + 1;
    return generation << 32 | static_cast<std::uint64_t>(parts) << 16;
  }
  bool work_left() const {
    const std::uint64_t now = ticket_.load(std::memory_order_seq_cst);
    return taken(now) < parts(now) || ended();
  }

  void hire(int count) {
    try {
      while (static_cast<int>(workers_.size()) < count) workers_.emplace_back([this] { work(); });
    } catch (...) {}  // no thread to be had: the caller does all the parts
  }

  void work() {
    while (!ended()) {
      for (int part; (part = claim()) >= 0;) run(part);
      for (int n = 0; n < idle_spins && !work_left(); ++n) pause();
      if (work_left()) continue;
      std::unique_lock lock(mutex_);
      sleepers_.fetch_add(1, std::memory_order_seq_cst);
      wake_.wait(lock, [this] { return work_left(); });
      sleepers_.fetch_sub(1, std::memory_order_seq_cst);
    }
  }

  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<int> done_{0};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> busy_{false}, ended_{false};
  void (*run_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

namespace {

// Never destroyed: a worker asleep in it must not see its mutex die when static objects do.
std::atomic<Pool*> the_pool{nullptr};
std::atomic<bool> over{false};

void forget_pool() { the_pool.store(nullptr); }  // in the child of a fork, where its threads do not exist

Pool* pool() {
  if (over.load(std::memory_order_relaxed)) return nullptr;
  if (Pool* p = the_pool.load(std::memory_order_acquire)) return p;
  static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
  (void)registered;
  Pool* fresh = new (std::nothrow) Pool;
  Pool* expected = nullptr;
  if (fresh && !the_pool.compare_exchange_strong(expected, fresh)) {
    delete fresh;
    return expected;
  }
  return fresh;
}

// The pool, if nobody else is using it.
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
  pool->post(parts, body, context);
  for (int part; (part = pool->claim()) >= 0;) pool->run(part);
  pool->wait_done(parts);
  pool->release();
}

namespace {

struct TeamJob {
  void (*body)(void*, int, int, Team*);
  void* context;
  Team* team;
  std::atomic<int> size{0};  // 0 until the team is complete
};

void join_team(void* context, int part) {
  TeamJob& job = *static_cast<TeamJob*>(context);
  wait_until([&] { return job.size.load(std::memory_order_acquire) > 0; }, barrier_spins);
  job.body(job.context, part + 1, job.size.load(std::memory_order_relaxed), job.team);
}

}  // namespace

void run_team(int wanted, void (*prepare)(void*), void (*body)(void*, int, int, Team*), void* context) {
  Team team;
  Pool* pool = wanted > 1 && machine_is_quiet() ? take_pool() : nullptr;
  if (!pool) {
    prepare(context);
    return body(context, 0, 1, &team);
  }
  if (wanted > Team::most) wanted = Team::most;
  TeamJob job{body, context, &team};
  pool->post(wanted - 1, join_team, &job);
  prepare(context);
  for (int n = 0; n < gather_spins && pool->claimed() < wanted - 1; ++n) pause();
  const int others = pool->close();
  if (others == wanted - 1) team_met_promptly();
  team.size = 1 + others;
  job.size.store(team.size, std::memory_order_release);
  body(context, 0, team.size, &team);
  pool->wait_done(others);
  pool->release();
}

void shut_down() {
  over.store(true);
  if (Pool* pool = the_pool.load())
    if (pool->acquire()) pool->end();  // busy: a daemon thread is inside; its workers end with the process
}

}  // namespace throughtime
