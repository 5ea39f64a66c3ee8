// What the module holds, file by file.
#pragma once

#include <nanobind/nanobind.h>

namespace throughtime {

void add_layer(nanobind::module_&);
void add_layers(nanobind::module_&);
void add_stack(nanobind::module_&);
void add_steps(nanobind::module_&);
void add_sizes(nanobind::module_&);
void add_functions(nanobind::module_&);

}  // namespace throughtime
