// Threads for one call: they share independent parts, or form a team whose members meet at barriers.
//
// Its rules:
//   * The threads are those of the OpenMP library that the process has already loaded, which is torch's. Threads of our own would
//     contend for the cores with torch's, which spin for milliseconds after each of its operations. Where there is no such library,
//     and in the child of a fork, which has lost its threads, a call starts threads of its own and ends them.
//   * A member that waits for another spins a little, then yields. If one is late at a barrier, the machine is busy, and for a
//     while (doubling each time) teams have one member.
//   * The result depends on the number of parts only, not on which thread computed them.
//   * One call at a time has threads; a second one at the same time runs on the thread that made it.
#pragma once

namespace throughtime {

class Team;  // the members of one running team

// A barrier: returns when every member has called it as often as this one. All members may then read what each wrote before it.
void meet(Team& team, int member);

// One member of a team: member 0 … size − 1.
struct Member { int member, size; Team* team; };

// body(context, part) for every part in 0 … parts − 1, on as many threads.
void run_parts(int parts, void (*body)(void* context, int part), void* context);

// prepare(context), then body(context, member) by `size` ≤ wanted members at the same time.
void run_team(int wanted, void (*prepare)(void* context), void (*body)(void* context, Member), void* context);

}  // namespace throughtime
