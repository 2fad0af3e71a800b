// What NCCL's communicator and its double say when something is wrong: a rank that does not do its
// part, an order that was forgotten, a call that does not fit.
#include <chrono>

#include "tests/emulator/emulator.h"
#include "tests/emulator/nccl/cases.h"

namespace normlab::test {
namespace {

using emulator::StreamOrder;

constexpr int64_t kCount = 4;

std::string failure_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const emulator::Failure& failure) {
    return failure.what();
  }
  throw Error("rank " + std::to_string(own_rank()) + ": no failure");
}

// Of NCCL itself, without normlab's communicator.
struct RawGpu {
  explicit RawGpu(const emulator::StreamSettings& order, int blocking = 1) {
    emulator::configure_streams(order);
    ops = make_ops(Device::cuda, Precision::fp32);
    stream = ops->create_stream();
    native = static_cast<cudaStream_t>(ops->native_stream(stream));
    ncclUniqueId id{};
    if (own_rank() == 0) ncclGetUniqueId(&id);
    broadcast_by_mpi(std::as_writable_bytes(std::span(id.internal)));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = blocking;
    ncclCommInitRankConfig(&comm, all_ranks(), id, own_rank(), &config);
    settle();
    meet();
  }
  ~RawGpu() { emulator::configure_streams({}); }
  RawGpu(const RawGpu&) = delete;
  RawGpu& operator=(const RawGpu&) = delete;

  void settle() const {
    ncclResult_t state = ncclInProgress;
    while (state == ncclInProgress) ncclCommGetAsyncError(comm, &state);
    expect(state == ncclSuccess, "the communicator is well");
  }
  ncclResult_t sum(Tensor tensor) const {
    return ncclAllReduce(tensor.data, tensor.data, static_cast<size_t>(tensor.elements()),
                         ncclFloat32, ncclSum, comm, native);
  }

  std::unique_ptr<Ops> ops;
  Stream stream;
  cudaStream_t native = nullptr;
  ncclComm_t comm = nullptr;
};

std::vector<float> ones() { return std::vector<float>(kCount, 1.0f); }

bool is_summed(const std::vector<float>& values) {
  return values == std::vector<float>(kCount, static_cast<float>(all_ranks()));
}

void forgotten_join() {
  for (const StreamOrder order : {StreamOrder::oldest_first, StreamOrder::newest_first}) {
    Gpu gpu({order, 0});
    const Numbers<float> numbers(*gpu.ops, ones());
    gpu.communicator->sum(numbers.tensor);
    // The compute stream is the oldest one.
    if (order == StreamOrder::oldest_first) {
      expect(!is_summed(numbers.values()), "what was not joined is not there");
    }
    gpu.communicator->join();
    expect(is_summed(numbers.values()), "what was joined is there");
  }
}

void forgotten_wait() {
  for (const StreamOrder order : {StreamOrder::oldest_first, StreamOrder::newest_first}) {
    RawGpu gpu({order, 0});
    const Numbers<float> numbers(*gpu.ops, ones());
    expect(gpu.sum(numbers.tensor) == ncclSuccess, "a sum");
    gpu.ops->synchronize();
    const bool right = is_summed(numbers.values());
    expect(right == (order == StreamOrder::oldest_first), "a sum before its numbers shows");
    ncclCommDestroy(gpu.comm);
  }
}

// What a call that does not wait will enqueue is not yet on its stream.
void forgotten_settling() {
  for (const bool settles : {true, false}) {
    RawGpu gpu({StreamOrder::oldest_first, 0}, 0);
    const Numbers<float> numbers(*gpu.ops, ones());
    const Event summed = gpu.ops->create_event();
    gpu.ops->synchronize();
    expect(gpu.sum(numbers.tensor) == ncclInProgress, "a sum in progress");
    if (settles) gpu.settle();
    gpu.ops->record(summed, gpu.stream);
    gpu.ops->wait({}, summed);
    expect(is_summed(numbers.values()) == settles, "an event before the sum that it is for");
    if (!settles) {
      expect(gpu.sum(numbers.tensor) == ncclInvalidUsage, "a call before the last one has ended");
    }
    gpu.settle();
    gpu.ops->synchronize();
    expect(is_summed(numbers.values()), "a sum");
    meet();
    ncclCommAbort(gpu.comm);
  }
}

