// What a file with one cell exports. The Python side writes such a file, compiles it with these headers for one architecture and element
// type, and loaded.cpp opens the result:
//
//   #define ARCH Avx512
//   #include "cell_export.hpp"
//   namespace throughtime { struct OwnCell { ... }; }       // as cell.hpp says
//   THROUGHTIME_EXPORT(OwnCell, float, "avx512")
#pragma once

#include "cell_tiles.hpp"
#include "more_functions.hpp"

#define THROUGHTIME_EXPORT(Cell, T, arch)                                                                                     \
  extern "C" __attribute__((visibility("default"))) const throughtime::CellTable* throughtime_cell() {                        \
    static const throughtime::CellTable table = {                                                                             \
        THROUGHTIME_HEADERS, arch, sizeof(T), throughtime::form_of<throughtime::Cell>(),                                      \
        reinterpret_cast<void*>(&throughtime::CellTiles<throughtime::Cell, T, throughtime::ARCH>::forward),                   \
        reinterpret_cast<void*>(&throughtime::CellTiles<throughtime::Cell, T, throughtime::ARCH>::backward),                  \
        reinterpret_cast<void*>(throughtime::between_tile<throughtime::Cell, T, throughtime::ARCH>()),                        \
        reinterpret_cast<void*>(throughtime::late_tile<throughtime::Cell, T, throughtime::ARCH>()),                           \
        reinterpret_cast<void*>(throughtime::prepare_of<throughtime::Cell, T, throughtime::ARCH>())};                         \
    return &table;                                                                                                            \
  }
