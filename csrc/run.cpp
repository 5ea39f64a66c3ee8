#include "run.hpp"

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
    r.phases.pack(r.job);
  }
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
    running.prepare(&running);
    run_parts(split.groups, running.part, &running);
  }
  phases.finish(running.job);
  trim_scratch();
}

}  // namespace

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
template void run(const ForwardCall<float>&, int);
template void run(const ForwardCall<double>&, int);
template void run(const BackwardCall<float>&, int);
template void run(const BackwardCall<double>&, int);
template void run(const Functions<float>&, const CrossEntropyCall<float>&, int);
template void run(const Functions<double>&, const CrossEntropyCall<double>&, int);

}  // namespace throughtime
