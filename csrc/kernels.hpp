// The interface between the bindings and the kernels: the arguments of a call, and the table that every architecture fills in.
//
// T time, B batch, I input, H hidden, G gates, E rows of R, S states, C residuals: numbers per unit that forward keeps for backward. All arrays
// are dense and row-major; the caller owns all of them; no output aliases anything.
#pragma once

#include <cstddef>
#include <cstdint>

#include "index.hpp"

namespace throughtime {

class Team;  // parallel.hpp

constexpr int max_gates = 8, max_states = 4;  // panels of 5 and 7 gates do not exist: see tiles_of

// A cell's numbers (cell.hpp says what they mean), for code that is compiled once for all cells.
struct Form {
  int gates, states, residuals, slots;
  int wx_slot[max_gates], rh_slot[max_gates];
  int parameters, learned;  // vectors (H) of the cell's own; the first `learned` of them have gradients
  bool reads_h_prev;        // whether backward needs h before the step in blocks, for dR or for a cell with R
  int rows;                 // E: gates that have a half rh. 0: R and b_hh are null, and every unit goes its own way
  int late;                 // of these the last ones, whose R multiplies q
  int passed;               // numbers per unit from the first stage of a step to the second
  int derived;              // vectors (H) that are made of the cell's own before a pass
  constexpr int early() const { return rows - late; }
};

struct Sizes { Index T, B, I, H; };

// What forward keeps. none: outputs only. lean: every `lean_interval`-th state; the gates are recomputed. fast: the gates.
enum class Keep { none, lean, fast };

// Steps between two kept states in lean mode. A function of B alone, so that both passes agree for any number of threads.
constexpr Index lean_interval(Index B) { return B >= 256 ? 1 : 256 / B; }

// Steps in a chunk of a stacked layer: about an eighth of the whole, but 32 rows at least, for the sums over rows, and no more than elsewhere.
// A function of the sizes alone, so that the sums have one order for any number of threads.
constexpr Index stacked_interval(Index T, Index B) {
  const Index least = B >= 32 ? 1 : 32 / B, most = B >= 256 ? 1 : 256 / B, eighth = (T + 7) / 8;
  return eighth < least ? least : eighth < most ? eighth : most;
}

// The division of a call: independent `groups` of sequences, each computed by `members` that share its hidden units and wait for
// one another at every step. One of the two is 1.
struct Split { int groups, members; };

template <class T> struct Kernel;

template <class T>
struct Layer {
  const Kernel<T>* kernel;      // the cell's
  Sizes n;
  const T* xs;                  // (T, B, I), or null
  const T* wx;                  // (T, B, G, H): W x + b_ih already made, in place of xs, W and b_ih, which are null, and I 0; or null
  const T* state[max_states];   // (B, H) each, or null for zeros: the state before the first step
  const T* W;                   // (G, H, I), or null
  const T* R;                   // (E, H, H), or null where the cell has no R
  const T* b_ih;                // (G, H) or null
  const T* b_hh;                // (E, H) or null
  const T* parameters;          // (P, H): the cell's own vectors; null where it has none
  const std::int64_t* lengths;  // (B), 0 … T each, or null: all T
  const std::uint8_t* reset;    // (T, B) or null: before step t the state of b is replaced by restart
  const T* restart[max_states]; // (B, H) each, or null: zeros
  bool reverse;                 // from each sequence's end to 0
  Keep keep;
  bool stacked;                 // one of several layers that take turns: shorter chunks, so that there are turns to take
  bool packed;                  // the weights were packed into this scratch before, and W, R and the biases are not read
};

template <class T>
struct ForwardCall : Layer<T> {
  T* hs;                        // (T, B, H) out; zero beyond a sequence's length
  T* last[max_states];          // (B, H) each, out
  T* residuals;                 // out; see Kernel::residuals_size; null when there is nothing to keep
};

template <class T>
struct BackwardCall : Layer<T> {
  const T* hs;                  // (T, B, H)
  const T* residuals;           // what forward kept
  const T* dhs;                 // (T, B, H) or null: zeros
  const T* dlast[max_states];   // (B, H) each, or null: zeros
  bool clipped;
  T clip;                       // the norm beyond which an adjoint is scaled back to it
  T* dxs;                       // (T, B, I) out, or null: not wanted
  T* dwx;                       // (T, B, G, H) out where wx is given, or null: not wanted
  T* dW;                        // (G, H, I) out, or null where W is
  T* dR;                        // (E, H, H) out, or null where R is
  T* db_ih;                     // (G, H) out, or null
  T* db_hh;                     // (E, H) out, or null
  T* dparameters;               // (L, H) out: of the cell's learned vectors; null where it has none
  T* dstate[max_states];        // (B, H) each, out, or null
  T* drestart[max_states];      // (B, H) each, out, or null
};

// A call, how it is divided, and its scratch, aligned to 64 bytes.
template <class Call>
struct Job {
  const Call& call;
  Split split;
  void* scratch;
};

// Who does a share of a job.
struct Place {
  int group, member;
  Team* team;  // of the members, where there are several
};

// A pass: every part of `pack` once, in any order; then `share` for every member of every group, groups in any order, members of one group at the
// same time; then `finish`.
template <class Call>
struct Phases {
  std::size_t (*scratch)(const Call&, Split);  // bytes
  void (*pack)(const Job<Call>&, int part, int parts);
  void (*share)(const Job<Call>&, Place);
  void (*finish)(const Job<Call>&);

