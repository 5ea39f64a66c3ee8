// Whole calls: how each is divided among threads, and run.
#pragma once

#include "kernels.hpp"

namespace throughtime {

// Bytes of scratch that a call takes on so many threads.
template <class T> std::size_t scratch_of(const ForwardCall<T>&, int threads);
template <class T> std::size_t scratch_of(const BackwardCall<T>&, int threads);

// Throw std::bad_alloc when there is no memory for scratch, and then have written nothing.
template <class T> void run(const ForwardCall<T>&, int threads);
template <class T> void run(const BackwardCall<T>&, int threads);
template <class T> void run(const Functions<T>&, const CrossEntropyCall<T>&, int threads);


// Asks for huge pages under the large arrays that a call is to write; run does so itself.
template <class T> void results_in_huge_pages(const ForwardCall<T>&);
template <class T> void results_in_huge_pages(const BackwardCall<T>&);

}  // namespace throughtime
