// Compiled with the flags of this architecture; see CMakeLists.txt.
#define ARCH Neon
#include "instances.inl"
