// A communicator of the emulated NCCL. Its operations run in the order in which they were called,
// each group of them when its stream comes to it and not before every other rank has come to the
// same; each rank tells the others what it is doing, and throws Failure where that does not fit
// together, with what either side called.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulator/library/nccl_operation.h"

struct ncclComm {
 public:
  ncclComm(const normlab::emulator::NcclWorld& world, const ncclUniqueId& id, bool blocking);

  const normlab::emulator::NcclWorld& world() const { return world_; }
  // Whether all that was called is on its stream.
  bool is_settled() const { return called_.empty(); }
  // "aborted", "destroyed", or "" while it may be used.
  const std::string& end() const { return end_; }
  const std::string& last_error() const { return last_error_; }
  ncclResult_t failed(ncclResult_t error, const std::string& why);

  // ncclSuccess, ncclInProgress, or what went wrong. Moves on what is in progress: where calls do
  // not wait, it is from here that what was called comes to its stream.
  ncclResult_t state();
  // ncclInProgress where calls do not wait.
  ncclResult_t submit(std::vector<normlab::emulator::NcclOperation> operations,
                      cudaStream_t stream);
  ncclResult_t finalize();
  void destroy();
  void abort();

 private:
  struct Group {
    std::vector<normlab::emulator::NcclOperation> operations;
    cudaStream_t stream = nullptr;
    // By operation and by the rank that it comes from.
    std::vector<std::vector<std::vector<std::byte>>> parts;
  };

  bool has_met_all();
  bool has_aborted(int rank);
  void progress();
  void enqueue(Group& group);
  bool may_go_on(const Group& group);
  void begin(Group& group);
  void finish(Group& group);
  bool is_answered(const Group& group);
  void take_answers(Group& group, int from);
  normlab::emulator::NcclHeader header_of(const normlab::emulator::NcclOperation& operation) const;

  normlab::emulator::NcclWorld world_;
  ncclUniqueId id_;
  bool blocking_;
  normlab::emulator::NcclWire wire_;
  std::vector<bool> met_;                      // ranks that have begun the same communicator
  std::vector<uint64_t> sequences_;            // operations with each rank
  std::deque<std::unique_ptr<Group>> groups_;  // called and not done, in order
  std::deque<Group*> called_;                  // not yet on their stream
  ncclResult_t error_ = ncclSuccess;
  std::string last_error_;
  std::string end_;
};
