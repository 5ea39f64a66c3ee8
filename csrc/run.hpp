// Whole calls: how each is divided among threads, and run.
#pragma once

#include <memory>

#include "kernels.hpp"

namespace throughtime {

// Bytes of scratch that a call takes on so many threads.
template <class T> std::size_t scratch_of(const ForwardCall<T>&, int threads);
template <class T> std::size_t scratch_of(const BackwardCall<T>&, int threads);

// One layer, one step after another, with weights that are packed once.
template <class T>
class Stepper {
 public:
  // `call` is a step's: T is 1, and its weights are read here and never again. Throws std::bad_alloc.
  Stepper(const ForwardCall<T>& call, int threads);
  ~Stepper();
  Stepper(Stepper&&) noexcept;

  // x (B, I), state and last S arrays (B, H) each, h (B, H): no output aliases anything.
  void step(const T* x, const T* const* state, T* h, T* const* last);

 private:
  struct Kept;
  std::unique_ptr<Kept> kept_;
};

// Throw std::bad_alloc when there is no memory for scratch, and then have written nothing.
template <class T> void run(const ForwardCall<T>&, int threads);
template <class T> void run(const BackwardCall<T>&, int threads);
template <class T> void run(const Functions<T>&, const CrossEntropyCall<T>&, int threads);


// Asks for huge pages under the large arrays that a call is to write; run does so itself.
template <class T> void results_in_huge_pages(const ForwardCall<T>&);
template <class T> void results_in_huge_pages(const BackwardCall<T>&);

}  // namespace throughtime
