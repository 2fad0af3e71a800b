#include "tests/emulator/library/nccl_communicator.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string_view>
#include <thread>

#include "tests/emulator/emulator.h"
#include "tests/emulator/library/device.h"

using normlab::emulator::Failure;
using normlab::emulator::NcclHeader;
using normlab::emulator::NcclKind;
using normlab::emulator::NcclMessage;
using normlab::emulator::NcclOperation;
using normlab::emulator::NcclWire;
using normlab::emulator::NcclWorld;

namespace {

constexpr int kHelloTag = 7001;
constexpr std::chrono::microseconds kLook{50};
constexpr std::chrono::minutes kForever{2};

// Each communicator's own, so that what one has left behind does not come to the next.
int tag_of(const ncclUniqueId& id) {
  const std::string_view bytes(id.internal, sizeof(id.internal));
  return kHelloTag + 1 + static_cast<int>(std::hash<std::string_view>()(bytes) % 20000);
}

NcclWire& hellos() {
  static NcclWire only(kHelloTag);
  return only;
}

template <typename Done>
void wait_until(const std::string& what, const Done& done) {
  const auto begin = std::chrono::steady_clock::now();
  while (!done()) {
    if (std::chrono::steady_clock::now() - begin > kForever) throw Failure(what + " for ever");
    std::this_thread::sleep_for(kLook);
  }
}

// "rank 0 calls all-reduce of 4 float32 and broadcast of 4 float32 from rank 1".
std::string calls(int rank, const std::vector<NcclHeader>& headers) {
  std::string text = "rank " + std::to_string(rank) + " calls ";
  for (size_t i = 0; i < headers.size(); ++i) {
    text += (i == 0 ? "" : " and ") + description(headers[i]);
  }
  return text;
}

}  // namespace

ncclComm::ncclComm(const NcclWorld& world, const ncclUniqueId& id, bool blocking)
    : world_(world),
      id_(id),
      blocking_(blocking),
      wire_(tag_of(id)),
      met_(static_cast<size_t>(world.ranks)),
      sequences_(static_cast<size_t>(world.ranks)) {
  const auto* bytes = reinterpret_cast<const std::byte*>(id.internal);
  NcclMessage hello;
  hello.payload.assign(bytes, bytes + sizeof(id.internal));
  met_[static_cast<size_t>(world.rank)] = true;
  for (int rank = 0; rank < world.ranks; ++rank) {
    if (rank != world.rank) hellos().send(rank, hello);
  }
  if (blocking_) wait_until("ncclCommInitRank: waits", [this] { return has_met_all(); });
}

ncclResult_t ncclComm::failed(ncclResult_t error, const std::string& why) {
  last_error_ = why;
  return error;
}

bool ncclComm::has_met_all() {
  hellos().progress();
  for (int rank = 0; rank < world_.ranks; ++rank) {
    auto&& inbox = hellos().inbox(rank);
    if (met_[static_cast<size_t>(rank)] || inbox.empty()) continue;
    const NcclMessage hello = std::move(inbox.front());
    inbox.pop_front();
    if (std::memcmp(hello.payload.data(), id_.internal, sizeof(id_.internal)) != 0) {
      throw Failure("ncclCommInitRank: rank " + std::to_string(world_.rank) + " and rank " +
                    std::to_string(rank) + " have different unique ids");
    }
    met_[static_cast<size_t>(rank)] = true;
  }
  return std::ranges::all_of(met_, [](bool met) { return met; });
}

// An abort is seen when all that was sent before it has been taken.
bool ncclComm::has_aborted(int rank) {
  const auto& inbox = wire_.inbox(rank);
  return !inbox.empty() && inbox.front().header.kind == NcclKind::abort;
}

void ncclComm::progress() {
  wire_.progress();
  for (int rank = 0; rank < world_.ranks; ++rank) {
    if (error_ != ncclSuccess || !has_aborted(rank)) continue;
    error_ = failed(ncclRemoteError, "rank " + std::to_string(rank) + " has aborted");
  }
}

ncclResult_t ncclComm::state() {
  progress();
  if (error_ != ncclSuccess) return error_;
  if (!has_met_all()) return ncclInProgress;
  for (Group* group : called_) enqueue(*group);
  called_.clear();
  return end_ == "finalized" && !wire_.all_sent() ? ncclInProgress : ncclSuccess;
}

ncclResult_t ncclComm::submit(std::vector<NcclOperation> operations, cudaStream_t stream) {
  groups_.push_back(std::make_unique<Group>());
  Group& group = *groups_.back();
  group.operations = std::move(operations);
  group.stream = stream;
  called_.push_back(&group);
  return blocking_ ? state() : ncclInProgress;
}

void ncclComm::enqueue(Group& group) {
  std::string name = "NCCL's";
  for (const NcclOperation& operation : group.operations) {
    name += " " + description(header_of(operation));
  }
  // Nothing of a group is looked at once it is over, done or aborted.
  const auto then = [this, &group](void (ncclComm::*step)(Group&)) {
    return [this, &group, step] {
      if (end_.empty()) (this->*step)(group);
    };
  };
  normlab::emulator::Device& device = normlab::emulator::device();
  device.enqueue_when([this, &group] { return !end_.empty() || may_go_on(group); }, group.stream,
                      name, then(&ncclComm::begin));
  device.enqueue_when(
      [this, &group] { return !end_.empty() || (may_go_on(group) && is_answered(group)); },
      group.stream, name, then(&ncclComm::finish));
}

