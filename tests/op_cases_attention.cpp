// Causal attention with grouped heads.
#include "tests/op_cases_attention.h"

#include <algorithm>
#include <cmath>

namespace normlab {
namespace {

constexpr uint32_t kDropoutTensor = 21;
constexpr StepState kState = {.seed = 5, .step = 17, .first_sequence = 3};

// One query of one head: the numbers that the formulas name.
class Query {
 public:
  Query(HostTensors& t, const AttentionSetting& setting, int64_t sequence, int64_t head,
        int64_t token)
      : t_(t),
        size_(setting.shape.head_size),
        row_(sequence * setting.shape.query_tokens + token),
        column_(head * size_),
        first_key_(sequence * setting.shape.key_tokens),
        visible_(setting.shape.key_tokens - setting.shape.query_tokens + token + 1),
        key_column_(setting.key_column() +
                    head / (setting.shape.heads / setting.shape.kv_heads) * size_),
        value_column_(key_column_ + setting.shape.kv_heads * size_),
        lse_row_(sequence * setting.shape.heads + head),
        token_(token),
        root_(std::sqrt(static_cast<double>(size_))),
        q_(t[setting.queries()]),
        kv_(t[setting.keys()]) {
    const int64_t first = (head * setting.shape.query_tokens + token) * setting.shape.key_tokens;
    const Dropout dropout{setting.dropout, kDropoutTensor};
    for (int64_t j = 0; j < visible_; ++j) {
      const bool kept = dropout_keeps(kState, dropout, sequence, first + j);
      factors_.push_back(kept ? 1 / (1 - setting.dropout) : 0);
    }
  }

  void forward() {
    for (int64_t j = 0; j < visible_; ++j) {
      double score = 0;
      for (int64_t c = 0; c < size_; ++c) score += q_(row_, column_ + c) * key(j, c);
      probabilities_.push_back(score / root_);
    }
    const double largest = *std::max_element(probabilities_.begin(), probabilities_.end());
    double sum = 0;
    for (const double score : probabilities_) sum += std::exp(score - largest);
    t_["lse"](lse_row_, token_) = largest + std::log(sum);
    for (double& p : probabilities_) p = std::exp(p - largest) / sum;
    HostMatrix& z = t_["z"];
    for (int64_t c = 0; c < size_; ++c) {
      double total = 0;
      for (int64_t j = 0; j < visible_; ++j) {
        total +=
            probabilities_[static_cast<size_t>(j)] * factors_[static_cast<size_t>(j)] * value(j, c);
      }
      z(row_, column_ + c) = total;
    }
  }

  // After forward; adds to the gradients.
  void backward(HostMatrix& d_q, HostMatrix& d_kv) {
    const HostMatrix& d_z = t_["d_z"];
    std::vector<double> d_probabilities;
    double mean = 0;
    for (int64_t j = 0; j < visible_; ++j) {
      double d_p = 0;
      for (int64_t c = 0; c < size_; ++c) d_p += d_z(row_, column_ + c) * value(j, c);
      d_p *= factors_[static_cast<size_t>(j)];
      d_probabilities.push_back(d_p);
      mean += d_p * probabilities_[static_cast<size_t>(j)];
    }
    for (int64_t j = 0; j < visible_; ++j) {
      const double p = probabilities_[static_cast<size_t>(j)];
      const double dropped = p * factors_[static_cast<size_t>(j)];
      const double d_score = p * (d_probabilities[static_cast<size_t>(j)] - mean) / root_;
      for (int64_t c = 0; c < size_; ++c) {
        d_q(row_, column_ + c) += d_score * key(j, c);
        d_kv(first_key_ + j, key_column_ + c) += d_score * q_(row_, column_ + c);
        d_kv(first_key_ + j, value_column_ + c) += dropped * d_z(row_, column_ + c);
      }
    }
  }

 private:
  double key(int64_t j, int64_t c) const { return kv_(first_key_ + j, key_column_ + c); }
  double value(int64_t j, int64_t c) const { return kv_(first_key_ + j, value_column_ + c); }

