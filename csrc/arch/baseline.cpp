// Compiled with the flags of this architecture; see CMakeLists.txt.
#define ARCH Baseline
#include "instances.inl"
