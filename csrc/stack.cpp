#include "stack.hpp"

#include <atomic>
#include <mutex>
#include <vector>

#include "memory.hpp"
#include "parallel.hpp"
#include "run.hpp"
#include "waiting.hpp"

namespace throughtime {

namespace {

constexpr Index most_rows = 8;         // of a step: more are better divided than layers are
constexpr Index least_chunks = 4;
constexpr double least_layer = 4e5;    // multiply-adds: below, a second thread costs more than it brings
constexpr Split undivided = {1, 1};

template <class T> const Phases<ForwardCall<T>>& phases(const ForwardCall<T>& c) { return c.kernel->forward; }
template <class T> const Phases<BackwardCall<T>>& phases(const BackwardCall<T>& c) { return c.kernel->backward; }

constexpr std::size_t whole_lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

template <class Call> std::size_t scratch_size(const Call& c) { return whole_lines(phases(c).scratch(c, undivided)); }
template <class Call> std::size_t walk_size(const Call& c) { return whole_lines(phases(c).walk_size); }

// One layer on its way: how far it is, and whether a thread is at it.
template <class Call>
struct Layered {
  Job<Call> job;
  void* walk;
  Index done = -1, chunks = 0;  // −1: its weights are not packed yet
  bool taken = false;

  bool is_over() const { return done == chunks; }

  void advance() {
    const Phases<Call>& way = phases(job.call);
    if (done < 0) {
      way.pack(job, 0, 1);
      chunks = way.begin(job, walk);
      return;
    }
    way.next(walk, done);
    if (done + 1 < chunks) return;
    way.end(walk);
    way.finish(job);
  }
};

// A layer's chunk can be computed as soon as the layer before is done with it. A thread takes the next such chunk of the last layer
// that has one: so the layers keep together, and there is work for all threads to the end.
template <class Call>
class Turns {
 public:
  explicit Turns(std::span<Call> calls) {
    std::size_t bytes = 0;
    for (const Call& c : calls) bytes += scratch_size(c) + walk_size(c);
    char* block = static_cast<char*>(scratch(bytes));
    for (const Call& c : calls) {
      layers_.push_back({{c, undivided, block}, block + scratch_size(c)});
      block += scratch_size(c) + walk_size(c);
    }
  }

  // What each thread does until nothing is left.
  void work() {
    for (Layered<Call>* layer; (layer = next());) {
      layer->advance();
      const std::lock_guard lock(mutex_);
      layer->taken = false;
      ++layer->done;
      changes_.fetch_add(1, std::memory_order_release);
    }
  }

 private:
  // A layer for the calling thread, when there is one; null at the end.
  Layered<Call>* next() {
    for (;;) {
      const long before = changes_.load(std::memory_order_acquire);
      {
        const std::lock_guard lock(mutex_);
        if (layers_.back().is_over()) return nullptr;
        if (Layered<Call>* layer = last_ready()) {
          layer->taken = true;
          return layer;
        }
      }
      wait_until([&] { return changes_.load(std::memory_order_acquire) != before; });
    }
  }

  Layered<Call>* last_ready() {
    for (std::size_t l = layers_.size(); l-- > 0;) {
      Layered<Call>& layer = layers_[l];
      if (layer.taken || layer.is_over()) continue;
      if (l == 0 || layer.done < 0 || layer.done < layers_[l - 1].done) return &layer;
    }
    return nullptr;
  }

  std::mutex mutex_;
  std::atomic<long> changes_{0};  // how often a layer has advanced
  std::vector<Layered<Call>> layers_;
};

template <class Call>
bool is_worth_it(const Call& c) {
  const auto [T, B, I, H] = c.n;
  const double work = static_cast<double>(T * B * c.kernel->gates * H) * static_cast<double>(I + H);
  const Index steps = c.keep == Keep::lean ? lean_interval(B) : stacked_interval(T, B);
  return work >= least_layer && T > steps * (least_chunks - 1);
}

template <class Call>
void run_in_turns(std::span<Call> layers, int threads) {
  for (const Call& c : layers) results_in_huge_pages(c);
  Turns<Call> turns(layers);
  const int most = static_cast<int>(layers.size());
  run_parts(threads < most ? threads : most, [](void* self, int) { static_cast<Turns<Call>*>(self)->work(); }, &turns);
  trim_scratch();
}

template <class Call>
void run_layers(std::span<Call> layers, int threads) {
  const bool small = layers.size() > 1 && layers[0].n.B <= most_rows;
  for (Call& c : layers) c.stacked = small;
  if (small && threads > 1 && is_worth_it(layers[0])) return run_in_turns(layers, threads);
  for (const Call& c : layers) run(c, threads);
}

}  // namespace

template <class T> void run_stack(std::span<ForwardCall<T>> layers, int threads) { run_layers(layers, threads); }
template <class T> void run_stack(std::span<BackwardCall<T>> layers, int threads) { run_layers(layers, threads); }

template void run_stack(std::span<ForwardCall<float>>, int);
template void run_stack(std::span<ForwardCall<double>>, int);
template void run_stack(std::span<BackwardCall<float>>, int);
template void run_stack(std::span<BackwardCall<double>>, int);

}  // namespace throughtime
