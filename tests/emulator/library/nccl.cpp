// NCCL on emulated devices, one a process, between the processes of MPI's world. Does more slowly
// and more strictly what NCCL does: it knows one communicator a group, and only sums.
#include <nccl.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulator/emulator.h"
#include "tests/emulator/library/device.h"
#include "tests/emulator/library/nccl_communicator.h"

using normlab::emulator::device;
using normlab::emulator::Failure;
using normlab::emulator::nccl_world;
using normlab::emulator::NcclKind;
using normlab::emulator::NcclOperation;
using normlab::emulator::NcclWorld;

namespace {

constexpr unsigned kMagic = NCCL_CONFIG_INITIALIZER.magic;

// All that there ever were, so that a use after the end is reported.
std::vector<std::unique_ptr<ncclComm>>& communicators() {
  static std::vector<std::unique_ptr<ncclComm>> all;
  return all;
}

// What is called between ncclGroupStart and ncclGroupEnd.
struct OpenGroup {
  int depth = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<NcclOperation> operations;
};
OpenGroup& open_group() {
  static OpenGroup only;
  return only;
}

ncclComm& usable(const char* call, ncclComm_t comm) {
  for (const auto& own : communicators()) {
    if (own.get() != comm) continue;
    if (own->end().empty()) return *own;
    throw Failure(std::string(call) + ": of a communicator that was " + own->end());
  }
  throw Failure(std::string(call) + ": of no communicator");
}

// In a target that is also its source, a rank's part lies in its place, or the two lie apart.
bool in_place_or_apart(const NcclOperation& operation, const NcclWorld& world) {
  const auto* source = static_cast<const std::byte*>(operation.source);
  const auto* target = static_cast<const std::byte*>(operation.target);
  const size_t source_bytes = operation.source_bytes(world);
  const size_t target_bytes = operation.target_bytes(world);
  if (source_bytes == 0 || target_bytes == 0) return true;
  const size_t own = static_cast<size_t>(world.rank) * operation.bytes();
  if (operation.kind == NcclKind::reduce_scatter && target == source + own) return true;
  if (operation.kind == NcclKind::all_gather && source == target + own) return true;
  const bool same = operation.kind != NcclKind::reduce_scatter &&
                    operation.kind != NcclKind::all_gather && source == target;
  return same || source + source_bytes <= target || target + target_bytes <= source;
}

ncclResult_t check_arguments(const char* call, ncclComm& comm, const NcclOperation& operation,
                             cudaStream_t stream) {
  const std::string name = call;
  const NcclWorld& world = comm.world();
  if (operation.peer >= world.ranks) return comm.failed(ncclInvalidArgument, name + ": no rank");
  if (!operation.is_collective() && (operation.peer < 0 || operation.peer == world.rank)) {
    return comm.failed(ncclInvalidArgument, name + ": no other rank");
  }
  const auto in_device = [](const void* data, size_t bytes) {
    return bytes == 0 || device().memory().contains(data, bytes);
  };
  if (!in_device(operation.source, operation.source_bytes(world))) {
    throw Failure(name + ": what it reads is not memory of the device");
  }
  if (!in_device(operation.target, operation.target_bytes(world))) {
    throw Failure(name + ": what it writes is not memory of the device");
  }
  if (!in_place_or_apart(operation, world)) {
    throw Failure(name + ": what it reads and what it writes overlap");
  }
  if (!device().knows_stream(stream)) return comm.failed(ncclInvalidArgument, name + ": no stream");
  const bool settled = comm.is_settled();
  const ncclResult_t state = comm.state();
  if (settled && state != ncclInProgress) return state;
  return comm.failed(ncclInvalidUsage, name + ": before what was called last has ended");
}

ncclResult_t submit_group() {
  OpenGroup& group = open_group();
  if (group.operations.empty()) return ncclSuccess;
  std::vector<NcclOperation> operations;
  operations.swap(group.operations);
  return usable("ncclGroupEnd", group.comm).submit(std::move(operations), group.stream);
}

ncclResult_t call_operation(const char* call, const NcclOperation& operation, ncclComm_t handle,
                            cudaStream_t stream) {
  ncclComm& comm = usable(call, handle);
  OpenGroup& group = open_group();
  if (!group.operations.empty() && (group.comm != handle || group.stream != stream)) {
    throw Failure(std::string(call) + ": in a group of another communicator or stream");
  }
  const ncclResult_t result = check_arguments(call, comm, operation, stream);
  if (result != ncclSuccess) return result;
  group.comm = handle;
  group.stream = stream;
  group.operations.push_back(operation);
  return group.depth == 0 ? submit_group() : ncclSuccess;
}

ncclResult_t call_sum(const char* call, const NcclOperation& operation, ncclRedOp_t reduction,
                      ncclComm_t comm, cudaStream_t stream) {
  if (reduction != ncclSum) throw Failure(std::string(call) + ": only sums are emulated");
  return call_operation(call, operation, comm, stream);
}

}  // namespace

ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static int made = 0;
  const auto now = std::chrono::system_clock::now().time_since_epoch().count();
  *id = {};
  std::snprintf(id->internal, sizeof(id->internal), "%lld.%d.%d", static_cast<long long>(now),
                static_cast<int>(getpid()), ++made);
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "NCCL operation in progress";
  }
  return "unknown result code";
}

