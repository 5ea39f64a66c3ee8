#include "dispatch.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "parallel.hpp"
#include "simd.hpp"

namespace throughtime {

namespace {

constexpr ArchName all_architectures[] = {ArchName::avx512, ArchName::avx2, ArchName::neon, ArchName::baseline};  // best first

}  // namespace

const char* name_of(ArchName arch) {
  switch (arch) {
    case ArchName::baseline: return "baseline";
    case ArchName::avx2: return "avx2";
    case ArchName::avx512: return "avx512";
    case ArchName::neon: return "neon";
  }
  __builtin_unreachable();
}

bool is_supported(ArchName arch) {
  switch (arch) {
    case ArchName::baseline: return true;
#if defined(__x86_64__)
    case ArchName::avx2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case ArchName::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#elif defined(__aarch64__)
    case ArchName::neon: return true;
#endif
    default: return false;
  }
}

bool parse_architecture(const char* name, ArchName& arch) {
  for (ArchName a : all_architectures)
    if (std::strcmp(name, name_of(a)) == 0) {
      arch = a;
      return true;
    }
  return false;
}

ArchName best_architecture() {
  for (ArchName a : all_architectures)
    if (is_supported(a)) return a;
  return ArchName::baseline;
}

template <class T>
const Kernel<T>& kernel(CellKind kind, ArchName arch) {
  switch (arch) {
#if defined(__x86_64__)
    case ArchName::avx512: return kernel_for<Avx512, T>(kind);
    case ArchName::avx2: return kernel_for<Avx2, T>(kind);
#elif defined(__aarch64__)
    case ArchName::neon: return kernel_for<Neon, T>(kind);
#endif
    default: return kernel_for<Baseline, T>(kind);
  }
}

template <class T>
const Functions<T>& functions(ArchName arch) {
  switch (arch) {
#if defined(__x86_64__)
    case ArchName::avx512: return functions_for<Avx512, T>();
    case ArchName::avx2: return functions_for<Avx2, T>();
#elif defined(__aarch64__)
    case ArchName::neon: return functions_for<Neon, T>();
#endif
    default: return functions_for<Baseline, T>();
  }
}

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

// Scratch of the calling thread: kept between calls, for fresh pages cost more than a small call's arithmetic.
class Scratch {
 public:
  ~Scratch() { std::free(block_); }
  void* at_least(std::size_t bytes) {
    if (bytes > size_) {
      std::free(block_);
      block_ = nullptr, size_ = 0;
      const std::size_t page = bytes < huge_page ? 4096 : huge_page;
      const std::size_t wanted = (bytes + page - 1) / page * page;
      if (!(block_ = std::aligned_alloc(page, wanted))) throw std::bad_alloc();
#if defined(__linux__)
      // Panels and blocked rows walk many pages at once, more than the first level of the TLB holds.
      if (page == huge_page) madvise(block_, wanted, MADV_HUGEPAGE);
#endif
      size_ = wanted;
    }
    return block_;
  }
  void trim() {
    if (size_ <= most_kept) return;
    std::free(block_);
    block_ = nullptr, size_ = 0;
  }

 private:
  static constexpr std::size_t most_kept = std::size_t{128} << 20, huge_page = std::size_t{2} << 20;
  void* block_ = nullptr;
  std::size_t size_ = 0;
};

thread_local Scratch scratch;

// Fresh arrays of this size come straight from the system (beyond the largest that malloc keeps for reuse), and faulting
// them in by small pages takes several times as long as filling them. The contents are untouched.
void in_huge_pages(void* p, Index bytes) {
#if defined(__linux__)
  constexpr std::uintptr_t least = std::uintptr_t{32} << 20, page = 4096;
  const auto first = (reinterpret_cast<std::uintptr_t>(p) + page - 1) / page * page;
  const auto last = (reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(bytes)) / page * page;
  if (p && last > first && last - first >= least) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)p, (void)bytes;
#endif
}

