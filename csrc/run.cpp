#include "run.hpp"

#include <new>

#include "memory.hpp"
#include "parallel.hpp"

namespace throughtime {

namespace {

// Below these a second thread costs more than it brings, in multiply-adds: of a whole pass, and of one member's step
// between two barriers.
constexpr double least_pass = 4e5, least_step = 8e3;
constexpr Index least_rows = 4;  // of a group: with fewer, every thread reads the same weights for too little work

Split divide(Sizes n, int gates, int threads) {
  const double step = static_cast<double>(gates) * static_cast<double>(n.H) * static_cast<double>(n.H);
  const double pass = static_cast<double>(n.T) * static_cast<double>(n.B) * static_cast<double>(gates) *
                      static_cast<double>(n.H) * static_cast<double>(n.H + n.I);
  if (threads <= 1 || pass < least_pass) return {1, 1};
  if (n.B >= 2 * least_rows) {
    const Index most = n.B / least_rows;
    return {most < threads ? static_cast<int>(most) : threads, 1};
  }
  int members = threads;
  while (members > 1 && static_cast<double>(n.B) * step / members < least_step) --members;
  return {1, members};
}

// What run_parts and run_team need to know of a pass.
template <class Call>
struct Running {
  const Phases<Call>& phases;
  Job<Call> job;

  static void prepare(void* self) {
    const Running& r = *static_cast<Running*>(self);
    r.phases.pack(r.job, 0, 1);
  }
  static void pack_part(void* self, int part) {
    const Running& r = *static_cast<Running*>(self);
    r.phases.pack(r.job, part, r.job.split.groups);
  }
  static void nothing(void*) {}  // where the weights are packed already
  static void part(void* self, int group) {
    const Running& r = *static_cast<Running*>(self);
    r.phases.share(r.job, {group, 0, nullptr});
  }
  static void member(void* self, Member who) {
    const Running& r = *static_cast<Running*>(self);
    r.phases.share({r.job.call, {1, who.size}, r.job.scratch}, {0, who.member, who.team});
  }
};

template <class Call>
void run_phases(const Phases<Call>& phases, const Call& call, int threads) {
  const Split split = divide(call.n, call.kernel->gates, threads);
  Running<Call> running{phases, {call, split, scratch(phases.scratch(call, split))}};
  if (split.members > 1) {
    run_team(split.members, running.prepare, running.member, &running);
  } else {
    run_parts(split.groups, running.pack_part, &running);
    run_parts(split.groups, running.part, &running);
  }
  phases.finish(running.job);
  trim_scratch();
}

struct Freed {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t{64}); }
};

}  // namespace

template <class T>
struct Stepper<T>::Kept {
  ForwardCall<T> call;
  Split split;
  std::unique_ptr<void, Freed> block;
};

template <class T>
Stepper<T>::Stepper(const ForwardCall<T>& call, int threads) : kept_(new Kept{call, divide(call.n, call.kernel->gates, threads), nullptr}) {
  Kept& k = *kept_;
  k.call.packed = true;
  k.call.state[0] = k.call.xs;  // anything: a state will be given, so that R is packed
  const Phases<ForwardCall<T>>& phases = k.call.kernel->forward;
  k.block.reset(::operator new(phases.scratch(k.call, k.split), std::align_val_t{64}));
  phases.pack({k.call, k.split, k.block.get()}, 0, 1);
  k.call.W = k.call.R = k.call.b_ih = k.call.b_hh = nullptr;
}

template <class T> Stepper<T>::~Stepper() = default;
template <class T> Stepper<T>::Stepper(Stepper&&) noexcept = default;

template <class T>
void Stepper<T>::step(const T* x, const T* const* state, T* h, T* const* last) {
  Kept& k = *kept_;
  k.call.xs = x, k.call.hs = h;
  for (int s = 0; s < k.call.kernel->states; ++s) k.call.state[s] = state[s], k.call.last[s] = last[s];
  using Call = Running<ForwardCall<T>>;
  Call running{k.call.kernel->forward, {k.call, k.split, k.block.get()}};
  if (k.split.members > 1) run_team(k.split.members, Call::nothing, Call::member, &running);
  else run_parts(k.split.groups, Call::part, &running);
}

template <class T>
std::size_t scratch_of(const ForwardCall<T>& call, int threads) {
  return call.kernel->forward.scratch(call, divide(call.n, call.kernel->gates, threads));
}

template <class T>
std::size_t scratch_of(const BackwardCall<T>& call, int threads) {
  return call.kernel->backward.scratch(call, divide(call.n, call.kernel->gates, threads));
}

template <class T>
void results_in_huge_pages(const ForwardCall<T>& call) {
  const Index element = sizeof(T);
  in_huge_pages(call.hs, call.n.T * call.n.B * call.n.H * element);
  in_huge_pages(call.residuals, static_cast<Index>(call.kernel->residuals_size(call.n, call.keep)) * element);
}

template <class T>
void results_in_huge_pages(const BackwardCall<T>& call) {
  const Index row = call.n.T * call.n.B * static_cast<Index>(sizeof(T));
  in_huge_pages(call.dxs, row * call.n.I);
  in_huge_pages(call.dwx, row * call.kernel->gates * call.n.H);
}

template <class T>
void run(const ForwardCall<T>& call, int threads) {
  results_in_huge_pages(call);
  run_phases(call.kernel->forward, call, threads);
}

template <class T>
void run(const BackwardCall<T>& call, int threads) {
  results_in_huge_pages(call);
  run_phases(call.kernel->backward, call, threads);
}

template <class T>
void run(const Functions<T>& functions, const CrossEntropyCall<T>& call, int threads) {
  constexpr double least_numbers = 32768;  // of a part: with fewer a second thread costs more than it brings
  struct Rows {
    const Functions<T>& functions;
    const CrossEntropyCall<T>& call;
    Index parts;
  };
  const double numbers = static_cast<double>(call.N) * static_cast<double>(call.V);
  Index parts = threads < call.N ? threads : call.N;
  while (parts > 1 && numbers / static_cast<double>(parts) < least_numbers) --parts;
  Rows rows{functions, call, parts};
  run_parts(static_cast<int>(parts), [](void* context, int part) {
    const Rows& r = *static_cast<const Rows*>(context);
    r.functions.cross_entropy(r.call, r.call.N * part / r.parts, r.call.N * (part + 1) / r.parts);
  }, &rows);
}

template std::size_t scratch_of(const ForwardCall<float>&, int);
template std::size_t scratch_of(const ForwardCall<double>&, int);
template std::size_t scratch_of(const BackwardCall<float>&, int);
template std::size_t scratch_of(const BackwardCall<double>&, int);
template void results_in_huge_pages(const ForwardCall<float>&);
template void results_in_huge_pages(const ForwardCall<double>&);
template void results_in_huge_pages(const BackwardCall<float>&);
template void results_in_huge_pages(const BackwardCall<double>&);
template class Stepper<float>;
template class Stepper<double>;
template void run(const ForwardCall<float>&, int);
template void run(const ForwardCall<double>&, int);
template void run(const BackwardCall<float>&, int);
template void run(const BackwardCall<double>&, int);
template void run(const Functions<float>&, const CrossEntropyCall<float>&, int);
template void run(const Functions<double>&, const CrossEntropyCall<double>&, int);

}  // namespace throughtime