void groups() {
  RawGpu gpu({});
  const int rank = own_rank(), ranks = all_ranks();
  const Numbers<float> sent(*gpu.ops, numbers_of<float>(rank, kCount));
  const Numbers<float> received(*gpu.ops, ones()), summed(*gpu.ops, ones());
  gpu.ops->synchronize();
  ncclGroupStart();
  // Some send first, some receive first.
  const int next = (rank + 1) % ranks, last = (rank + ranks - 1) % ranks;
  if (rank == 0) ncclSend(sent.tensor.data, kCount, ncclFloat32, next, gpu.comm, gpu.native);
  ncclRecv(received.tensor.data, kCount, ncclFloat32, last, gpu.comm, gpu.native);
  gpu.sum(summed.tensor);
  if (rank != 0) ncclSend(sent.tensor.data, kCount, ncclFloat32, next, gpu.comm, gpu.native);
  expect(ncclGroupEnd() == ncclSuccess, "a group");
  gpu.ops->synchronize();
  expect(received.values() == numbers_of<float>(last, kCount), "what the last rank sent");
  expect(is_summed(summed.values()), "a sum in a group");
  expect(ncclGroupEnd() == ncclInvalidUsage, "the end of no group");
  ncclCommFinalize(gpu.comm);
  ncclCommDestroy(gpu.comm);
}

// `first` on the first rank, `others` on the others; what both sides called is in what is said.
void expect_mismatch(const std::function<void(Communicator&, Ops&)>& first,
                     const std::function<void(Communicator&, Ops&)>& others,
                     const std::string& first_call, const std::string& other_call) {
  Gpu gpu;
  const std::string said = failure_of([&] {
    (own_rank() == 0 ? first : others)(*gpu.communicator, *gpu.ops);
    gpu.communicator->join();
  });
  expect_part(said, "rank 0 calls " + first_call);
  expect_part(said, "rank " + std::to_string(std::max(1, own_rank())) + " calls " + other_call);
}

void sum_some(Communicator& communicator, Ops& ops, int64_t count) {
  const Numbers<float> numbers(ops, std::vector<float>(static_cast<size_t>(count)));
  communicator.sum(numbers.tensor);
  communicator.join();
}

void broadcast_some(Communicator& communicator, Ops& ops) {
  const Numbers<float> numbers(ops, ones());
  communicator.broadcast(numbers.tensor, 0);
  communicator.join();
}

void sum_four(Communicator& communicator, Ops& ops) { sum_some(communicator, ops, 4); }

void other_kind() {
  expect_mismatch(sum_four, broadcast_some, "all-reduce of 4 float32",
                  "broadcast of 4 float32 from rank 0");
}

void other_order() {
  expect_mismatch(
      [](Communicator& communicator, Ops& ops) {
        sum_four(communicator, ops);
        sum_four(communicator, ops);
        broadcast_some(communicator, ops);
      },
      [](Communicator& communicator, Ops& ops) {
        sum_four(communicator, ops);
        broadcast_some(communicator, ops);
        sum_four(communicator, ops);
      },
      "all-reduce of 4 float32", "broadcast of 4 float32 from rank 0");
}

void other_size() {
  expect_mismatch(
      sum_four, [](Communicator& communicator, Ops& ops) { sum_some(communicator, ops, 5); },
      "all-reduce of 4 float32", "all-reduce of 5 float32");
  expect_mismatch(
      [](Communicator& communicator, Ops& ops) {
        const Numbers<float> numbers(ops, std::vector<float>(128 * 6));
        communicator.sum_parts(numbers.tensor);
        communicator.join();
      },
      [](Communicator& communicator, Ops& ops) {
        const Numbers<float> numbers(ops, std::vector<float>(128 * 6 + 1));
        communicator.sum_parts(numbers.tensor);
        communicator.join();
      },
      "reduce-scatter of", "reduce-scatter of");
}

void other_type() {
  expect_mismatch(
      sum_four,
      [](Communicator& communicator, Ops& ops) {
        const Numbers<double> numbers(ops, std::vector<double>(kCount));
        communicator.sum(numbers.tensor);
        communicator.join();
      },
      "all-reduce of 4 float32", "all-reduce of 4 float64");
}

