// What ranks hold against each other, with others that are made up.
#include "engine/ranks.h"

#include "catch.h"
#include "tests/engine/small_model.h"

using namespace normlab;
using namespace normlab::test;

namespace {

JobPlace one_of(int ranks) {
  JobPlace place;
  place.ranks = ranks;
  return place;
}

// Rank 0 of a job; the others say `others` whatever is gathered.
class MadeUpJob final : public Communicator {
 public:
  explicit MadeUpJob(std::vector<uint64_t> others)
      : Communicator(one_of(static_cast<int>(others.size()) + 1), 1), others_(std::move(others)) {}
  std::string description() const override { return "nothing"; }
  void attach(Ops&) override {
    if (fails_to_attach) throw Error("no GPU");
    attached = true;
  }
  void detach() override { detached = true; }
  using Communicator::sum;
  void sum(Tensor) override {}
  void sum_parts(Tensor) override {}
  void gather_parts(Tensor) override {}
  void send(ConstTensor, int) override {}
  void receive(Tensor, int) override {}
  void broadcast(Tensor, int) override {}
  void join() override {}
  void sum(std::span<double>) override {}
  std::vector<uint64_t> gather(uint64_t value) override {
    own = value;
    std::vector<uint64_t> all = {value};
    all.insert(all.end(), others_.begin(), others_.end());
    return all;
  }
  void end_job(int) override {}
  uint64_t own = 0;
  bool fails_to_attach = false, attached = false, detached = false;

 private:
  std::vector<uint64_t> others_;
};

}  // namespace

TEST_CASE("Attachment: one that fails is taken back") {
  const SmallModel small(small_config(Family::gpt2));
  MadeUpJob job({1});
  {
    const Attachment attachment(job, small.model.ops());
    CHECK(job.attached);
    CHECK(!job.detached);
  }
  CHECK(job.detached);
  job.detached = false;
  job.fails_to_attach = true;
  CHECK_THROWS_AS(Attachment(job, small.model.ops()), Error);
  CHECK(job.detached);
}

TEST_CASE("check_replicas: equal weights pass, and others are named with the step") {
  const SmallModel small(small_config(Family::gpt2));
  MadeUpJob asks({1});
  CHECK_THROWS_AS(check_replicas(small.model, asks, 12), Error);
  const uint64_t hash = asks.own;
  MadeUpJob equal({hash, hash});
  CHECK_NOTHROW(check_replicas(small.model, equal, 12));
  MadeUpJob unequal({hash, hash + 1, hash});
  try {
    check_replicas(small.model, unequal, 12);
    FAIL("rank 2 has other weights");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::communication);
    CHECK(std::string(error.what()).find("weights of rank 2 are not those of rank 0 at step 12") !=
          std::string::npos);
  }
  // One bit is enough.
  SmallModel other(small_config(Family::gpt2));
  std::vector<float> values = other.values();
  values[values.size() / 2] = std::nextafter(values[values.size() / 2], 9.0f);
  upload_floats(*other.ops, other.model.values(), values);
  CHECK_THROWS_AS(check_replicas(other.model, equal, 12), Error);
}

TEST_CASE("check_agreement: names what differs, and where") {
  MadeUpJob job({5, 5, 6});
  CHECK_NOTHROW(
      check_agreement(*std::make_unique<MadeUpJob>(std::vector<uint64_t>{5, 5}), 5, "it"));
  try {
    check_agreement(job, 5, "the training data");
    FAIL("rank 3 says something else");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    CHECK(
        std::string(error.what()).starts_with("the training data of rank 3 is not that of rank 0"));
  }
}

TEST_CASE("communicator: any and all_equal ask every rank") {
  CHECK(MadeUpJob({0, 1}).any(false));
  CHECK(!MadeUpJob({0, 0}).any(false));
  CHECK(MadeUpJob({0, 0}).any(true));
  CHECK(MadeUpJob({4, 4}).all_equal(4));
  CHECK(!MadeUpJob({4, 5}).all_equal(4));
}
