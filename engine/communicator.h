// Communicator: what the ranks of a job say to each other.
#pragma once

#include <memory>

#include "kernels/ops.h"

namespace normlab {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int ranks() const = 0;
  // tensor = Σ over ranks, the same bits on all. Enqueues on `stream`, after what it holds.
  virtual void sum(Ops& ops, Tensor tensor, Stream stream) = 0;
};

// The job of one rank.
std::unique_ptr<Communicator> make_local_communicator();

}  // namespace normlab
