// A small pool of threads. It distributes independent parts, or forms a team whose members meet at barriers.
//
// Its rules:
//   * No thread spins without bound on a core that another thread needs: a waiting thread spins a little, then yields. The caller
//     computes the parts that no worker has taken, so a worker without a core delays only the parts that it has begun.
//   * A team consists of the workers that are ready at once. If a member is late at a barrier, the machine is busy, and for
//     a while (doubling each time) teams have one member.
//   * The result depends on the number of parts only, not on which thread computed them.
//   * One pool serves one call at a time; a second call at the same time runs on its own thread.
//   * Workers end with the process: they are detached, and the pool that they wait in is never destroyed. After a fork
//     the child starts with a fresh pool.
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
