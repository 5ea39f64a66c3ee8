#include "memory.hpp"

#include <cstdint>
#include <cstdlib>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace throughtime {

namespace {

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
      // Panels and blocked rows use many pages at once, more than the first level of the TLB holds.
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

thread_local Scratch of_this_thread;

}  // namespace

void* scratch(std::size_t bytes) { return of_this_thread.at_least(bytes); }
void trim_scratch() { of_this_thread.trim(); }

// Fresh arrays of this size come straight from the system (beyond the largest that malloc keeps for reuse), and faulting
// them in by small pages takes several times as long as filling them.
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

}  // namespace throughtime
