// The module's Python face. Its functions check every array, release the GIL and run the call.
#include "module.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "../gil.hpp"
#include "../loaded.hpp"
#include "arguments.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace throughtime;

namespace {

// Cells that were compiled after this extension.
int load(const std::string& path) {
  std::string why;
  const int cell = load_cell(path, why);
  if (cell < 0) raise_value(path + " is no cell for these kernels: " + why + ".");
  return cell;
}

}  // namespace

NB_MODULE(_kernels, m) {
  m.doc() = "Packed, fused kernels for backpropagation through time on the CPU.";

  m.attr("ELMAN_TANH") = static_cast<int>(CellKind::elman_tanh);
  m.attr("ELMAN_RELU") = static_cast<int>(CellKind::elman_relu);
  m.attr("ELMAN_IDENTITY") = static_cast<int>(CellKind::elman_identity);
  m.attr("ELMAN_SIGMOID") = static_cast<int>(CellKind::elman_sigmoid);
  m.attr("GRU") = static_cast<int>(CellKind::gru);
  m.attr("LSTM") = static_cast<int>(CellKind::lstm);

  m.def("architecture", [] { return std::string(name_of(default_architecture())); },
        "The architecture that serves when none is asked for. Raises ValueError where THROUGHTIME_ARCH names none that can.");
  m.def("architectures", &supported_architectures, "Those that this machine can run, plainest first.");
  m.def("headers", [] { return std::string(THROUGHTIME_HEADERS); }, "A sum over the headers that this extension was compiled from.");
  m.def("load_cell", &load, "path"_a,
        "The number of a cell that was compiled against the headers that headers() names, for one architecture and element type. Runs the file's code.");

  add_sizes(m);
  add_layer(m);
  add_layers(m);
  add_stack(m);
  add_steps(m);
  add_functions(m);

  nb::module_::import_("atexit").attr("register")(nb::cpp_function(&keep_threads_in_kernels));
}
