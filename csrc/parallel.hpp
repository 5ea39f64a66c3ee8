// Threads: a small pool that shares out independent parts, or forms a team whose members meet at barriers.
//
// Rules that it keeps:
//   * Nobody waits without bound on a core that somebody else wants: a wait spins a little, then yields. Parts that no
//     worker has taken are done by the caller, so a starved worker delays nothing that it has not begun.
//   * A team is formed of those who turn up at once. When a member is late at a barrier, the machine is busy, and for
//     a while (doubling each time) teams have one member.
//   * What is computed depends on how many parts were asked for, never on who computed them.
//   * One pool serves one call at a time; a second call at the same moment does its work on its own thread.
//   * Workers end with the process: they are detached, and the pool that they wait in is never destroyed. After a fork
//     the child starts with a fresh pool.
#pragma once

namespace throughtime {

class Team;  // the members of one running team

// Returns when every member has called it as often as this one. What each wrote before it, all may read after it.
void meet(Team& team, int member);

// One member of a team: member 0 … size − 1.
struct Member { int member, size; Team* team; };

// body(context, part) for every part in 0 … parts − 1, on as many threads.
void run_parts(int parts, void (*body)(void* context, int part), void* context);

// prepare(context), then body(context, member) by `size` ≤ wanted members at the same time.
void run_team(int wanted, void (*prepare)(void* context), void (*body)(void* context, Member), void* context);

}  // namespace throughtime
