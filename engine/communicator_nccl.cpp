// Ranks on GPUs, by NCCL, on a stream of its own. No call of NCCL waits (blocking = 0), and the
// host asks whether the stream has come to its end instead of waiting for it: so a rank that does
// not answer is found out, and its operations are ended by ncclCommAbort. The host then waits once
// a step for what the step's end waits for anyway.
#include <nccl.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <thread>
#include <utility>

#include "engine/communicator.h"
#include "engine/log.h"

namespace normlab {
namespace {

constexpr int64_t kValues = 1024;  // of the host, at a time

ncclDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return ncclFloat32;
    case DType::f64:
      return ncclFloat64;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i32:
      return ncclInt32;
  }
  throw Error("a type that NCCL does not know");
}

size_t count_of(ConstTensor tensor) {
  check(tensor.contiguous(), "a contiguous tensor");
  return static_cast<size_t>(tensor.elements());
}

std::string version_text() {
  int version = 0;
  if (ncclGetVersion(&version) != ncclSuccess) return "of unknown version";
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(const JobPlace& place, double timeout_seconds, BroadcastBytes broadcast,
                   std::unique_ptr<Communicator> launcher)
      : Communicator(place, timeout_seconds),
        launcher_(std::move(launcher)),
        broadcast_(std::move(broadcast)) {}

  ~NcclCommunicator() override { detach(); }

  std::string description() const override { return "NCCL " + version_text(); }

  void attach(Ops& ops) override {
    check(ops_ == nullptr, "one attachment at a time");
    ops_ = &ops;
    unfinished_ = true;
    stream_ = ops.create_stream();
    native_stream_ = static_cast<cudaStream_t>(ops.native_stream(stream_));
    check(native_stream_ != nullptr, "NCCL between GPUs");
    ready_ = ops.create_event();
    done_ = ops.create_event();
    room_ = ops.allocate(std::max<int64_t>(kValues, ranks()) * size_of(DType::f64));
    ledger().enter("the beginning of NCCL");
    ncclUniqueId id{};
    if (is_first()) require(ncclGetUniqueId(&id));
    broadcast_(std::as_writable_bytes(std::span(id.internal)));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    require(ncclCommInitRankConfig(&comm_, ranks(), id, rank(), &config));
    unfinished_ = false;
    ledger().leave();
  }

  // After an error there is nobody to take leave of.
  void detach() override {
    if (comm_ != nullptr) {
      if (unfinished_ || std::uncaught_exceptions() > 0 || !take_leave()) {
        ncclCommAbort(comm_);
      } else {
        ncclCommDestroy(comm_);
      }
    }
    comm_ = nullptr;
    ops_ = nullptr;
    room_ = {};
  }

  using Communicator::sum;
  void sum(Tensor tensor) override {
    check(tensor.dtype == DType::f32 || tensor.dtype == DType::f64, "a sum of f32 or f64");
    enqueue("sum of ", tensor, [&] {
      return ncclAllReduce(tensor.data, tensor.data, count_of(tensor), type_of(tensor.dtype),
                           ncclSum, comm_, native_stream_);
    });
  }

  void sum_parts(Tensor tensor) override {
    check(tensor.dtype == DType::f32, "parts of f32");
    enqueue("sum of parts of ", tensor, [&] {
      return call_for_parts(
          tensor,
          [&](std::byte* own, size_t count) {
            return ncclReduceScatter(tensor.data, own, count, ncclFloat32, ncclSum, comm_,
                                     native_stream_);
          },
          [&](std::byte* rest, size_t count) {
            return ncclReduce(rest, rest, count, ncclFloat32, ncclSum, ranks() - 1, comm_,
                              native_stream_);
          });
    });
  }

  void gather_parts(Tensor tensor) override {
    const ncclDataType_t type = type_of(tensor.dtype);
    enqueue("gathering ", tensor, [&] {
      return call_for_parts(
          tensor,
          [&](std::byte* own, size_t count) {
            return ncclAllGather(own, tensor.data, count, type, comm_, native_stream_);
          },
          [&](std::byte* rest, size_t count) {
            return ncclBroadcast(rest, rest, count, type, ranks() - 1, comm_, native_stream_);
          });
    });
  }

  void send(ConstTensor tensor, int to) override {
    enqueue("sending to rank " + std::to_string(to) + " ", tensor, [&] {
      return ncclSend(tensor.data, count_of(tensor), type_of(tensor.dtype), to, comm_,
                      native_stream_);
    });
  }

  void receive(Tensor tensor, int from) override {
    enqueue("receiving from rank " + std::to_string(from) + " ", tensor, [&] {
      return ncclRecv(tensor.data, count_of(tensor), type_of(tensor.dtype), from, comm_,
                      native_stream_);
    });
  }

  void broadcast(Tensor tensor, int from) override {
    enqueue("broadcast from rank " + std::to_string(from) + " of ", tensor, [&] {
      return ncclBroadcast(tensor.data, tensor.data, count_of(tensor), type_of(tensor.dtype), from,
                           comm_, native_stream_);
    });
  }

  void join() override {
    if (!unfinished_) return;
    ops_->record(done_, stream_);
    ops_->wait({}, done_);
    Wait wait(*this);
    bool own_done = false;
    while (!ops_->event_reached(done_)) {
      require(state());
      // Until then it is this rank that is not ready.
      own_done = own_done || ops_->event_reached(ready_);
      if (!own_done) wait.restart();
      if (const std::string problem = wait.pause(); !problem.empty()) give_up(problem);
    }
    unfinished_ = false;
    ledger().leave();
  }

  void sum(std::span<double> values) override {
    while (!values.empty()) {
      const std::span<double> some = values.first(std::min<size_t>(kValues, values.size()));
      const Tensor room = numbers(static_cast<int64_t>(some.size()));
      ops_->upload(room, some.data());
      sum(room);
      join();
      ops_->download(some.data(), room);
      values = values.subspan(some.size());
    }
  }

  std::vector<uint64_t> gather(uint64_t value) override {
    std::vector<uint64_t> all(static_cast<size_t>(ranks()));
    const Tensor room = numbers(ranks());
    const Tensor own = room.column_slice(rank(), 1);
    ops_->upload(own, &value);
    enqueue("gathering of each rank ", own, [&] {
      return ncclAllGather(own.data, room.data, 1, ncclUint64, comm_, native_stream_);
    });
    join();
    ops_->download(all.data(), room);
    return all;
  }

  // A launcher that is none of ours sees the exit code and stops the other ranks.
  void end_job(int exit_code) override {
    if (launcher_) launcher_->end_job(exit_code);
    std::_Exit(exit_code);
  }

 private:
  // The first of the host's numbers on the device, of 64 bits whatever they are.
  Tensor numbers(int64_t count) const {
    check(ops_ != nullptr, "an attachment before any operation");
    return {room_.data(), DType::f64, {1, count}};
  }

  // Behind what the compute stream holds now.
  template <typename Call>
  void enqueue(const std::string& operation, ConstTensor tensor, const Call& call) {
    check(ops_ != nullptr, "an attachment before any operation");
    check(comm_ != nullptr, "no operation after one that failed");
    if (tensor.elements() == 0) return;
    ledger().enter(operation + count_text(tensor.elements()) + " numbers");
    ops_->record(ready_, {});
    ops_->wait(stream_, ready_);
    unfinished_ = true;
    require(call());
  }

  // own_part() of all ranks: equal parts, and the rest, which is the last rank's.
  template <typename PartsCall, typename RestCall>
  ncclResult_t call_for_parts(Tensor tensor, const PartsCall& parts_call,
                              const RestCall& rest_call) {
    const auto elements = static_cast<int64_t>(count_of(tensor));
    const int64_t bytes = size_of(tensor.dtype);
    const int64_t each = own_part(elements, 0, ranks()).end;
    const int64_t rest = elements - each * ranks();
    ncclResult_t parts_result = ncclSuccess, rest_result = ncclSuccess;
    ncclGroupStart();
    if (each > 0) {
      parts_result = parts_call(tensor.data + rank() * each * bytes, static_cast<size_t>(each));
    }
    if (rest > 0) {
      rest_result = rest_call(tensor.data + ranks() * each * bytes, static_cast<size_t>(rest));
    }
    const ncclResult_t group_result = ncclGroupEnd();
    for (const ncclResult_t result : {parts_result, rest_result}) {
      if (result != ncclSuccess && result != ncclInProgress) return result;
    }
    return group_result;
  }

  // Until the call is over: then what it enqueues is on the stream.
  void require(ncclResult_t result) {
    if (result == ncclSuccess) return;
    Wait wait(*this);
    while (result == ncclInProgress) {
      result = state();
      if (result != ncclInProgress) break;
      if (const std::string problem = wait.pause(); !problem.empty()) give_up(problem);
    }
    if (result != ncclSuccess) give_up(words_of(result));
  }

  // Of the communicator; what one of its calls has come to.
  ncclResult_t state() {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
    return asked == ncclSuccess ? state : asked;
  }

  std::string words_of(ncclResult_t result) const {
    const std::string more = ncclGetLastError(comm_);
    return std::string("NCCL: ") + ncclGetErrorString(result) + (more.empty() ? "" : ", " + more);
  }

  // Ends what is on the stream, so that nobody waits for it for ever.
  [[noreturn]] void give_up(const std::string& why) {
    if (comm_ != nullptr) ncclCommAbort(std::exchange(comm_, nullptr));
    fail(why);
  }

  // False where another rank is not there to do the same.
  bool take_leave() {
    constexpr std::chrono::seconds kLongest{10};
    const auto begin = std::chrono::steady_clock::now();
    ncclResult_t result = ncclCommFinalize(comm_);
    while (result == ncclInProgress) {
      if (std::chrono::steady_clock::now() - begin > kLongest) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
      result = state();
    }
    return result == ncclSuccess;
  }

  std::unique_ptr<Communicator> launcher_;
  BroadcastBytes broadcast_;
  Ops* ops_ = nullptr;
  Stream stream_;
  cudaStream_t native_stream_ = nullptr;
  Event ready_;  // the compute stream, for the last operation
  Event done_;   // all operations
  Memory room_;  // of the host's numbers
  ncclComm_t comm_ = nullptr;
  bool unfinished_ = false;  // attach, or operations before a join
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(const JobPlace& place, double timeout_seconds,
                                                     BroadcastBytes broadcast,
                                                     std::unique_ptr<Communicator> launcher) {
  return std::make_unique<NcclCommunicator>(place, timeout_seconds, std::move(broadcast),
                                            std::move(launcher));
}

std::string nccl_status() { return version_text(); }

}  // namespace normlab
