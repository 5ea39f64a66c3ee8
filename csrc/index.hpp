// The type of every size and distance.
#pragma once

#include <cstddef>

namespace throughtime {

using Index = std::ptrdiff_t;

}  // namespace throughtime
