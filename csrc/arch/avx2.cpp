// Compiled with the flags of this architecture; see CMakeLists.txt.
#define ARCH Avx2
#include "instances.inl"
