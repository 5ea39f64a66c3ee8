// Cells that were compiled after this extension, each in a file of its own for one architecture and element type.
#pragma once

#include <string>

#include "architectures.hpp"

namespace throughtime {

constexpr int first_loaded = 1000;  // below it are the kinds of kernels.hpp

// Opens a file that cell_export.hpp describes. Returns the cell's number; or -1, and `why` says what is wrong with the file.
// The file's code runs here: the caller has made sure that it is one of our own.
int load_cell(const std::string& path, std::string& why);

// The kernel of a loaded cell; null if there is none with that number, architecture and element type.
template <class T> const Kernel<T>* loaded_kernel(int cell, ArchName);

}  // namespace throughtime
