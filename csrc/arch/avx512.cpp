// Compiled with the flags of this architecture; see CMakeLists.txt.
#define ARCH Avx512
#include "instances.inl"
