// The arguments of several layers of one cell, with weights as torch stores them.
#pragma once

#include "arguments.hpp"

namespace throughtime {

constexpr std::size_t arrays_of_layer = 4;  // W (G·H, I), R (E·H, H), b_ih (G·H) and b_hh (E·H) or None

struct StackArguments {
  int cell;
  nb::handle xs, state, weights, vectors;
  int layers;
  Keep keep;
  int threads;

  explicit StackArguments(nb::handle call) {
    Entries e(call, 7, "call = (cell, xs, state, weights, vectors, keep, threads)");
    cell = parse_cell(e.next());
    xs = e.next(), state = e.next(), weights = e.next(), vectors = e.next();
    if (!nb::isinstance<nb::tuple>(weights) || nb::len(weights) == 0 || nb::len(weights) % arrays_of_layer)
      raise_value("weights is a " + class_of(weights) + "; expected a tuple of W, R, b_ih and b_hh for each layer.");
    layers = static_cast<int>(nb::len(weights) / arrays_of_layer);
    keep = parse_keep(e.next());
    threads = parse_threads(e.next());
  }
};

}  // namespace throughtime
