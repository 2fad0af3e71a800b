// Models in bf16 on the CPU: what must hold of one in any precision, and its masters.
#include <algorithm>

#include "catch.h"
#include "kernels/bfloat16.h"
#include "tests/models/tiny.h"
#include "tests/models/watching_ops.h"

namespace normlab {
namespace {

struct Outcome {
  std::vector<double> losses, gradients;
};

Outcome outcome(Ops& ops, const TinyCase& tiny, Probe* probe = nullptr) {
  TinyModel model(ops, tiny.config, training(tiny.batch, tiny.tokens));
  const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
  model.backward(host, Pass::training, probe);
  Outcome found;
  found.gradients = model.gradients();
  found.losses = model.losses(host, Pass::evaluation, probe);
  return found;
}

void check_same_bits(const Outcome& one, const Outcome& other) {
  CHECK(same_bits(one.losses, other.losses));
  CHECK(same_bits(one.gradients, other.gradients));
}

// Looks at nothing, but is looked for.
class Bystander final : public Probe {
 public:
  void activation(ProbeSite, int64_t, Tensor tensor, int64_t) override {
    narrow += tensor.dtype == DType::bf16;
  }
  int narrow = 0;
};

std::vector<TinyCase> cases() {
  std::vector<TinyCase> cases = tiny_cases();
  TinyCase dropped = cases[0];
  dropped.name += " with dropout";
  dropped.config.dropout = 0.5;
  cases.push_back(dropped);
  return cases;
}

double as_float(double number) { return static_cast<double>(static_cast<float>(number)); }

double as_bf16(double number) {
  return static_cast<double>(to_float(round_to_bfloat16(static_cast<float>(number))));
}

}  // namespace

TEST_CASE("Model in bf16: threads, a reading probe and what memory held move no bit") {
  const auto one = bf16_precision(1);
  const auto two = bf16_precision(2);
  for (const TinyCase& tiny : cases()) {
    INFO(tiny.name);
    const Outcome plain = outcome(*one, tiny);
    CHECK(std::ranges::all_of(plain.gradients, [](double g) { return g == g; }));
    check_same_bits(outcome(*two, tiny), plain);
    Bystander bystander;
    check_same_bits(outcome(*one, tiny, &bystander), plain);
    CHECK(bystander.narrow > 20);
    WatchingOps watching(*one);
    check_same_bits(outcome(watching, tiny), plain);
  }
}

TEST_CASE("Model in bf16: one for inference gives the bits of one for training") {
  const auto ops = bf16_precision();
  for (const TinyCase& tiny : cases()) {
    INFO(tiny.name);
    const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
    TinyModel trained(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    TinyModel inferring(*ops, tiny.config, inference(tiny.batch, tiny.tokens));
    CHECK(same_bits(inferring.losses(host), trained.losses(host)));
  }
}

TEST_CASE("Model in bf16: activations are rounded, losses and gradients of parameters are not") {
  const auto ops = bf16_precision();
  for (const TinyCase& tiny : cases()) {
    INFO(tiny.name);
    const Outcome found = outcome(*ops, tiny);
    const auto narrow = [](const std::vector<double>& numbers) {
      return std::ranges::count_if(numbers, [](double x) { return x == as_bf16(x); });
    };
    // Ignored targets lose 0, and gaps between buckets have no gradient.
    CHECK(narrow(found.losses) < std::ssize(found.losses) / 2);
    CHECK(narrow(found.gradients) < std::ssize(found.gradients) / 2);
    TinyModel model(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    CHECK(model.model.values().dtype == DType::bf16);
    CHECK(model.model.gradients().dtype == DType::f32);
    CHECK(model.model.final_activation().dtype == DType::bf16);
  }
}

TEST_CASE("initialize in bf16: masters take the numbers of fp32, values are them rounded") {
  const auto ops = bf16_precision();
  for (const ModelConfig& config : {tiny_gpt2(), tiny_llama()}) {
    const auto exact = double_precision();
    TinyModel wide(*exact, config, inference(1, 8));
    wide.model.initialize(3);
    std::vector<double> numbers = wide.read(wide.model.values());
    std::ranges::transform(numbers, numbers.begin(), as_float);

    TinyModel with(*ops, config, inference(1, 8));
    const int64_t elements = with.model.values().elements();
    const Memory memory = ops->allocate(elements * size_of(DType::f32));
    const Tensor masters(memory.data(), DType::f32, {1, elements});
    ops->zero(masters);
    with.model.initialize(3, masters);
    CHECK(same_bits(with.read(masters), numbers));
    std::ranges::transform(numbers, numbers.begin(), as_bf16);
    CHECK(same_bits(with.read(with.model.values()), numbers));

    TinyModel without(*ops, config, inference(1, 8));
    without.model.initialize(3);
    CHECK(same_bits(without.read(without.model.values()), numbers));
  }
}

}  // namespace normlab
