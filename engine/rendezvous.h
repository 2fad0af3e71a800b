// Rendezvous: how the ranks of a job come by the first bytes that they share, where no MPI carries
// them. Each function is called by all ranks, leaves the first rank's `bytes` with all, and waits
// at most `timeout_seconds`; then it throws an Error of kind communication that names the ranks
// which did not come; or one of kind stopped, where a signal asks for it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "engine/communicator.h"
#include "engine/job_place.h"

namespace normlab {

// The first rank listens on the port, the others connect to it there, again and again.
struct TcpAddress {
  std::string host;  // of the first rank, name or number
  int port = 0;
};
void broadcast_by_tcp(const JobPlace& place, const TcpAddress& address, double timeout_seconds,
                      std::span<std::byte> bytes);

// By files in a directory that all ranks see; they are removed in the end. Each rank asks with a
// number that nobody has ever asked with, so that what an earlier job has left there is taken by
// nobody.
void broadcast_by_file(const JobPlace& place, const std::string& directory, double timeout_seconds,
                       std::span<std::byte> bytes);

// By TCP where MASTER_ADDR and MASTER_PORT say where and the port is not torchrun's own
// (TORCHELASTIC_USE_AGENT_STORE); else by files in `directory`, made where it is not there. Throws
// an input Error where only one of the two is set, or the port is none.
BroadcastBytes find_broadcast(const JobPlace& place, const std::string& directory,
                              double timeout_seconds, const Environment& environment);

}  // namespace normlab
