#include "tests/nccl/verbs.h"

namespace normlab::test {

void expect(bool holds, const std::string& what) {
  if (!holds) throw Error(what);
}

void expect_part(const std::string& text, const std::string& part) {
  expect(text.find(part) != std::string::npos, "\"" + part + "\" is not in \"" + text + "\"");
}

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
std::vector<T> summed(int ranks, int64_t count) {
  std::vector<T> sums(static_cast<size_t>(count));
  for (int rank = 0; rank < ranks; ++rank) {
    const auto numbers = numbers_of<T>(rank, count);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += numbers[i];
  }
  return sums;
}

class Verbs {
 public:
  Verbs(Communicator& communicator, Ops& ops) : communicator_(communicator), ops_(ops) {}

  template <typename T>
  void sum(int64_t count) {
    const Numbers<T> numbers(ops_, numbers_of<T>(rank_, count));
    communicator_.sum(numbers.tensor);
    communicator_.join();
    expect_same(numbers.values(), summed<T>(ranks_, count), "sum");
  }

  void sum_parts(int64_t count) {
    const Numbers<float> numbers(ops_, numbers_of<float>(rank_, count));
    communicator_.sum_parts(numbers.tensor);
    communicator_.join();
    expect_same(numbers.values(), summed<float>(ranks_, count), "sum of parts",
                own_part(count, rank_, ranks_));
  }

  // Each rank has its own numbers everywhere; afterwards all have each rank's in its part.
  template <typename T>
  void gather_parts(int64_t count) {
    const Numbers<T> numbers(ops_, numbers_of<T>(rank_, count));
    communicator_.gather_parts(numbers.tensor);
    communicator_.join();
    const auto found = numbers.values();
    for (int rank = 0; rank < ranks_; ++rank) {
      expect_same(found, numbers_of<T>(rank, count), "gathering of parts",
                  own_part(count, rank, ranks_));
    }
  }

  template <typename T>
  void broadcast(int64_t count) {
    for (int from = 0; from < ranks_; ++from) {
      const Numbers<T> numbers(ops_, numbers_of<T>(rank_, count));
      communicator_.broadcast(numbers.tensor, from);
      communicator_.join();
      expect_same(numbers.values(), numbers_of<T>(from, count), "broadcast");
    }
  }

  // From each rank to the next one, the last rank's stay.
  template <typename T>
  void send(int64_t count) {
    const Numbers<T> own(ops_, numbers_of<T>(rank_, count));
    const Numbers<T> other(ops_, numbers_of<T>(rank_, count));
    if (rank_ > 0) communicator_.receive(other.tensor, rank_ - 1);
    if (rank_ + 1 < ranks_) communicator_.send(own.tensor, rank_ + 1);
    communicator_.join();
    expect_same(other.values(), numbers_of<T>(rank_ == 0 ? 0 : rank_ - 1, count), "sending");
  }

 private:
  Communicator& communicator_;
  Ops& ops_;
  int rank_ = communicator_.rank();
  int ranks_ = communicator_.ranks();
};

}  // namespace

void check_verbs(Communicator& communicator, Ops& ops) {
  Verbs verbs(communicator, ops);
  const int64_t equal = 64 * communicator.ranks();
  for (const int64_t count :
       {int64_t{1}, int64_t{63}, int64_t{64}, equal, equal + 1, 3 * equal - 1, int64_t{5000}}) {
    verbs.sum<float>(count);
    verbs.sum<double>(count);
    verbs.sum_parts(count);
    verbs.gather_parts<float>(count);
    verbs.gather_parts<BFloat16>(count);
    verbs.gather_parts<int32_t>(count);
    verbs.broadcast<BFloat16>(count);
    verbs.broadcast<float>(count);
    verbs.send<float>(count);
    verbs.send<BFloat16>(count);
  }
  const Numbers<float> none(ops, {});
  communicator.sum(none.tensor);
  communicator.join();
}

void check_step(Communicator& communicator, Ops& ops) {
  constexpr int64_t kCount = 300;
  constexpr int kBuckets = 3;
  const int ranks = communicator.ranks();
  std::vector<std::unique_ptr<Numbers<float>>> buckets;
  const Numbers<float> addend(ops, numbers_of<float>(communicator.rank(), kCount));
  for (int step = 0; step < 2; ++step) {
    buckets.clear();
    for (int i = 0; i < kBuckets; ++i) {
      auto& bucket = *buckets.emplace_back(
          std::make_unique<Numbers<float>>(ops, std::vector<float>(kCount, 1.0f)));
      ops.add(bucket.tensor, bucket.tensor, addend.tensor);
      communicator.sum_parts(bucket.tensor);
    }
    communicator.join();
    for (const auto& bucket : buckets) {
      ops.add(bucket->tensor, bucket->tensor, bucket->tensor);
      communicator.gather_parts(bucket->tensor);
    }
    communicator.join();
    auto right = summed<float>(ranks, kCount);
    for (float& value : right) value = 2 * (value + static_cast<float>(ranks));
    for (const auto& bucket : buckets) expect_same(bucket->values(), right, "a step's sums");
  }
}

void check_host_verbs(Communicator& communicator) {
  const int rank = communicator.rank(), ranks = communicator.ranks();
  std::vector<double> values(3000, rank == ranks - 1 ? 0.1 : 0.0);
  communicator.sum(std::span<double>(values));
  for (const double value : values) expect(value == 0.1, "a sum of the host");
  const uint64_t large = ~uint64_t{0} - static_cast<uint64_t>(rank);
  const auto all = communicator.gather(large);
  expect(all.size() == static_cast<size_t>(ranks), "a number of each rank");
  for (int one = 0; one < ranks; ++one) {
    expect(all[static_cast<size_t>(one)] == ~uint64_t{0} - static_cast<uint64_t>(one),
           "a number by rank");
  }
  expect(communicator.any(rank == ranks - 1), "any");
  expect(!communicator.any(false), "not any");
  expect(communicator.all_equal(7), "all equal");
  expect(ranks == 1 || !communicator.all_equal(rank == 0 ? 7 : 8), "not all equal");
}

}  // namespace normlab::test