  // The only share of a job that is not divided, a chunk of time at a time; each may be on another thread than the one before.
  std::size_t walk_size;                           // bytes
  Index (*begin)(const Job<Call>&, void* walk);    // returns the number of chunks
  void (*next)(void* walk, Index chunk);           // in the order of travel
  void (*end)(void* walk);
};

// One cell, element type and architecture.
template <class T>
struct Kernel : Form {
  int width;  // elements in a vector
  Phases<ForwardCall<T>> forward;
  Phases<BackwardCall<T>> backward;
  void (*prepare)(const T* parameters, Index H, T* derived);  // (P, H) to (derived, blocks of units, width); null where there are none

  // Elements that forward leaves for backward beside hs.
  std::size_t residuals_size(Sizes n, Keep keep) const {
    if (residuals == 0 || keep == Keep::none) return 0;
    if (keep == Keep::fast) return static_cast<std::size_t>(n.T * n.B * ((n.H + width - 1) / width) * width * residuals);
    return static_cast<std::size_t>((n.T + lean_interval(n.B) - 1) / lean_interval(n.B) * states * n.B * n.H);
  }
};

// Rows of logits (cross_entropy.hpp).
template <class T>
struct CrossEntropyCall {
  T* o;                         // (N, V) logits; read, and with `gradient` overwritten by their gradient
  const std::int64_t* targets;  // (N) indices in [0, V)
  const T* g;                   // (N) the losses' gradient, or null: ones
  T* losses;                    // (N) out
  Index N, V;
  bool gradient;
};

// What needs no cell: elementwise functions on arrays, for the tests of their accuracy, and the loss.
template <class T>
struct Functions {
  void (*tanh)(const T* x, T* y, Index n);     // x, y: (n); y may be x
  void (*sigmoid)(const T* x, T* y, Index n);
  void (*cross_entropy)(const CrossEntropyCall<T>&, Index first, Index last);  // rows first … last − 1
};

enum class CellKind { elman_tanh, elman_relu, elman_identity, elman_sigmoid, gru, lstm };

// What a cell that was compiled elsewhere hands over (cell_export.hpp): its numbers and its tiles, as addresses of functions.
struct CellTable {
  const char* headers;  // of which headers it was compiled: a sum over their text
  const char* arch;
  int element;          // bytes
  Form form;
  void *forward, *backward;
  void *between, *backward_late;  // null without late gates
  void* prepare;                  // null without vectors of the cell's own
};

// Room for a kernel with its tiles, for code that does not know its architecture.
template <class T>
struct LoadedKernel {
  alignas(Kernel<T>) unsigned char room[sizeof(Kernel<T>) + 4 * sizeof(void (*)())];
};

// Defined once per architecture, in arch/<name>.cpp.
template <class Arch, class T> const Kernel<T>& kernel_for(CellKind);
template <class Arch, class T> void kernel_from(const CellTable&, LoadedKernel<T>& to);
template <class Arch, class T> const Functions<T>& functions_for();

}  // namespace throughtime
