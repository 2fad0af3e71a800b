// Communicator: what the ranks of a job say to each other.
//
// Every rank calls the same verbs in the same order. What cannot be said, because a rank has died,
// has stopped or is doing something else, ends in an Error of kind communication within
// `timeout_seconds`; its text says what each rank was doing (JobLedger).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/job_ledger.h"
#include "engine/job_place.h"
#include "kernels/ops.h"

namespace normlab {

// Elements [begin, end) of n that belong to a rank: equal numbers, multiples of 64, the rest to the
// last. What sum_parts leaves with it, what gather_parts takes from it.
struct OwnPart {
  int64_t begin = 0;
  int64_t end = 0;
};
OwnPart own_part(int64_t n, int rank, int ranks);

class Communicator {
 public:
  Communicator(JobPlace place, double timeout_seconds);
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  const JobPlace& place() const { return place_; }
  int rank() const { return place_.rank; }
  int ranks() const { return place_.ranks; }
  bool is_first() const { return place_.rank == 0; }
  double timeout_seconds() const { return timeout_seconds_; }
  // What carries the data: "MPI (Open MPI 4.1.4)".
  virtual std::string description() const = 0;
  JobLedger& ledger() { return ledger_; }

  // --- Tensors (1,n) of the device of an Attachment, contiguous. Each verb enqueues, after what
  // the compute stream holds now, and beside what comes on it later; the tensor is in use until
  // join(), which makes the compute stream wait.
  // tensor = Σ over ranks, the same bits on all. f32 or f64.
  virtual void sum(Tensor tensor) = 0;
  // The same for this rank's own part; the other parts are lost. f32
  virtual void sum_parts(Tensor tensor) = 0;
  // Every rank's own part comes to all. Any type.
  virtual void gather_parts(Tensor tensor) = 0;
  // From one rank to one other, or to all others. Any type.
  virtual void send(ConstTensor tensor, int to) = 0;
  virtual void receive(Tensor tensor, int from) = 0;
  virtual void broadcast(Tensor tensor, int from) = 0;
  virtual void join() = 0;

  // --- Values of the host. They wait.
  // values = Σ over ranks; the order of the sum is not said: exact where all but one are zero.
  virtual void sum(std::span<double> values) = 0;
  // What each rank says, by rank.
  virtual std::vector<uint64_t> gather(uint64_t value) = 0;
  bool any(bool value);
  bool all_equal(uint64_t value);

  // Ends the whole job, this process with it: the other ranks are stopped, mpirun's exit code is
  // this.
  virtual void end_job(int exit_code) = 0;

 protected:
  friend class Attachment;
  virtual void attach(Ops& ops) = 0;
  virtual void detach() = 0;

  // A wait for the other ranks, which looks again and again.
  class Wait {
   public:
    explicit Wait(Communicator& communicator);
    // Between two looks: lets other processes work. What speaks against waiting on: a rank of this
    // machine has ended, or none has answered for timeout_seconds; else "".
    std::string pause();
    // What has been waited for until now was no other rank.
    void restart() { began_ = Clock::now(); }

   private:
    using Clock = std::chrono::steady_clock;
    Communicator& communicator_;
    Clock::time_point began_, looked_;
    int64_t pauses_ = 0;
    bool stop_seen_ = false;
  };

  // Throws the Error that says why, and what each rank was doing.
  [[noreturn]] void fail(const std::string& why) const;

 private:
  JobPlace place_;
  double timeout_seconds_;
  JobLedger ledger_;
};

// While it lives, a communicator speaks for a device; all ranks make one together. By NCCL they
// meet here, and take leave of each other at the end, unless an exception ends it.
class Attachment {
 public:
  Attachment(Communicator& communicator, Ops& ops) : communicator_(communicator) {
    try {
      communicator_.attach(ops);
    } catch (...) {
      communicator_.detach();
      throw;
    }
  }
  ~Attachment() { communicator_.detach(); }
  Attachment(const Attachment&) = delete;
  Attachment& operator=(const Attachment&) = delete;

 private:
  Communicator& communicator_;
};

// MPI between ranks on CPUs; nothing in a job of one. Throws an input Error where the build has not
// what the job needs.
std::unique_ptr<Communicator> make_mpi_communicator(const JobPlace& place, double timeout_seconds);
bool mpi_available();  // in this build
// Brings the first rank's bytes to all ranks: engine/rendezvous.h, or MPI where there is MPI too.
using BroadcastBytes = std::function<void(std::span<std::byte> bytes)>;
// NCCL between ranks on GPUs, one each. No verb without an Attachment,
// which makes the ranks meet, by `broadcast`. join() returns when the GPU has done what was begun:
// whoever waits for the GPU afterwards waits for no other rank. `launcher`: of the same ranks on
// CPUs, where there is one; it is kept, and ends the job. Throws an input Error where the build has
// no NCCL.
std::unique_ptr<Communicator> make_nccl_communicator(
    const JobPlace& place, double timeout_seconds, BroadcastBytes broadcast,
    std::unique_ptr<Communicator> launcher = nullptr);
// A job of one.
std::unique_ptr<Communicator> make_local_communicator();
// One line each for --version.
std::string mpi_status();
std::string nccl_status();

}  // namespace normlab
