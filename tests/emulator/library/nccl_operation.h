// One operation of the emulated NCCL: what it reads, what it sends to whom, what it makes of what
// came.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "tests/emulator/library/nccl_wire.h"

namespace normlab::emulator {

size_t nccl_type_bytes(ncclDataType_t type);

struct NcclOperation {
  NcclKind kind = NcclKind::all_reduce;
  const void* source = nullptr;
  void* target = nullptr;
  size_t count = 0;  // as in NCCL's call: of one rank where ranks have parts
  ncclDataType_t type = ncclFloat32;
  int peer = -1;  // root, or the other side; −1: none

  bool is_collective() const { return kind != NcclKind::send && kind != NcclKind::receive; }
  bool involves(int rank) const { return is_collective() || rank == peer; }
  size_t bytes() const { return count * nccl_type_bytes(type); }
  // Of this rank; 0: it needs none.
  size_t source_bytes(const NcclWorld& world) const;
  size_t target_bytes(const NcclWorld& world) const;
  // Of the source, what goes to another rank.
  std::vector<std::byte> part_for(int rank, std::span<const std::byte> source,
                                  const NcclWorld& world) const;
  // Writes the target. `parts`: what came from each rank, from this rank itself too.
  void finish(const std::vector<std::vector<std::byte>>& parts, const NcclWorld& world) const;
};

// "all-reduce of 10 float32", "send of 3 bfloat16 to rank 1".
std::string description(const NcclHeader& header);
// Whether the two belong together, called by different ranks.
bool are_counterparts(const NcclHeader& a, const NcclHeader& b);
// Whether they could, were all else right: both collectives, or one sends and the other receives.
bool are_of_one_class(const NcclHeader& a, const NcclHeader& b);

}  // namespace normlab::emulator
