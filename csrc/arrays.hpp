// Arrays from Python, borrowed for one call: their address, type, sizes, and whether they may be written.
//
// DLPack's exchange table (one C call, some tens of nanoseconds) where an array's type offers it, as torch.Tensor does;
// nanobind's import (DLPack capsules, the buffer protocol) for everything else. Neither needs a PyTorch header.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <string>

namespace throughtime {

namespace nb = nanobind;

enum class Element { float32, float64, int64, boolean, other };

class Array {
 public:
  // `object` must outlive the array; `name` is what messages call it.
  Array(nb::handle object, const char* name, bool written);

  Element element() const { return element_; }
  int ndim() const { return ndim_; }
  std::ptrdiff_t size(int axis) const { return sizes_[axis]; }

  // Raises TypeError or ValueError unless the array has this type and these sizes, dense and row-major, on the CPU.
  void expect(Element element, std::initializer_list<std::ptrdiff_t> sizes, const char* axes) const;

  template <class T> T* data() const { return static_cast<T*>(data_); }

  std::string described() const;  // "float32 (3, 4)"

 private:
  static constexpr int most_axes = 8;
  nb::handle object_;
  const char* name_;
  nb::ndarray<nb::ro> owner_;  // keeps an imported array alive; empty when the exchange table served
  void* data_ = nullptr;
  Element element_ = Element::other;
  int ndim_ = 0;
  bool on_cpu_ = true, dense_ = true;
  std::ptrdiff_t sizes_[most_axes] = {};
};

const char* name_of(Element);
std::string class_of(nb::handle object);  // its type's name

}  // namespace throughtime
