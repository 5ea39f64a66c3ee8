#include "loaded.hpp"

#include <dlfcn.h>

#include <cstring>
#include <deque>
#include <mutex>

namespace throughtime {

namespace {

struct Loaded {
  ArchName arch;
  int element;
  LoadedKernel<float> single;
  LoadedKernel<double> twice;
};

// Never destroyed: a daemon thread may be in a kernel while the process ends.
struct Registry {
  std::mutex mutex;
  std::deque<Loaded> cells;  // an element stays where it is
};
Registry& registry() {
  static Registry& all = *new Registry;
  return all;
}

const CellTable* open(const std::string& path, std::string& why) {
  void* const file = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);  // never closed: kernels point into it
  if (!file) {
    const char* error = dlerror();
    why = error ? error : "it cannot be opened";
    return nullptr;
  }
  const auto table = reinterpret_cast<const CellTable* (*)()>(dlsym(file, "throughtime_cell"));
  if (!table) why = "it has no function throughtime_cell";
  return table ? table() : nullptr;
}

}  // namespace

int load_cell(const std::string& path, std::string& why) {
  const CellTable* const table = open(path, why);
  if (!table) return -1;
  Loaded cell{};
  if (std::strcmp(table->headers, THROUGHTIME_HEADERS) != 0) why = "it was compiled for another build of the kernels";
  else if (!parse_architecture(table->arch, cell.arch) || !is_supported(cell.arch)) why = "it was compiled for another machine";
  if (!why.empty()) return -1;
  cell.element = table->element;
  cell.element == 4 ? kernel_from<float>(*table, cell.arch, cell.single) : kernel_from<double>(*table, cell.arch, cell.twice);
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.cells.push_back(cell);
  return first_loaded + static_cast<int>(all.cells.size()) - 1;
}

template <class T>
const Kernel<T>* loaded_kernel(int cell, ArchName arch) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const int place = cell - first_loaded;
  if (place < 0 || place >= static_cast<int>(all.cells.size())) return nullptr;
  const Loaded& found = all.cells[static_cast<std::size_t>(place)];
  if (found.arch != arch || found.element != static_cast<int>(sizeof(T))) return nullptr;
  const void* room;
  if constexpr (sizeof(T) == 4) room = found.single.room; else room = found.twice.room;
  return static_cast<const Kernel<T>*>(room);
}

template const Kernel<float>* loaded_kernel<float>(int, ArchName);
template const Kernel<double>* loaded_kernel<double>(int, ArchName);

}  // namespace throughtime