void other_ids() {
  JobPlace place;
  place.rank = own_rank();
  place.ranks = all_ranks();
  const auto ops = make_ops(Device::cuda, Precision::fp32);
  const auto communicator = make_nccl_communicator(place, 30, [](std::span<std::byte>) {});
  std::string failure;
  try {
    const Attachment attachment(*communicator, *ops);
  } catch (const std::exception& error) {
    failure = error.what();
  }
  // The first rank alone has another id: of the rest one may hear first that the next has given up.
  if (own_rank() == 0 || failure.find("has aborted") == std::string::npos) {
    expect_part(failure, "have different unique ids");
  }
  meet();
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// What a sum says that the last rank takes no part in.
std::string error_of_sum(Gpu& gpu) {
  const auto begin = std::chrono::steady_clock::now();
  const Numbers<float> numbers(*gpu.ops, ones());
  try {
    gpu.communicator->sum(numbers.tensor);
    gpu.communicator->join();
  } catch (const Error& error) {
    expect(error.kind() == ErrorKind::communication, "an error of communication");
    expect(seconds_since(begin) < 20, "an error soon");
    // Nothing that was begun keeps the GPU.
    numbers.values();
    gpu.ops->synchronize();
    return error.what();
  }
  throw Error("a sum without the last rank");
}

void aborted_peer() {
  Gpu gpu;
  meet();
  if (own_rank() == all_ranks() - 1) {
    const Numbers<float> numbers(*gpu.ops, ones());
    gpu.communicator->sum(numbers.tensor);
    gpu.attachment.reset();
  } else {
    const std::string said = error_of_sum(gpu);
    expect_part(said, "has aborted");
    expect_part(said, "What each rank was doing: rank 0");
    expect_part(said, "sum of 4 numbers");
  }
  meet();
}

void silent_peer() {
  const double kTimeout = 0.5;
  Gpu gpu({}, kTimeout);
  meet();
  if (own_rank() != all_ranks() - 1) {
    const std::string said = error_of_sum(gpu);
    // Another rank may have waited long enough before.
    if (all_ranks() == 2) expect_part(said, "a rank did not answer for");
    expect_part(said, "What each rank was doing: rank 0");
  }
  meet();
}

void after_abort() {
  RawGpu gpu({});
  const Numbers<float> numbers(*gpu.ops, ones());
  ncclCommAbort(gpu.comm);
  expect_part(failure_of([&] { gpu.sum(numbers.tensor); }),
              "ncclAllReduce: of a communicator that was aborted");
  expect_part(failure_of([&] { ncclCommDestroy(gpu.comm); }), "that was aborted");
  expect_part(failure_of([&] { ncclCommFinalize(nullptr); }), "of no communicator");
  meet();
}

void misuse() {
  RawGpu gpu({});
  const Numbers<float> numbers(*gpu.ops, std::vector<float>(100));
  std::vector<float> host(100);
  auto* device = reinterpret_cast<float*>(numbers.tensor.data);
  const auto gather = [&](const float* source, float* target, size_t count) {
    return ncclAllGather(source, target, count, ncclFloat32, gpu.comm, gpu.native);
  };
  expect_part(failure_of([&] { gather(host.data(), device, 1); }), "what it reads is not memory");
  expect_part(failure_of([&] { gather(device, host.data(), 1); }), "what it writes is not memory");
  expect_part(failure_of([&] { gather(device, device, 51); }), "what it writes is not memory");
  expect_part(failure_of([&] { gather(device + 2 * own_rank() + 1, device, 2); }), "overlap");
  expect(gather(device + 2 * own_rank(), device, 2) == ncclSuccess, "a gathering in place");
  const int none = all_ranks();
  expect(
      ncclSend(device, 1, ncclFloat32, none, gpu.comm, gpu.native) == ncclInvalidArgument &&
          ncclSend(device, 1, ncclFloat32, own_rank(), gpu.comm, gpu.native) == ncclInvalidArgument,
      "a rank that is not there");
  expect(ncclBroadcast(device, device, 1, ncclFloat32, 0, gpu.comm, nullptr) == ncclInvalidArgument,
         "no stream");
  expect_part(failure_of([&] {
                ncclAllReduce(device, device, 1, ncclFloat32, ncclMax, gpu.comm, gpu.native);
              }),
              "only sums");
  expect_part(failure_of([&] { ncclCommDestroy(gpu.comm); }), "nobody waited for");
  gpu.ops->synchronize();
  ncclCommDestroy(gpu.comm);
}

}  // namespace

std::vector<Case> mistake_cases() {
  return {{"forgotten_join", forgotten_join},
          {"forgotten_wait", forgotten_wait},
          {"forgotten_settling", forgotten_settling},
          {"groups", groups},
          {"other_kind", other_kind},
          {"other_order", other_order},
          {"other_size", other_size},
          {"other_type", other_type},
          {"other_ids", other_ids},
          {"aborted_peer", aborted_peer},
          {"silent_peer", silent_peer},
          {"after_abort", after_abort},
          {"misuse", misuse}};
}

}  // namespace normlab::test
