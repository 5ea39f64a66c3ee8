// The threads of a call, for ThreadSanitizer to watch (make sanitize-threads): two callers at once, parts and teams by
// turns. What one member writes before a barrier, all others read after it.
#include "../../csrc/parallel.hpp"

#include <cstdio>
#include <thread>
#include <vector>

using namespace throughtime;

namespace {

constexpr int parts = 4, steps = 50;

struct Work {
  int start = 0;
  std::vector<int> cells = std::vector<int>(parts);
  std::vector<int> steps_of = std::vector<int>(64);
  bool wrong = false;
};

void prepare(void* context) { static_cast<Work*>(context)->start = 1; }

void part(void* context, int n) { static_cast<Work*>(context)->cells[n] += n; }

// Each member counts its steps; after each barrier all have done as many. Two barriers a step: none runs ahead.
void member(void* context, Member who) {
  Work& w = *static_cast<Work*>(context);
  bool wrong = w.start != 1;
  for (int step = 1; step <= steps; ++step) {
    w.steps_of[who.member] = step;
    if (who.size > 1) meet(*who.team, who.member);
    for (int m = 0; m < who.size; ++m) wrong |= w.steps_of[m] != step;
    if (who.size > 1) meet(*who.team, who.member);
  }
  if (who.member == 0) w.wrong |= wrong;
}

bool rounds(int count) {
  for (int n = 0; n < count; ++n) {
    Work w;
    run_parts(parts, part, &w);
    run_team(2 + n % 2, prepare, member, &w);
    for (int k = 0; k < parts; ++k) w.wrong |= w.cells[k] != k;
    if (w.wrong) return false;
  }
  return true;
}

}  // namespace

int main() {
  bool right[2] = {};
  std::thread other([&] { right[1] = rounds(300); });
  right[0] = rounds(300);
  other.join();
  std::puts(right[0] && right[1] ? "right" : "wrong");
  return right[0] && right[1] ? 0 : 1;
}
