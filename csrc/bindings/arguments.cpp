// Reads the arguments of a call.
#include "arguments.hpp"

#include <cstdlib>

namespace throughtime {

void raise_value(const std::string& message) { throw nb::value_error(message.c_str()); }
void raise_type(const std::string& message) { throw nb::type_error(message.c_str()); }

std::vector<std::string> supported_architectures() {
  std::vector<std::string> names;
  for (ArchName a : all_architectures)
    if (is_supported(a)) names.push_back(name_of(a));
  return names;
}

namespace {

// Why `name` cannot serve.
std::string not_an_architecture(const std::string& name) {
  ArchName known;
  std::string message = "'" + name + "'" + (parse_architecture(name.c_str(), known) ? ", which this machine cannot run" : "") + "; expected one of ";
  for (const std::string& other : supported_architectures()) message += "'" + other + "', ";
  return message + "which are those that this machine runs";
}

// What serves when a call names no architecture: the best, or the one that THROUGHTIME_ARCH names. Where that cannot
// serve, no call does: the import goes well, so that the error is not taken for an extension that is missing.
class Default {
 public:
  Default() : arch_(best_architecture()) {
    const char* forced = std::getenv("THROUGHTIME_ARCH");
    if (!forced || !*forced || (parse_architecture(forced, arch_) && is_supported(arch_))) return;
    wrong_ = "THROUGHTIME_ARCH is " + not_an_architecture(forced) + ". Set it to one of them, or unset it to have the best.";
  }
  ArchName operator()() const {
    if (!wrong_.empty()) raise_value(wrong_);
    return arch_;
  }

 private:
  ArchName arch_;
  std::string wrong_;
};

const Default chosen;

}  // namespace

ArchName default_architecture() { return chosen(); }

Keep parse_keep(nb::handle object) {
  const auto keep = read<std::string>(object, "keep", "'fast', 'lean' or 'none'");
  if (keep == "none") return Keep::none;
  if (keep == "lean") return Keep::lean;
  if (keep == "fast") return Keep::fast;
  raise_value("keep is '" + keep + "'; expected 'fast' (gates kept), 'lean' (gates computed again) or 'none' (no backward).");
}

int parse_cell(nb::handle object) {
  const int cell = read<int>(object, "cell", "one of this module's constants, such as GRU");
  if (cell < 0 || (cell > static_cast<int>(CellKind::lstm) && cell < first_loaded))
    raise_value("cell is " + std::to_string(cell) + "; expected one of this module's constants, such as GRU, or what load_cell returned.");
  return cell;
}

ArchName parse_arch(nb::handle arch) {
  if (arch.is_none()) return default_architecture();
  ArchName a;
  const auto name = read<std::string>(arch, "arch", "a name from architectures(), or None");
  if (!parse_architecture(name.c_str(), a) || !is_supported(a)) raise_value("arch is " + not_an_architecture(name) + ".");
  return a;
}

int parse_threads(nb::handle object) {
  const int threads = read<int>(object, "threads", "an int");
  if (threads < 1) raise_value("threads is " + std::to_string(threads) + "; expected at least 1.");
  return threads < 64 ? threads : 64;
}

bool is_double(nb::handle xs, const char* name) {
  const Array a(xs, name, false);
  if (a.element() == Element::float64) return true;
  if (a.element() == Element::float32) return false;
  raise_type(std::string(name) + " is " + a.described() + "; expected float32 or float64. Convert with .to(...).");
}

}  // namespace throughtime