const char* ncclGetLastError(ncclComm_t comm) {
  static std::string text;
  text = comm == nullptr ? "" : usable("ncclGetLastError", comm).last_error();
  return text.c_str();
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  *comm = nullptr;
  const NcclWorld world = nccl_world();
  if (config == nullptr || config->magic != kMagic) return ncclInvalidArgument;
  if (ranks != world.ranks || rank != world.rank) return ncclInvalidArgument;
  const bool blocking = config->blocking != 0;
  communicators().push_back(std::make_unique<ncclComm>(world, id, blocking));
  *comm = communicators().back().get();
  return blocking ? ncclSuccess : ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  const bool finalized = comm != nullptr && comm->end() == "finalized";
  *error = (finalized ? *comm : usable("ncclCommGetAsyncError", comm)).state();
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  return usable("ncclCommFinalize", comm).finalize();
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  (comm->end() == "finalized" ? *comm : usable("ncclCommDestroy", comm)).destroy();
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (comm == nullptr) return ncclSuccess;
  (comm->end() == "finalized" ? *comm : usable("ncclCommAbort", comm)).abort();
  return ncclSuccess;
}

ncclResult_t ncclGroupStart() {
  ++open_group().depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  OpenGroup& group = open_group();
  if (group.depth == 0) return ncclInvalidUsage;
  return --group.depth == 0 ? submit_group() : ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* source, void* target, size_t count, ncclDataType_t type,
                           ncclRedOp_t operation, ncclComm_t comm, cudaStream_t stream) {
  return call_sum("ncclAllReduce", {NcclKind::all_reduce, source, target, count, type, -1},
                  operation, comm, stream);
}

ncclResult_t ncclReduce(const void* source, void* target, size_t count, ncclDataType_t type,
                        ncclRedOp_t operation, int root, ncclComm_t comm, cudaStream_t stream) {
  return call_sum("ncclReduce", {NcclKind::reduce, source, target, count, type, root}, operation,
                  comm, stream);
}

ncclResult_t ncclBroadcast(const void* source, void* target, size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return call_operation("ncclBroadcast", {NcclKind::broadcast, source, target, count, type, root},
                        comm, stream);
}

ncclResult_t ncclReduceScatter(const void* source, void* target, size_t target_count,
                               ncclDataType_t type, ncclRedOp_t operation, ncclComm_t comm,
                               cudaStream_t stream) {
  return call_sum("ncclReduceScatter",
                  {NcclKind::reduce_scatter, source, target, target_count, type, -1}, operation,
                  comm, stream);
}

ncclResult_t ncclAllGather(const void* source, void* target, size_t source_count,
                           ncclDataType_t type, ncclComm_t comm, cudaStream_t stream) {
  return call_operation("ncclAllGather",
                        {NcclKind::all_gather, source, target, source_count, type, -1}, comm,
                        stream);
}

ncclResult_t ncclSend(const void* source, size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return call_operation("ncclSend", {NcclKind::send, source, nullptr, count, type, peer}, comm,
                        stream);
}

ncclResult_t ncclRecv(void* target, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return call_operation("ncclRecv", {NcclKind::receive, nullptr, target, count, type, peer}, comm,
                        stream);
}
