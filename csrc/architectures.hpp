// Which architectures there are, which of them this machine runs, and their tables of kernels.
#pragma once

#include "kernels.hpp"

namespace throughtime {

enum class ArchName { baseline, avx2, avx512, neon };
constexpr ArchName all_architectures[] = {ArchName::baseline, ArchName::avx2, ArchName::avx512, ArchName::neon};  // plainest first

const char* name_of(ArchName);
bool parse_architecture(const char* name, ArchName& arch);
bool is_supported(ArchName);   // built into this extension, and known to this machine
ArchName best_architecture();  // of the supported

template <class T> const Kernel<T>& kernel(CellKind, ArchName);
template <class T> void kernel_from(const CellTable&, ArchName, LoadedKernel<T>& to);
template <class T> const Functions<T>& functions(ArchName);

}  // namespace throughtime