  HostTensors& t_;
  int64_t size_, row_, column_, first_key_, visible_, key_column_, value_column_, lse_row_, token_;
  double root_;
  const HostMatrix& q_;
  const HostMatrix& kv_;
  std::vector<double> factors_;
  std::vector<double> probabilities_;
};

void attention_reference(HostTensors& t, const AttentionSetting& setting) {
  HostMatrix* d_q = nullptr;
  HostMatrix* d_kv = nullptr;
  if (setting.differentiates()) {
    d_q = &t["d_" + setting.queries()];
    d_kv = &t["d_" + setting.keys()];
    for (HostMatrix* matrix : {d_q, d_kv}) matrix->values.assign(matrix->values.size(), 0);
  }
  for (int64_t sequence = 0; sequence < setting.shape.batch; ++sequence) {
    for (int64_t head = 0; head < setting.shape.heads; ++head) {
      for (int64_t token = 0; token < setting.shape.query_tokens; ++token) {
        Query query(t, setting, sequence, head, token);
        query.forward();
        if (setting.differentiates()) query.backward(*d_q, *d_kv);
      }
    }
  }
}

void add_attention_tensors(HostTensors& tensors, const AttentionSetting& setting) {
  const AttentionShape& shape = setting.shape;
  const int64_t query_rows = shape.batch * shape.query_tokens;
  const int64_t key_rows = shape.batch * shape.key_tokens;
  const int64_t query_width = shape.heads * shape.head_size;
  const int64_t key_width = 2 * shape.kv_heads * shape.head_size;
  const auto add = [&](const std::string& name, int64_t rows, int64_t width) {
    tensors.input(name, rows, width, setting.fill).padding = 3;
    if (setting.differentiates()) tensors.written("d_" + name, rows, width).padding = 1;
  };
  if (setting.layout == AttentionLayout::packed) {
    add("qkv", query_rows, query_width + key_width);
  } else {
    add("q", query_rows, query_width);
    add("kv", key_rows, key_width);
  }
  tensors.written("z", query_rows, query_width).padding = 5;
  tensors.written("lse", shape.batch * shape.heads, shape.query_tokens).element =
      Element::statistics;
  tensors.input("d_z", query_rows, query_width).padding = 2;
}

struct Projections {
  Tensor q, k, v;
};

Projections parts(const DeviceTensors& t, const AttentionSetting& setting,
                  const std::string& prefix) {
  const int64_t query_width = setting.shape.heads * setting.shape.head_size;
  const int64_t key_width = setting.shape.kv_heads * setting.shape.head_size;
  return {t.columns(prefix + setting.queries(), 0, query_width),
          t.columns(prefix + setting.keys(), setting.key_column(), key_width),
          t.columns(prefix + setting.keys(), setting.value_column(), key_width)};
}

}  // namespace

OpCase attention_case(const std::string& name, double bound, const AttentionSetting& setting) {
  // In bf16 the probabilities, their gradients and z, which backward reads, may be rounded too.
  OpCase op_case{.name = name, .bound = bound, .roundings = 4, .state = kState};
  add_attention_tensors(op_case.tensors, setting);
  const Dropout dropout{setting.dropout, kDropoutTensor};
  op_case.forward = [=](Ops& ops, const DeviceTensors& t) {
    const auto [q, k, v] = parts(t, setting, "");
    ops.attention_forward(t["z"], t["lse"], q, k, v, setting.shape, dropout);
  };
  op_case.reference = [=](HostTensors& t) { attention_reference(t, setting); };
  if (!setting.differentiates()) return op_case;
  op_case.backward = [=](Ops& ops, const DeviceTensors& t) {
    const auto [q, k, v] = parts(t, setting, "");
    const auto [d_q, d_k, d_v] = parts(t, setting, "d_");
    ops.attention_backward(d_q, d_k, d_v, t["d_z"], t["z"], t["lse"], q, k, v, setting.shape,
                           dropout);
  };
  op_case.outputs = {{"z", "d_z"}};
  op_case.inputs = {{setting.queries(), "d_" + setting.queries()}};
  if (setting.layout == AttentionLayout::apart) op_case.inputs.push_back({"kv", "d_kv"});
  return op_case;
}

std::vector<OpCase> attention_cases() {
  // {B, T_q, T_k, H, H_kv, D}
  return {
      attention_case("attention, D = 12", 1e-6, {.shape = {2, 65, 65, 2, 1, 12}}),
      attention_case("attention, D = 32", 1e-6, {.shape = {1, 65, 65, 2, 2, 32}}),
      attention_case("attention, D = 48", 1e-6, {.shape = {1, 65, 65, 2, 1, 48}}),
      attention_case("attention, D = 52", 1e-6, {.shape = {1, 65, 65, 2, 1, 52}}),
      attention_case("attention, D = 64", 1e-6, {.shape = {1, 65, 65, 2, 1, 64}}),
      attention_case("attention, D = 80", 1e-6, {.shape = {1, 65, 65, 1, 1, 80}}),
      attention_case("attention, D = 128", 1e-6, {.shape = {1, 65, 65, 2, 1, 128}}),
      attention_case("attention, one token", 1e-6, {.shape = {2, 1, 1, 4, 2, 16}}),
      attention_case("attention, apart, groups of three", 1e-6,
                     {.shape = {2, 9, 9, 6, 2, 6}, .layout = AttentionLayout::apart}),
      attention_case("attention, heads that begin between vectors", 1e-6,
                     {.shape = {1, 33, 33, 4, 2, 12}}),
      attention_case("attention, dropout", 1e-6, {.shape = {2, 65, 65, 2, 1, 12}, .dropout = 0.5}),
      attention_case("attention, sharp", 5e-6,
                     {.shape = {1, 21, 21, 2, 1, 48}, .fill = {.deviation = 4}}),
      attention_case("attention, one query of many keys", 1e-6,
                     {.shape = {2, 1, 200, 4, 2, 32}, .layout = AttentionLayout::apart}),
      attention_case(
          "attention, some queries of more keys, dropout", 1e-6,
          {.shape = {2, 70, 200, 4, 1, 16}, .dropout = 0.5, .layout = AttentionLayout::apart}),
      attention_case("attention, large", 1e-6, {.shape = {2, 200, 200, 6, 3, 64}}),
      attention_case("attention, large, dropout", 1e-6,
                     {.shape = {2, 200, 200, 2, 2, 48}, .dropout = 0.5})};
}

}  // namespace normlab
