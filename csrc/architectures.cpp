#include "architectures.hpp"

#include <cstring>

#include "simd.hpp"

namespace throughtime {

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
  ArchName best = ArchName::baseline;
  for (ArchName a : all_architectures)
    if (is_supported(a)) best = a;
  return best;
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
void kernel_from(const CellTable& cell, ArchName arch, LoadedKernel<T>& to) {
  switch (arch) {
#if defined(__x86_64__)
    case ArchName::avx512: return kernel_from<Avx512, T>(cell, to);
    case ArchName::avx2: return kernel_from<Avx2, T>(cell, to);
#elif defined(__aarch64__)
    case ArchName::neon: return kernel_from<Neon, T>(cell, to);
#endif
    default: return kernel_from<Baseline, T>(cell, to);
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

template const Kernel<float>& kernel<float>(CellKind, ArchName);
template const Kernel<double>& kernel<double>(CellKind, ArchName);
template void kernel_from<float>(const CellTable&, ArchName, LoadedKernel<float>&);
template void kernel_from<double>(const CellTable&, ArchName, LoadedKernel<double>&);
template const Functions<float>& functions<float>(ArchName);
template const Functions<double>& functions<double>(ArchName);

}  // namespace throughtime
