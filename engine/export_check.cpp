#include "engine/export_check.h"

#include <algorithm>
#include <cmath>

#include "engine/weights.h"

namespace normlab {

Workload checked_workload(const ModelDescription& description) {
  return {1, std::min<int64_t>(description.config.context, 16), Purpose::inference,
          attention_norms(description.norms)};
}

std::vector<float> logits_of(Model& model) {
  Ops& ops = model.ops();
  const int64_t count = model.workload().tokens;
  const int64_t vocabulary = model.config().vocabulary;
  std::vector<int32_t> tokens;
  for (int64_t i = 1; i <= count; ++i) {
    tokens.push_back(static_cast<int32_t>(i * 7919 % vocabulary));
  }
  const Memory ids = ops.allocate(count * size_of(DType::i32));
  const Tensor row(ids.data(), DType::i32, {1, count});
  ops.upload(row, tokens.data());
  model.forward({row, {}}, Pass::evaluation);
  const Memory room = ops.allocate(count * vocabulary * size_of(ops.working_type()));
  const Tensor logits(room.data(), ops.working_type(), {count, vocabulary});
  model.head(logits, model.final_activation());
  return download_floats(ops, logits);
}

double difference_of(const std::vector<float>& logits, const std::vector<float>& expected) {
  check(logits.size() == expected.size(), "as many logits as expected");
  double largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(logits[i]) && !std::isfinite(expected[i])) continue;
    const double distance = std::abs(static_cast<double>(logits[i]) - expected[i]);
    if (!std::isfinite(distance)) return distance;
    difference = std::max(difference, distance);
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  // Nothing was compared where no logit is a number.
  if (largest == 0 && difference == 0 && !expected.empty() && !std::isfinite(expected[0])) {
    return std::nan("");
  }
  return largest > 0 ? difference / largest : difference;
}

double difference_allowed(StoredType type) {
  switch (type) {
    case StoredType::f32:
      return kExactDifference;
    // Measured on models made to be sensitive: 1.5e-3 and 3.6e-2.
    case StoredType::f16:
      return 2e-2;
    case StoredType::bf16:
      return 0.2;
    case StoredType::f64:
    case StoredType::i64:
    case StoredType::i32:
    case StoredType::other:
      break;
  }
  throw Error("a type that weights are not exported in");
}

}  // namespace normlab
