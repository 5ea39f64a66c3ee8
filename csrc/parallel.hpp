// Threads: a small pool that shares out independent parts, or forms a team whose members meet at barriers.
//
// Rules that it keeps:
//   * Nobody waits without bound on a core that somebody else wants: a wait spins a little, then yields. Parts that no
//     worker has taken are done by the caller, so a starved worker delays nothing that it has not begun.
//   * A team is formed of those who turn up at once. When a member is late at a barrier, the machine is busy, and for
//     a while (doubling each time) teams have one member.
//   * What is computed depends on how many parts were asked for, never on who computed them.
//   * One pool serves one call at a time; a second call at the same moment does its work on its own thread.
//   * Workers are joined at interpreter exit; after a fork the child starts with a fresh pool.
#pragma once

namespace throughtime {

// The members of one running team. wait() returns when every member has called it as often as this one.
class Team {
 public:
  void wait(int member);

 private:
  friend void run_team(int, void (*)(void*), void (*)(void*, int, int, Team*), void*);
  static constexpr int most = 64;
  struct alignas(64) Arrival { long count; };  // touched by __atomic builtins
  Arrival arrivals[most] = {};
  int size = 1;
};

// body(context, part) for every part in 0 … parts − 1, on as many threads.
void run_parts(int parts, void (*body)(void* context, int part), void* context);

// prepare(context), then body(context, member, size, team) by `size` ≤ wanted members at the same time.
void run_team(int wanted, void (*prepare)(void* context),
              void (*body)(void* context, int member, int size, Team* team), void* context);

// Ends the workers. Calls that follow work on one thread.
void shut_down();

}  // namespace throughtime
