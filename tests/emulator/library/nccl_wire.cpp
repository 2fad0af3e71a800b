#include "tests/emulator/library/nccl_wire.h"

#include <cstring>

namespace normlab::emulator {
namespace {

class Session {
 public:
  Session() {
    int begun = 0;
    MPI_Initialized(&begun);
    if (begun != 0) return;
    int given = MPI_THREAD_SINGLE;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &given);
    own_ = true;
  }
  ~Session() {
    int ended = 0;
    MPI_Finalized(&ended);
    if (own_ && ended == 0) MPI_Finalize();
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  bool own_ = false;
};

bool is_done(MPI_Request& request) {
  int done = 0;
  MPI_Test(&request, &done, MPI_STATUS_IGNORE);
  return done != 0;
}

}  // namespace

NcclWorld nccl_world() {
  static const Session only;
  NcclWorld world;
  MPI_Comm_rank(MPI_COMM_WORLD, &world.rank);
  MPI_Comm_size(MPI_COMM_WORLD, &world.ranks);
  return world;
}

NcclWire::NcclWire(int tag)
    : tag_(tag),
      incoming_(static_cast<size_t>(nccl_world().ranks)),
      inboxes_(static_cast<size_t>(nccl_world().ranks)) {}

// What nobody will take is left to MPI with its bytes.
NcclWire::~NcclWire() {
  for (Transfer& transfer : outgoing_) new std::vector<std::byte>(std::move(transfer.bytes));
}

void NcclWire::send(int to, const NcclMessage& message) {
  Transfer& transfer = outgoing_.emplace_back();
  transfer.bytes.resize(sizeof(NcclHeader) + message.payload.size());
  std::memcpy(transfer.bytes.data(), &message.header, sizeof(NcclHeader));
  if (!message.payload.empty()) {
    std::memcpy(transfer.bytes.data() + sizeof(NcclHeader), message.payload.data(),
                message.payload.size());
  }
  MPI_Isend(transfer.bytes.data(), static_cast<int>(transfer.bytes.size()), MPI_BYTE, to, tag_,
            MPI_COMM_WORLD, &transfer.request);
}

void NcclWire::progress() {
  std::erase_if(outgoing_, [](Transfer& transfer) { return is_done(transfer.request); });
  for (int from = 0; from < static_cast<int>(inboxes_.size()); ++from) {
    look_for_messages(from);
    take_messages(from);
  }
}

void NcclWire::look_for_messages(int from) {
  while (true) {
    int found = 0, bytes = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    MPI_Improbe(from, tag_, MPI_COMM_WORLD, &found, &message, &status);
    if (found == 0) return;
    MPI_Get_count(&status, MPI_BYTE, &bytes);
    Transfer& transfer = incoming_[static_cast<size_t>(from)].emplace_back();
    transfer.bytes.resize(static_cast<size_t>(bytes));
    MPI_Imrecv(transfer.bytes.data(), bytes, MPI_BYTE, &message, &transfer.request);
  }
}

void NcclWire::take_messages(int from) {
  auto& incoming = incoming_[static_cast<size_t>(from)];
  while (!incoming.empty() && is_done(incoming.front().request)) {
    const std::vector<std::byte>& bytes = incoming.front().bytes;
    NcclMessage message;
    std::memcpy(&message.header, bytes.data(), sizeof(NcclHeader));
    message.payload.assign(bytes.begin() + sizeof(NcclHeader), bytes.end());
    inbox(from).push_back(std::move(message));
    incoming.pop_front();
  }
}

}  // namespace normlab::emulator
