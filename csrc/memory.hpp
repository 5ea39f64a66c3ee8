// Scratch that a thread keeps between calls, and huge pages for large arrays.
#pragma once

#include "index.hpp"

namespace throughtime {

// At least `bytes` of the calling thread's scratch, aligned to 64: kept between calls, for fresh pages cost more than a
// small call's arithmetic. Valid until the thread's next call of either function. Throws std::bad_alloc.
void* scratch(std::size_t bytes);
void trim_scratch();  // gives a large block back

// Asks for huge pages under a large array that is yet to be written. Its contents are untouched.
void in_huge_pages(void* p, Index bytes);  // p may be null

}  // namespace throughtime