// One pass of either direction: what run_parts and run_team need to know of it.
template <class Call>
struct Pass {
  const Call& call;
  Split split;
  void* block;
  void (*pack)(const Call&, Split, void*);
  void (*share)(const Call&, Split, void*, int group, int member, Team*);

  static void prepare(void* self) {
    const Pass& p = *static_cast<Pass*>(self);
    p.pack(p.call, p.split, p.block);
  }
  static void part(void* self, int group) {
    const Pass& p = *static_cast<Pass*>(self);
    p.share(p.call, p.split, p.block, group, 0, nullptr);
  }
  static void member(void* self, Member who) {
    const Pass& p = *static_cast<Pass*>(self);
    p.share(p.call, {1, who.size}, p.block, 0, who.member, who.team);
  }

  void run() {
    if (split.members > 1) return run_team(split.members, prepare, member, this);
    prepare(this);
    run_parts(split.groups, part, this);
  }
};

}  // namespace

template <class T>
void run_forward(CellKind kind, ArchName arch, const ForwardCall<T>& call, int threads) {
  const Kernel<T>& k = kernel<T>(kind, arch);
  const Split split = divide(call.n, k.gates, threads);
  const Index element = sizeof(T), rows = call.n.T * call.n.B;
  in_huge_pages(call.hs, rows * call.n.H * element);
  in_huge_pages(call.kept, static_cast<Index>(k.kept_size(call.n, call.keep)) * element);
  void* block = scratch.at_least(k.forward_scratch(call, split));
  Pass<ForwardCall<T>>{call, split, block, k.forward_pack, k.forward_share}.run();
  scratch.trim();
}

template <class T>
void run_backward(CellKind kind, ArchName arch, const BackwardCall<T>& call, int threads) {
  const Kernel<T>& k = kernel<T>(kind, arch);
  const Split split = divide(call.n, k.gates, threads);
  const Index element = sizeof(T), rows = call.n.T * call.n.B;
  in_huge_pages(call.dxs, rows * call.n.I * element);
  in_huge_pages(call.dwx, rows * k.gates * call.n.H * element);
  void* block = scratch.at_least(k.backward_scratch(call, split));
  Pass<BackwardCall<T>>{call, split, block, k.backward_pack, k.backward_share}.run();
  k.backward_finish(call, split, block);
  scratch.trim();
}

template <class T>
void run_cross_entropy(ArchName arch, const CrossEntropyCall<T>& call, int threads) {
  constexpr double least_numbers = 32768;  // of a part: with fewer a second thread costs more than it brings
  struct Rows {
    const CrossEntropyCall<T>& call;
    const Functions<T>& f;
    Index parts;
  };
  const double numbers = static_cast<double>(call.N) * static_cast<double>(call.V);
  Index parts = threads < call.N ? threads : call.N;
  while (parts > 1 && numbers / static_cast<double>(parts) < least_numbers) --parts;
  Rows rows{call, functions<T>(arch), parts};
  run_parts(static_cast<int>(parts), [](void* context, int part) {
    const Rows& r = *static_cast<const Rows*>(context);
    const auto& c = r.call;
    r.f.cross_entropy(c.o, c.targets, c.g, c.losses, c.V, c.N * part / r.parts, c.N * (part + 1) / r.parts, c.gradient);
  }, &rows);
}

template const Kernel<float>& kernel<float>(CellKind, ArchName);
template const Kernel<double>& kernel<double>(CellKind, ArchName);
template const Functions<float>& functions<float>(ArchName);
template const Functions<double>& functions<double>(ArchName);
template void run_forward<float>(CellKind, ArchName, const ForwardCall<float>&, int);
template void run_forward<double>(CellKind, ArchName, const ForwardCall<double>&, int);
template void run_backward<float>(CellKind, ArchName, const BackwardCall<float>&, int);
template void run_cross_entropy<float>(ArchName, const CrossEntropyCall<float>&, int);
template void run_cross_entropy<double>(ArchName, const CrossEntropyCall<double>&, int);
template void run_backward<double>(CellKind, ArchName, const BackwardCall<double>&, int);

}  // namespace throughtime
