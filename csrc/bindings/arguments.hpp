// Reads the arguments of a call: words, numbers, arrays and tuples, each checked, with what was expected where it is something else.
//
// T time, B batch, I input, H hidden, G gates, S states.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <initializer_list>
#include <string>
#include <vector>

#include "../architectures.hpp"
#include "../arrays.hpp"
#include "../kernels.hpp"
#include "../loaded.hpp"

namespace throughtime {

[[noreturn]] void raise_value(const std::string& message);
[[noreturn]] void raise_type(const std::string& message);

// ---- Words and numbers

std::vector<std::string> supported_architectures();  // those that this machine can run, plainest first
ArchName default_architecture();                     // what serves when a call names none

template <class T>
T read(nb::handle object, const char* name, const char* expected) {
  T value;
  if (!nb::try_cast(object, value, false)) raise_type(std::string(name) + " is a " + class_of(object) + "; expected " + expected + ".");
  return value;
}

Keep parse_keep(nb::handle);
int parse_cell(nb::handle);  // one of the kinds, or the number of a loaded cell
ArchName parse_arch(nb::handle);
int parse_threads(nb::handle);

template <class T>
const Kernel<T>& kernel_of_cell(int cell, ArchName arch) {
  if (cell < first_loaded) return kernel<T>(static_cast<CellKind>(cell), arch);
  if (const Kernel<T>* found = loaded_kernel<T>(cell, arch)) return *found;
  raise_value("cell is " + std::to_string(cell) + ", which was not loaded for float" + (sizeof(T) == 4 ? "32" : "64") + " and " +
              name_of(arch) + "; expected what load_cell returned for these.");
}

// ---- Arrays

template <class T> constexpr Element element_for = sizeof(T) == 4 ? Element::float32 : Element::float64;
template <> inline constexpr Element element_for<std::int64_t> = Element::int64;
template <> inline constexpr Element element_for<std::uint8_t> = Element::boolean;

// What an array must be: its sizes, and their letters.
struct Axes {
  std::initializer_list<Index> sizes;
  const char* letters;
};

// An array that a call reads, or null for None.
template <class T>
const T* input(nb::handle object, const char* name, Axes axes) {
  if (object.is_none()) return nullptr;
  const Array a(object, name, false);
  a.expect(element_for<T>, axes.sizes, axes.letters);
  return a.data<const T>();
}

template <class T>
const T* required(nb::handle object, const char* name, Axes axes) {
  const T* p = input<T>(object, name, axes);
  if (!p) raise_type(std::string(name) + " is None; expected an array " + axes.letters + ".");
  return p;
}

// An array that a call writes, or null for None.
template <class T>
T* output(nb::handle object, const char* name, Axes axes) {
  if (object.is_none()) return nullptr;
  const Array a(object, name, true);
  a.expect(element_for<T>, axes.sizes, axes.letters);
  return a.data<T>();
}

template <class T>
T* required_output(nb::handle object, const char* name, Axes axes) {
  T* p = output<T>(object, name, axes);
  if (!p) raise_type(std::string(name) + " is None; expected an array " + axes.letters + " to write to.");
  return p;
}

// float32 or float64, by what xs is.
bool is_double(nb::handle xs, const char* name);

// ---- Tuples

// The entries of a tuple, one after the other.
class Entries {
 public:
  Entries(nb::handle tuple, std::size_t count, const char* expected) : tuple_(tuple) {
    if (!nb::isinstance<nb::tuple>(tuple)) raise_type("a " + class_of(tuple) + " was given; expected the tuple " + expected + ".");
    if (nb::len(tuple) != count) raise_value("a tuple of " + std::to_string(nb::len(tuple)) + " was given; expected " + expected + ".");
  }
  nb::handle next() { return nb::borrow<nb::tuple>(tuple_)[next_++].ptr(); }
  void skip(std::size_t count) { next_ += count; }

 private:
  nb::handle tuple_;
  std::size_t next_ = 0;
};

// How messages call a state and its arrays.
struct StateNames { const char *whole, *each[max_states]; };

// The S arrays (B, H) of a state, each by `check`; None leaves `to` as it is.
template <class T, class P>
void read_states(nb::handle object, const StateNames& names, const Layer<T>& c, P (*check)(nb::handle, const char*, Axes), P* to) {
  if (object.is_none()) return;
  Entries entries(object, static_cast<std::size_t>(c.kernel->states), names.whole);
  for (int k = 0; k < c.kernel->states; ++k) to[k] = check(entries.next(), names.each[k], {{c.n.B, c.n.H}, "(B, H)"});
}

}  // namespace throughtime
