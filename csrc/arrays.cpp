#include "arrays.hpp"

namespace throughtime {

namespace {

// The part of DLPack 1's ABI that is used here (dlpack.h, DLPackExchangeAPI); stable by its own promise.
struct DLDevice { std::int32_t type, id; };
struct DLDataType { std::uint8_t code, bits; std::uint16_t lanes; };
struct DLTensor {
  void* data;
  DLDevice device;
  std::int32_t ndim;
  DLDataType dtype;
  std::int64_t *shape, *strides;
  std::uint64_t byte_offset;
};
struct ExchangeAPI {
  struct { std::uint32_t major, minor; } version;
  ExchangeAPI* previous;
  void *allocator, *managed_from_object, *managed_to_object;
  int (*borrow)(void* object, DLTensor* out);  // may be null
  void* current_stream;
};

// The table of the last type that had one. Python holds the GIL (the module is not marked free-threaded).
const ExchangeAPI* exchange_api(PyTypeObject* type) {
  static PyTypeObject* known = nullptr;
  static const ExchangeAPI* table = nullptr;
  if (type == known) return table;
  nb::object capsule = nb::getattr(nb::handle(reinterpret_cast<PyObject*>(type)), "__dlpack_c_exchange_api__", nb::none());
  if (!PyCapsule_CheckExact(capsule.ptr())) return nullptr;
  auto* found = static_cast<const ExchangeAPI*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (!found) {
    PyErr_Clear();
    return nullptr;
  }
  while (found && found->version.major != 1) found = found->previous;
  if (!found || !found->borrow) return nullptr;
  Py_INCREF(type);  // lives as long as the cache
  known = type;
  return table = found;
}

Element element_of(unsigned code, unsigned bits, unsigned lanes) {
  if (lanes != 1) return Element::other;
  if (code == 2 && bits == 32) return Element::float32;
  if (code == 2 && bits == 64) return Element::float64;
  if (code == 0 && bits == 64) return Element::int64;
  if ((code == 6 || code == 1) && bits == 8) return Element::boolean;
  return Element::other;
}

template <class Size, class Stride>
bool is_dense(int ndim, Size size, Stride stride) {
  std::int64_t expected = 1;
  for (int axis = ndim - 1; axis >= 0; --axis) {
    if (size(axis) != 1 && stride(axis) != expected) return false;
    expected *= size(axis);
  }
  return true;
}

std::string tuple_of(const std::ptrdiff_t* sizes, int n) {
  std::string s = "(";
  for (int k = 0; k < n; ++k) s += (k ? ", " : "") + std::to_string(sizes[k]);
  return s + (n == 1 ? ",)" : ")");
}

[[noreturn]] void raise_type(const std::string& message) { throw nb::type_error(message.c_str()); }
[[noreturn]] void raise_value(const std::string& message) { throw nb::value_error(message.c_str()); }

}  // namespace

const char* name_of(Element element) {
  switch (element) {
    case Element::float32: return "float32";
    case Element::float64: return "float64";
    case Element::int64: return "int64";
    case Element::boolean: return "bool";
    case Element::other: return "another type";
  }
  __builtin_unreachable();
}

std::string class_of(nb::handle object) { return nb::str(object.type().attr("__name__")).c_str(); }

Array::Array(nb::handle object, const char* name, bool written) : object_(object), name_(name) {
  if (const ExchangeAPI* api = exchange_api(Py_TYPE(object.ptr()))) {
    DLTensor t;
    if (api->borrow(object.ptr(), &t) != 0) throw nb::python_error();
    if (t.ndim > most_axes) raise_value(std::string(name) + " has " + std::to_string(t.ndim) + " axes; expected at most 8.");
    data_ = static_cast<char*>(t.data) + t.byte_offset;
    element_ = element_of(t.dtype.code, t.dtype.bits, t.dtype.lanes);
    ndim_ = t.ndim;
    on_cpu_ = t.device.type == 1;
    for (int k = 0; k < ndim_; ++k) sizes_[k] = t.shape[k];
    dense_ = !t.strides || is_dense(ndim_, [&](int k) { return t.shape[k]; }, [&](int k) { return t.strides[k]; });
    return;
  }
  if (!nb::try_cast(object, owner_) || !owner_.is_valid())
    raise_type(std::string(name) + " is a " + class_of(object) + "; expected an array (torch.Tensor, or anything with DLPack or the buffer protocol).");
  nb::ndarray<> writable;
  if (written && (!nb::try_cast(object, writable) || !writable.is_valid()))
    raise_value(std::string(name) + " is read-only; results are written into it. Pass a writable array, such as numpy.empty(...).");
  data_ = const_cast<void*>(owner_.data());
  element_ = element_of(owner_.dtype().code, owner_.dtype().bits, owner_.dtype().lanes);
  if (owner_.ndim() > most_axes) raise_value(std::string(name) + " has " + std::to_string(owner_.ndim()) + " axes; expected at most 8.");
  ndim_ = static_cast<int>(owner_.ndim());
  on_cpu_ = owner_.device_type() == nb::device::cpu::value;
  for (int k = 0; k < ndim_; ++k) sizes_[k] = static_cast<std::ptrdiff_t>(owner_.shape(k));
  dense_ = is_dense(ndim_, [&](int k) { return owner_.shape(k); }, [&](int k) { return owner_.stride(k); });
}

std::string Array::described() const { return std::string(name_of(element_)) + " " + tuple_of(sizes_, ndim_); }

void Array::expect(Element element, std::initializer_list<std::ptrdiff_t> sizes, const char* axes) const {
  bool same = static_cast<int>(sizes.size()) == ndim_;
  int k = 0;
  for (std::ptrdiff_t size : sizes) same = same && sizes_[k++] == size;
  if (same && element == element_ && on_cpu_ && dense_) return;
  const std::string name = name_;
  if (!on_cpu_) raise_value(name + " is not in the CPU's memory; these kernels run on the CPU. Pass " + name + ".cpu(), or use the plain loop.");
  if (element != element_)
    raise_type(name + " is " + described() + "; expected " + name_of(element) + ". All arrays of a call have one type: convert with .to(...).");
  if (!same)
    raise_value(name + " has shape " + tuple_of(sizes_, ndim_) + "; expected " + axes + " = " + tuple_of(sizes.begin(), static_cast<int>(sizes.size())) + ".");
  raise_value(name + " is not contiguous; expected dense rows in C order. Pass " + name + ".contiguous().");
}

}  // namespace throughtime