// In turn, and not where something went wrong: that waits for the abort.
bool ncclComm::may_go_on(const Group& group) {
  progress();
  return error_ == ncclSuccess && groups_.front().get() == &group;
}

void ncclComm::finish(Group& group) {
  for (int rank = 0; rank < world_.ranks; ++rank) take_answers(group, rank);
  for (size_t i = 0; i < group.operations.size(); ++i) {
    group.operations[i].finish(group.parts[i], world_);
  }
  groups_.pop_front();
}

NcclHeader ncclComm::header_of(const NcclOperation& operation) const {
  NcclHeader header;
  header.kind = operation.kind;
  header.type = operation.type;
  header.peer = operation.peer;
  header.count = operation.count;
  return header;
}

// Reads all that the operations need, at once.
void ncclComm::begin(Group& group) {
  for (const NcclOperation& operation : group.operations) {
    const auto* source = static_cast<const std::byte*>(operation.source);
    auto& parts = group.parts.emplace_back(static_cast<size_t>(world_.ranks));
    for (int rank = 0; rank < world_.ranks; ++rank) {
      if (rank != world_.rank && !operation.involves(rank)) continue;
      parts[static_cast<size_t>(rank)] =
          operation.part_for(rank, {source, operation.source_bytes(world_)}, world_);
    }
  }
  for (int rank = 0; rank < world_.ranks; ++rank) {
    if (rank == world_.rank) continue;
    const auto with_rank = std::ranges::count_if(
        group.operations, [rank](const NcclOperation& one) { return one.involves(rank); });
    for (size_t i = 0; i < group.operations.size(); ++i) {
      if (!group.operations[i].involves(rank)) continue;
      NcclMessage message{header_of(group.operations[i]),
                          std::move(group.parts[i][static_cast<size_t>(rank)])};
      message.header.group_size = static_cast<int32_t>(with_rank);
      message.header.sequence = ++sequences_[static_cast<size_t>(rank)];
      wire_.send(rank, message);
    }
  }
}

bool ncclComm::is_answered(const Group& group) {
  for (int rank = 0; rank < world_.ranks; ++rank) {
    if (rank == world_.rank) continue;
    const bool asked = std::ranges::any_of(
        group.operations, [rank](const NcclOperation& one) { return one.involves(rank); });
    const auto& inbox = wire_.inbox(rank);
    if (!asked) continue;
    if (inbox.empty() || has_aborted(rank)) return false;
    if (static_cast<int64_t>(inbox.size()) < inbox.front().header.group_size) return false;
  }
  return true;
}

// In a group the collectives have the same order everywhere, and so have the sends to one rank and
// its receives; one kind may stand anywhere between the other.
void ncclComm::take_answers(Group& group, int from) {
  std::vector<NcclHeader> mine, theirs;
  std::vector<NcclMessage> messages;
  auto&& inbox = wire_.inbox(from);
  bool fits = true;
  for (size_t i = 0; i < group.operations.size() && from != world_.rank; ++i) {
    if (!group.operations[i].involves(from)) continue;
    if (mine.empty()) {
      for (int32_t left = inbox.front().header.group_size; left > 0; --left) {
        theirs.push_back(inbox.front().header);
        messages.push_back(std::move(inbox.front()));
        inbox.pop_front();
      }
    }
    mine.push_back(header_of(group.operations[i]));
    const auto answer = std::ranges::find_if(messages, [&](const NcclMessage& message) {
      return are_of_one_class(mine.back(), message.header);
    });
    fits = fits && answer != messages.end() && are_counterparts(mine.back(), answer->header) &&
           (group.operations[i].is_collective() || answer->header.peer == world_.rank);
    if (!fits) continue;
    group.parts[i][static_cast<size_t>(from)] = std::move(answer->payload);
    messages.erase(answer);
  }
  if (fits && messages.empty()) return;
  error_ = failed(ncclInvalidUsage, "NCCL, operation " + std::to_string(theirs.front().sequence) +
                                        " between two ranks: " + calls(world_.rank, mine) + ", " +
                                        calls(from, theirs));
  throw Failure(last_error_);
}

ncclResult_t ncclComm::finalize() {
  if (!groups_.empty()) throw Failure("ncclCommFinalize: of operations that nobody waited for");
  end_ = "finalized";
  return blocking_ ? ncclSuccess : ncclInProgress;
}

// What was sent is taken in the other ranks' own time.
void ncclComm::destroy() {
  if (!groups_.empty()) throw Failure("ncclCommDestroy: of operations that nobody waited for");
  wait_until("ncclCommDestroy: waits", [this] {
    wire_.progress();
    return wire_.all_sent();
  });
  end_ = "destroyed";
}

void ncclComm::abort() {
  NcclMessage message;
  message.header.kind = NcclKind::abort;
  for (int rank = 0; rank < world_.ranks; ++rank) {
    if (rank != world_.rank) wire_.send(rank, message);
  }
  wire_.progress();
  end_ = "aborted";
}
