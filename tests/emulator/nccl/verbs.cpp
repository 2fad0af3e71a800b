// What NCCL's communicator does, against sums that are known.
#include "tests/emulator/nccl/cases.h"

namespace normlab::test {

template <>
std::vector<float> numbers_of<float>(int rank, int64_t count) {
  std::vector<float> numbers;
  for (int64_t i = 0; i < count; ++i) {
    numbers.push_back(static_cast<float>((i * 7 + 3) % 101 + 1000 * (rank + 1)));
  }
  return numbers;
}

template <>
std::vector<double> numbers_of<double>(int rank, int64_t count) {
  const auto numbers = numbers_of<float>(rank, count);
  return {numbers.begin(), numbers.end()};
}

template <>
std::vector<int32_t> numbers_of<int32_t>(int rank, int64_t count) {
  const auto numbers = numbers_of<float>(rank, count);
  return {numbers.begin(), numbers.end()};
}

template <>
std::vector<BFloat16> numbers_of<BFloat16>(int rank, int64_t count) {
  std::vector<BFloat16> numbers;
  for (const float number : numbers_of<float>(rank, count)) {
    numbers.push_back(round_to_bfloat16(number));
  }
  return numbers;
}

namespace {

using emulator::StreamOrder;
using emulator::StreamSettings;

bool same(BFloat16 a, BFloat16 b) { return a.bits == b.bits; }
template <typename T>
bool same(T a, T b) {
  return a == b;
}

template <typename T>
void expect_same(const std::vector<T>& found, const std::vector<T>& right, const std::string& what,
                 OwnPart part) {
  for (int64_t i = part.begin; i < part.end; ++i) {
    const auto place = static_cast<size_t>(i);
    expect(same(found[place], right[place]),
           what + " of " + std::to_string(right.size()) + " numbers: number " + std::to_string(i));
  }
}

template <typename T>
void expect_same(const std::vector<T>& found, const std::vector<T>& right,
                 const std::string& what) {
  expect_same(found, right, what, {0, static_cast<int64_t>(right.size())});
}

template <typename T>
std::vector<T> summed(int64_t count) {
  std::vector<T> sums(static_cast<size_t>(count));
  for (int rank = 0; rank < all_ranks(); ++rank) {
    const auto numbers = numbers_of<T>(rank, count);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += numbers[i];
  }
  return sums;
}

template <typename T>
void check_sum(Gpu& gpu, int64_t count) {
  const Numbers<T> numbers(*gpu.ops, numbers_of<T>(own_rank(), count));
  gpu.communicator->sum(numbers.tensor);
  gpu.communicator->join();
  expect_same(numbers.values(), summed<T>(count), "sum");
}

void check_sum_parts(Gpu& gpu, int64_t count) {
  const Numbers<float> numbers(*gpu.ops, numbers_of<float>(own_rank(), count));
  gpu.communicator->sum_parts(numbers.tensor);
  gpu.communicator->join();
  expect_same(numbers.values(), summed<float>(count), "sum of parts",
              own_part(count, own_rank(), all_ranks()));
}

// Each rank has its own numbers everywhere; afterwards all have each rank's in its part.
template <typename T>
void check_gather_parts(Gpu& gpu, int64_t count) {
  const Numbers<T> numbers(*gpu.ops, numbers_of<T>(own_rank(), count));
  gpu.communicator->gather_parts(numbers.tensor);
  gpu.communicator->join();
  const auto found = numbers.values();
  for (int rank = 0; rank < all_ranks(); ++rank) {
    expect_same(found, numbers_of<T>(rank, count), "gathering of parts",
                own_part(count, rank, all_ranks()));
  }
}

template <typename T>
void check_broadcast(Gpu& gpu, int64_t count) {
  for (int from = 0; from < all_ranks(); ++from) {
    const Numbers<T> numbers(*gpu.ops, numbers_of<T>(own_rank(), count));
    gpu.communicator->broadcast(numbers.tensor, from);
    gpu.communicator->join();
    expect_same(numbers.values(), numbers_of<T>(from, count), "broadcast");
  }
}

// From each rank to the next one, the last rank's stay.
template <typename T>
void check_send(Gpu& gpu, int64_t count) {
  const int rank = own_rank();
  const Numbers<T> own(*gpu.ops, numbers_of<T>(rank, count));
  const Numbers<T> other(*gpu.ops, numbers_of<T>(rank, count));
  if (rank > 0) gpu.communicator->receive(other.tensor, rank - 1);
  if (rank + 1 < all_ranks()) gpu.communicator->send(own.tensor, rank + 1);
  gpu.communicator->join();
  expect_same(other.values(), numbers_of<T>(rank == 0 ? 0 : rank - 1, count), "sending");
}

std::vector<int64_t> counts() {
  const int64_t equal = 64 * all_ranks();
  return {1, 63, 64, equal, equal + 1, 3 * equal - 1, 5000};
}

void verbs() {
  Gpu gpu;
  expect_part(gpu.communicator->description(), "NCCL 2.");
  for (const int64_t count : counts()) {
    check_sum<float>(gpu, count);
    check_sum<double>(gpu, count);
    check_sum_parts(gpu, count);
    check_gather_parts<float>(gpu, count);
    check_gather_parts<BFloat16>(gpu, count);
    check_gather_parts<int32_t>(gpu, count);
    check_broadcast<BFloat16>(gpu, count);
    check_broadcast<float>(gpu, count);
    check_send<float>(gpu, count);
    check_send<BFloat16>(gpu, count);
  }
  const Numbers<float> none(*gpu.ops, {});
  gpu.communicator->sum(none.tensor);
  gpu.communicator->join();
}

// What a step does: the compute stream goes on while buckets are summed, uses the sums, and sends
// its parts back.
void compute_and_sum(Gpu& gpu) {
  constexpr int64_t kCount = 300;
  constexpr int kBuckets = 3;
  std::vector<std::unique_ptr<Numbers<float>>> buckets;
  const Numbers<float> addend(*gpu.ops, numbers_of<float>(own_rank(), kCount));
  for (int step = 0; step < 2; ++step) {
    buckets.clear();
    for (int i = 0; i < kBuckets; ++i) {
      auto& bucket = *buckets.emplace_back(
          std::make_unique<Numbers<float>>(*gpu.ops, std::vector<float>(kCount, 1.0f)));
      gpu.ops->add(bucket.tensor, bucket.tensor, addend.tensor);
      gpu.communicator->sum_parts(bucket.tensor);
    }
    gpu.communicator->join();
    for (const auto& bucket : buckets) {
      gpu.ops->add(bucket->tensor, bucket->tensor, bucket->tensor);
      gpu.communicator->gather_parts(bucket->tensor);
    }
    gpu.communicator->join();
    auto right = summed<float>(kCount);
    for (float& value : right) value = 2 * (value + static_cast<float>(all_ranks()));
    for (const auto& bucket : buckets) expect_same(bucket->values(), right, "a step's sums");
  }
}

// Each rank in another order of streams too.
void orders() {
  const std::vector<StreamOrder> all = {StreamOrder::shuffled, StreamOrder::oldest_first,
                                        StreamOrder::newest_first};
  for (size_t first = 0; first < all.size(); ++first) {
    for (uint64_t seed = 0; seed < 2; ++seed) {
      for (const size_t other : {size_t{0}, static_cast<size_t>(own_rank())}) {
        Gpu gpu({all[(first + other) % all.size()], seed + 10 * other});
        compute_and_sum(gpu);
      }
    }
  }
}

void host_verbs() {
  Gpu gpu;
  const int ranks = all_ranks();
  std::vector<double> values(3000, own_rank() == 1 ? 0.1 : 0.0);
  gpu.communicator->sum(std::span<double>(values));
  for (const double value : values) expect(value == 0.1, "a sum of the host");
  const uint64_t large = ~uint64_t{0} - static_cast<uint64_t>(own_rank());
  const auto all = gpu.communicator->gather(large);
  expect(all.size() == static_cast<size_t>(ranks), "a number of each rank");
  for (int rank = 0; rank < ranks; ++rank) {
    expect(all[static_cast<size_t>(rank)] == ~uint64_t{0} - static_cast<uint64_t>(rank),
           "a number by rank");
  }
  expect(gpu.communicator->any(own_rank() == ranks - 1), "any");
  expect(!gpu.communicator->any(false), "not any");
  expect(gpu.communicator->all_equal(7), "all equal");
  expect(!gpu.communicator->all_equal(own_rank() == 0 ? 7 : 8), "not all equal");
}

}  // namespace

std::vector<Case> verb_cases() {
  return {{"verbs", verbs}, {"orders", orders}, {"host_verbs", host_verbs}};
}

}  // namespace normlab::test
