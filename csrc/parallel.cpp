#include "parallel.hpp"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "waiting.hpp"

namespace throughtime {

namespace {

constexpr int most_members = 64;

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
  int size = 1;
  bool was_late = false;  // a member, as seen by member 0

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
  Arrivals arrivals_[most_members];
};

void meet(Team& team, int member) {
  if (team.meet(member) && member == 0) team.was_late = true;
}

namespace {

// What several threads run at the same time, each with its number among them.
struct Region {
  void (*body)(void* context, int thread, int size);
  void* context;
};

// The OpenMP library in the process, by the functions that GCC calls for `#pragma omp parallel`; LLVM's and Intel's have them too.
struct OpenMP {
  using Parallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);
  using Number = int (*)();
  Parallel parallel = find<Parallel>("GOMP_parallel");
  Number thread = find<Number>("omp_get_thread_num"), size = find<Number>("omp_get_num_threads");

  template <class F>
  static F find(const char* name) { return reinterpret_cast<F>(dlsym(RTLD_DEFAULT, name)); }
  bool is_there() const { return parallel && thread && size; }
};

const OpenMP& openmp() {
  static const OpenMP found;
  return found;
}

void run_by_openmp(int threads, Region region) {
  openmp().parallel([](void* r) {
    const Region& region = *static_cast<const Region*>(r);
    region.body(region.context, openmp().thread(), openmp().size());
  }, &region, static_cast<unsigned>(threads), 0);
}

// Threads for this one region: fewer, if the system has no more.
void run_by_new_threads(int threads, Region region) {
  std::thread others[most_members];
  std::atomic<int> size{0};  // 0 until it is known
  int started = 1;
  try {
    for (; started < threads; ++started)
      others[started] = std::thread([&, started] {
        wait_until([&] { return size.load(std::memory_order_acquire) > 0; });
        region.body(region.context, started, size.load(std::memory_order_relaxed));
      });
  } catch (...) {}
  size.store(started, std::memory_order_release);
  region.body(region.context, 0, started);
  for (int n = 1; n < started; ++n) others[n].join();
}

std::atomic<bool> busy{false};    // a call has threads
std::atomic<bool> forked{false};  // this process is the child of a fork, where OpenMP's threads do not exist

void after_fork() {
  busy.store(false);
  forked.store(true);
}

bool claim_threads() {
  [[maybe_unused]] static const int registered = pthread_atfork(nullptr, nullptr, after_fork);
  return !busy.exchange(true, std::memory_order_acquire);
}

// Runs a region on at most so many threads, and gives the claim back.
void run_region(int threads, Region region) {
  if (threads > most_members) threads = most_members;
  openmp().is_there() && !forked.load() ? run_by_openmp(threads, region) : run_by_new_threads(threads, region);
  busy.store(false, std::memory_order_release);
}

struct PartsJob {
  void (*body)(void*, int);
  void* context;
  int parts;
  std::atomic<int> taken{0};

  // Every thread takes parts until none is left, so that a thread without a core delays only those that it has begun.
  static void work(void* self, int, int) {
    PartsJob& job = *static_cast<PartsJob*>(self);
    for (int part; (part = job.taken.fetch_add(1, std::memory_order_relaxed)) < job.parts;) job.body(job.context, part);
  }
};

struct TeamJob {
  void (*prepare)(void*);
  void (*body)(void*, Member);
  void* context;
  Team* team;
  std::atomic<bool> prepared{false};

  static void work(void* self, int thread, int size) {
    TeamJob& job = *static_cast<TeamJob*>(self);
    if (thread == 0) {
      job.team->size = size;
      job.prepare(job.context);
      job.prepared.store(true, std::memory_order_release);
    } else {
      wait_until([&] { return job.prepared.load(std::memory_order_acquire); });
    }
    if (size > 1) job.team->meet(thread);  // a thread that has to wake up first is not late
    job.body(job.context, {thread, size, job.team});
  }
};

}  // namespace

void run_parts(int parts, void (*body)(void*, int), void* context) {
  PartsJob job{body, context, parts};
  if (parts > 1 && claim_threads()) run_region(parts, {PartsJob::work, &job});
  else PartsJob::work(&job, 0, 1);
}

void run_team(int wanted, void (*prepare)(void*), void (*body)(void*, Member), void* context) {
  Team team;
  TeamJob job{prepare, body, context, &team};
  if (wanted <= 1 || !quiet || !claim_threads()) return TeamJob::work(&job, 0, 1);
  run_region(wanted, {TeamJob::work, &job});
  if (team.was_late) quiet.was_not();
  else if (team.size == wanted) quiet.was();
}

}  // namespace throughtime
