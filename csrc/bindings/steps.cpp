// One step after another.
#include <cstring>
#include <optional>
#include <vector>

#include "../run.hpp"
#include "layers.hpp"
#include "module.hpp"

namespace throughtime {

using namespace nb::literals;

namespace {

// Several layers that keep their state and their packed weights from step to step. Its owner calls it from one thread at a
// time: it keeps the GIL, which for a step would take as long to pass on as the step.
template <class T>
class StepsOf {
 public:
  StepsOf(const StackArguments& a, Index B) : B_(B) {
    for (int l = 0; l < a.layers; ++l) {
      ForwardCall<T> c{};
      check_stepped_layer(c, a, l);
      I_ = l ? I_ : c.n.I;
      H_ = c.n.H, S_ = c.kernel->states;
      layers_.emplace_back(c, a.threads);
    }
    for (auto& state : state_) state.assign(static_cast<std::size_t>(S_ * a.layers * B_ * H_), T(0));
    for (auto& h : between_) h.resize(static_cast<std::size_t>(B_ * H_));
  }

  void step(nb::handle x, nb::handle y) {
    const T* below = required<T>(x, "x", {{B_, I_}, "(B, I)"});
    T* const top = required_output<T>(y, "y", {{B_, H_}, "(B, H)"});
    const std::size_t L = layers_.size();
    for (std::size_t l = 0; l < L; ++l) {
      const T* before[max_states] = {};
      T* after[max_states] = {};
      for (int k = 0; k < S_; ++k) before[k] = at(now_, k, l), after[k] = at(1 - now_, k, l);
      T* const h = l + 1 == L ? top : between_[l % 2].data();
      layers_[l].step(below, before, h, after);
      below = h;
    }
    now_ = 1 - now_;
  }

  void read_state(nb::handle states) {
    each_state(states, required_output<T>, [](T* theirs, T* mine, std::size_t n) { std::memcpy(theirs, mine, n); });
  }
  void write_state(nb::handle states) {
    each_state(states, required<T>, [](const T* theirs, T* mine, std::size_t n) { std::memcpy(mine, theirs, n); });
  }

 private:
  void check_stepped_layer(ForwardCall<T>& c, const StackArguments& a, int layer) {
    c.kernel = &kernel_of_cell<T>(a.cell, default_architecture());
    c.keep = Keep::none;
    const Index G = c.kernel->gates;
    Entries entries(a.weights, arrays_of_layer * static_cast<std::size_t>(a.layers), "weights");
    entries.skip(arrays_of_layer * static_cast<std::size_t>(layer));
    const nb::handle W = entries.next(), R = entries.next();
    const Array input_weights(W, "W", false), recurrent(R, "R", false);
    if (input_weights.ndim() != 2 || input_weights.size(1) < 1) raise_value("W is " + input_weights.described() + "; expected (G*H, I), I at least 1.");
    if (recurrent.ndim() != 2 || recurrent.size(1) < 1) raise_value("R is " + recurrent.described() + "; expected (G*H, H), H at least 1.");
    const Index I = layer ? H_ : input_weights.size(1), H = layer ? H_ : recurrent.size(1);
    c.n = {1, B_, I, H};
    c.W = c.xs = required<T>(W, "W", {{G * H, I}, "(G*H, I)"});  // xs: anything but null
    c.R = required<T>(R, "R", {{G * H, H}, "(G*H, H)"});
    c.b_ih = input<T>(entries.next(), "b_ih", {{G * H}, "(G*H,)"});
    c.b_hh = input<T>(entries.next(), "b_hh", {{G * H}, "(G*H,)"});
  }

  T* at(int which, int state, std::size_t layer) { return state_[which].data() + (static_cast<Index>(state) * layers() + static_cast<Index>(layer)) * B_ * H_; }
  Index layers() const { return static_cast<Index>(layers_.size()); }

  template <class P, class Copy>
  void each_state(nb::handle states, P (*check)(nb::handle, const char*, Axes), Copy copy) {
    static constexpr const char* names[] = {"state[0]", "state[1]"};
    Entries entries(states, static_cast<std::size_t>(S_), "state, a tuple of S arrays");
    P theirs[max_states] = {};
    for (int k = 0; k < S_; ++k) theirs[k] = check(entries.next(), names[k], {{layers(), B_, H_}, "(layers, B, H)"});
    for (int k = 0; k < S_; ++k) copy(theirs[k], at(now_, k, 0), static_cast<std::size_t>(layers() * B_ * H_) * sizeof(T));
  }

  Index B_, I_ = 0, H_ = 0;
  int S_ = 0, now_ = 0;  // now_: which of the two states is the present one
  std::vector<Stepper<T>> layers_;
  std::vector<T> state_[2], between_[2];  // (S, layers, B, H) each; (B, H) each
};

// Of float32 or of float64, by what the weights are.
class Steps {
 public:
  Steps(nb::handle cell, nb::handle weights, nb::handle streams, nb::handle threads) {
    const Index B = read<int>(streams, "streams", "an int");
    if (B < 1) raise_value("streams is " + std::to_string(B) + "; expected at least 1.");
    const StackArguments a(nb::make_tuple(cell, nb::none(), nb::none(), weights, nb::none(), "none", threads));
    Entries entries(a.weights, arrays_of_layer * static_cast<std::size_t>(a.layers), "weights");
    if (is_double(entries.next(), "W")) float64_.emplace(a, B);
    else float32_.emplace(a, B);
  }
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;

  void step(nb::handle x, nb::handle y) { float64_ ? float64_->step(x, y) : float32_->step(x, y); }
  void read_state(nb::handle states) { float64_ ? float64_->read_state(states) : float32_->read_state(states); }
  void write_state(nb::handle states) { float64_ ? float64_->write_state(states) : float32_->write_state(states); }

 private:
  std::optional<StepsOf<float>> float32_;
  std::optional<StepsOf<double>> float64_;
};

}  // namespace

void add_steps(nb::module_& m) {
  nb::class_<Steps>(m, "Steps",
        "Layers from the first to the last that keep their state and their packed weights from step to step.\n\n"
        "Call one from one thread at a time: it keeps the interpreter's lock.")
      .def(nb::init<nb::handle, nb::handle, nb::handle, nb::handle>(), "cell"_a, "weights"_a, "streams"_a, "threads"_a,
           "weights: one tuple of W, R, b_ih, b_hh of every layer, as torch stores them; they are copied. The state is zero.")
      .def("step", &Steps::step, "x"_a.none(), "y"_a.none(), "One step of every stream: x (B, I); y (B, H), written.")
      .def("read_state", &Steps::read_state, "state"_a.none(), "Copies the state into a tuple of S arrays (layers, B, H).")
      .def("write_state", &Steps::write_state, "state"_a.none(), "Copies the state from a tuple of S arrays (layers, B, H).");
}

}  // namespace throughtime
