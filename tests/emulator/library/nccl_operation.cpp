#include "tests/emulator/library/nccl_operation.h"

#include <cstring>

#include "kernels/bfloat16.h"
#include "tests/emulator/emulator.h"

namespace normlab::emulator {
namespace {

std::string name_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return "uint8";
    case ncclInt32:
      return "int32";
    case ncclInt64:
      return "int64";
    case ncclUint64:
      return "uint64";
    case ncclFloat32:
      return "float32";
    case ncclFloat64:
      return "float64";
    case ncclBfloat16:
      return "bfloat16";
  }
  return "unknown numbers";
}

std::string name_of(NcclKind kind) {
  switch (kind) {
    case NcclKind::hello:
      return "beginning";
    case NcclKind::abort:
      return "abort";
    case NcclKind::all_reduce:
      return "all-reduce";
    case NcclKind::reduce:
      return "reduce";
    case NcclKind::broadcast:
      return "broadcast";
    case NcclKind::reduce_scatter:
      return "reduce-scatter";
    case NcclKind::all_gather:
      return "all-gather";
    case NcclKind::send:
      return "send";
    case NcclKind::receive:
      return "receive";
  }
  return "unknown operation";
}

template <typename T>
T added(T a, T b) {
  return a + b;
}
BFloat16 added(BFloat16 a, BFloat16 b) { return round_to_bfloat16(to_float(a) + to_float(b)); }

// As a ring does it, each stretch of numbers begins at another rank: the order of the sum is the
// same on all, and not that of ranks.
template <typename T>
void sum(void* target, const std::vector<std::vector<std::byte>>& parts, size_t count) {
  constexpr size_t kStretch = 64;
  const size_t ranks = parts.size();
  for (size_t i = 0; i < count; ++i) {
    T total{};
    for (size_t k = 0; k < ranks; ++k) {
      T value;
      std::memcpy(&value, parts[(i / kStretch + 1 + k) % ranks].data() + i * sizeof(T), sizeof(T));
      total = k == 0 ? value : added(total, value);
    }
    std::memcpy(static_cast<std::byte*>(target) + i * sizeof(T), &total, sizeof(T));
  }
}

void sum(void* target, const std::vector<std::vector<std::byte>>& parts, size_t count,
         ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return sum<uint8_t>(target, parts, count);
    case ncclInt32:
      return sum<int32_t>(target, parts, count);
    case ncclInt64:
      return sum<int64_t>(target, parts, count);
    case ncclUint64:
      return sum<uint64_t>(target, parts, count);
    case ncclFloat32:
      return sum<float>(target, parts, count);
    case ncclFloat64:
      return sum<double>(target, parts, count);
    case ncclBfloat16:
      return sum<BFloat16>(target, parts, count);
  }
}

void write(void* target, const std::vector<std::byte>& bytes) {
  if (!bytes.empty()) std::memcpy(target, bytes.data(), bytes.size());
}

}  // namespace

size_t nccl_type_bytes(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64:
      return 8;
  }
  return 0;
}

size_t NcclOperation::source_bytes(const NcclWorld& world) const {
  switch (kind) {
    case NcclKind::reduce_scatter:
      return bytes() * static_cast<size_t>(world.ranks);
    case NcclKind::broadcast:
      return world.rank == peer ? bytes() : 0;
    case NcclKind::all_reduce:
    case NcclKind::reduce:
    case NcclKind::all_gather:
    case NcclKind::send:
      return bytes();
    case NcclKind::receive:
    case NcclKind::hello:
    case NcclKind::abort:
      return 0;
  }
  return 0;
}

size_t NcclOperation::target_bytes(const NcclWorld& world) const {
  switch (kind) {
    case NcclKind::all_gather:
      return bytes() * static_cast<size_t>(world.ranks);
    case NcclKind::reduce:
      return world.rank == peer ? bytes() : 0;
    case NcclKind::all_reduce:
    case NcclKind::broadcast:
    case NcclKind::reduce_scatter:
    case NcclKind::receive:
      return bytes();
    case NcclKind::send:
    case NcclKind::hello:
    case NcclKind::abort:
      return 0;
  }
  return 0;
}

std::vector<std::byte> NcclOperation::part_for(int rank, std::span<const std::byte> source,
                                               const NcclWorld& world) const {
  if (kind == NcclKind::reduce && rank != peer) return {};
  if (kind == NcclKind::broadcast && world.rank != peer) return {};
  if (kind == NcclKind::reduce_scatter) {
    source = source.subspan(static_cast<size_t>(rank) * bytes(), bytes());
  }
  return {source.begin(), source.end()};
}

void NcclOperation::finish(const std::vector<std::vector<std::byte>>& parts,
                           const NcclWorld& world) const {
  switch (kind) {
    case NcclKind::reduce:
      if (world.rank == peer) sum(target, parts, count, type);
      return;
    case NcclKind::all_reduce:
    case NcclKind::reduce_scatter:
      return sum(target, parts, count, type);
    case NcclKind::all_gather:
      for (size_t rank = 0; rank < parts.size(); ++rank) {
        write(static_cast<std::byte*>(target) + rank * bytes(), parts[rank]);
      }
      return;
    case NcclKind::broadcast:
    case NcclKind::receive:
      return write(target, parts[static_cast<size_t>(peer)]);
    case NcclKind::send:
    case NcclKind::hello:
    case NcclKind::abort:
      return;
  }
}

std::string description(const NcclHeader& header) {
  std::string text =
      name_of(header.kind) + " of " + std::to_string(header.count) + " " + name_of(header.type);
  if (header.peer < 0) return text;
  const bool sends = header.kind == NcclKind::send || header.kind == NcclKind::reduce;
  return text + (sends ? " to rank " : " from rank ") + std::to_string(header.peer);
}

bool are_of_one_class(const NcclHeader& a, const NcclHeader& b) {
  if (a.kind == NcclKind::send) return b.kind == NcclKind::receive;
  if (a.kind == NcclKind::receive) return b.kind == NcclKind::send;
  return b.kind != NcclKind::send && b.kind != NcclKind::receive;
}

bool are_counterparts(const NcclHeader& a, const NcclHeader& b) {
  if (!are_of_one_class(a, b) || a.count != b.count || a.type != b.type) return false;
  const bool collective = a.kind != NcclKind::send && a.kind != NcclKind::receive;
  return !collective || (a.kind == b.kind && a.peer == b.peer);
}

}  // namespace normlab::emulator
