// What travels between the ranks of an emulated NCCL communicator: whole messages by MPI, in order
// between any two ranks. No call waits, and none moves anything but progress().
#pragma once

// Without MPI's C++ interface, which warns.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <vector>

namespace normlab::emulator {

enum class NcclKind : int32_t {
  hello,  // of a communicator that begins
  abort,  // of one that was aborted
  all_reduce,
  reduce,
  broadcast,
  reduce_scatter,
  all_gather,
  send,
  receive,
};

// Goes before the numbers of every operation, so that each side knows what the other is doing.
struct NcclHeader {
  NcclKind kind = NcclKind::hello;
  ncclDataType_t type = ncclUint8;
  int32_t peer = -1;       // root, or the other side of a send or receive; −1: none
  int32_t group_size = 1;  // operations between these two ranks in the group
  uint64_t count = 0;
  uint64_t sequence = 0;  // among the operations between these two ranks, from 1
};

struct NcclMessage {
  NcclHeader header;
  std::vector<std::byte> payload;
};

// Begins MPI where nobody has; then it is also ended with the process.
struct NcclWorld {
  int rank = 0;
  int ranks = 1;
};
NcclWorld nccl_world();

class NcclWire {
 public:
  // All ranks of MPI's world; messages of one tag.
  explicit NcclWire(int tag);
  ~NcclWire();
  NcclWire(const NcclWire&) = delete;
  NcclWire& operator=(const NcclWire&) = delete;

  void send(int to, const NcclMessage& message);
  void progress();
  bool all_sent() const { return outgoing_.empty(); }
  // What has come from a rank, and was not taken away.
  std::deque<NcclMessage>& inbox(int from) { return inboxes_[static_cast<size_t>(from)]; }

 private:
  struct Transfer {
    MPI_Request request = MPI_REQUEST_NULL;
    std::vector<std::byte> bytes;
  };
  void look_for_messages(int from);
  void take_messages(int from);

  int tag_;
  std::list<Transfer> outgoing_;
  std::vector<std::list<Transfer>> incoming_;  // by rank
  std::vector<std::deque<NcclMessage>> inboxes_;
};

}  // namespace normlab::emulator
