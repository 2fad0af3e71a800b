#include "tests/models/tiny.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/bfloat16.h"
#include "kernels/random.h"

namespace normlab {
namespace {

double uniform(uint64_t seed, uint64_t number, uint64_t element) {
  const uint64_t bits = mix(mix(mix(seed) ^ number) ^ element);
  return (static_cast<double>(bits >> 11) + 0.5) / 9007199254740992.0;
}

ModelConfig tiny(ModelConfig config) {
  config.layers = 3;
  config.width = 24;
  config.heads = 2;
  config.kv_heads = 2;
  config.head_size = 12;
  config.feed_forward = 40;
  config.vocabulary = 37;
  config.context = 72;
  return config;
}

}  // namespace

ModelConfig tiny_gpt2() { return tiny(gpt2_defaults()); }

ModelConfig tiny_llama() {
  ModelConfig config = tiny(llama_defaults());
  config.heads = 4;
  config.kv_heads = 2;
  return config;
}

std::vector<TinyCase> tiny_cases() {
  std::vector<TinyCase> cases{{"gpt2 pre", tiny_gpt2()},
                              {"llama pre", tiny_llama()},
                              {"gpt2 post untied", tiny_gpt2()},
                              {"llama post tied, one key head of 20", tiny_llama()},
                              {"gpt2 grouped, rmsnorm, no biases", tiny_gpt2()},
                              {"llama layernorm, gelu, biases", tiny_llama()},
                              {"llama, biases of queries, keys and values", tiny_llama()},
                              {"gpt2 long", tiny_gpt2(), 1, 70},
                              {"llama long", tiny_llama(), 1, 70},
                              {"gpt2 without norms, the head biased", tiny_gpt2()},
                              {"llama without norms, tied", tiny_llama()},
                              {"llama lns, layerscale", tiny_llama()},
                              {"gpt2 dyt, skipinit", tiny_gpt2()}};
  cases[2].config.norm.placement = NormPlacement::post;
  cases[2].config.tie_embeddings = false;
  ModelConfig& post = cases[3].config;
  post.norm.placement = NormPlacement::post;
  post.tie_embeddings = true;
  post.heads = 3;
  post.kv_heads = 1;
  post.head_size = 20;
  ModelConfig& bare = cases[4].config;
  bare.norm.kind = NormKind::rmsnorm;
  bare.biases = Biases::none;
  bare.heads = 4;
  bare.kv_heads = 2;
  bare.head_size = 5;
  ModelConfig& rich = cases[5].config;
  rich.norm.kind = NormKind::layernorm;
  rich.activation = Activation::gelu;
  rich.biases = Biases::all;
  cases[6].config.biases = Biases::qkv;
  ModelConfig& folded = cases[9].config;
  folded.norm.placement = NormPlacement::none;
  folded.tie_embeddings = false;
  folded.head_bias = true;
  cases[10].config.norm.placement = NormPlacement::none;
  cases[10].config.tie_embeddings = true;
  cases[11].config.norm.placement = NormPlacement::lns;
  cases[11].config.norm.branch = BranchScale::layerscale;
  cases[12].config.norm.kind = NormKind::dyt;
  cases[12].config.norm.branch = BranchScale::skipinit;
  return cases;
}

std::vector<TinyCase> placement_cases() {
  std::vector<TinyCase> cases;
  const auto add = [&](const std::string& name, ModelConfig config, NormPlacement placement,
                       int64_t layers = 3) -> NormConfig& {
    config.norm.placement = placement;
    config.layers = layers;
    cases.push_back({name, config, 2, layers > 3 ? 5 : 11});
    return cases.back().config.norm;
  };
  add("llama deepnorm", tiny_llama(), NormPlacement::deepnorm);
  add("gpt2 deepnorm_reference", tiny_gpt2(), NormPlacement::deepnorm_reference);
  add("llama mix", tiny_llama(), NormPlacement::mix).post_layers = 2;
  add("llama sandwich", tiny_llama(), NormPlacement::sandwich);
  add("gpt2 peri", tiny_gpt2(), NormPlacement::peri);
  add("llama lns", tiny_llama(), NormPlacement::lns);
  add("gpt2 lns", tiny_gpt2(), NormPlacement::lns);
  add("gpt2 lns before_norm", tiny_gpt2(), NormPlacement::lns).lns_position =
      LnsPosition::before_norm;
  add("llama lns after_sublayer", tiny_llama(), NormPlacement::lns).lns_position =
      LnsPosition::after_sublayer;
  add("llama lns after_residual", tiny_llama(), NormPlacement::lns).lns_position =
      LnsPosition::after_residual;
  add("llama lns of attention", tiny_llama(), NormPlacement::lns).lns_sublayers =
      LnsSublayers::attention;
  add("llama lns of the MLP", tiny_llama(), NormPlacement::lns).lns_sublayers = LnsSublayers::mlp;
  add("llama pre_post", tiny_llama(), NormPlacement::pre_post, 8);
  add("llama pre_sandwich", tiny_llama(), NormPlacement::pre_sandwich, 8);
  add("llama post_pre_post_pre", tiny_llama(), NormPlacement::post_pre_post_pre, 5);
  add("llama pre_post_pre_post", tiny_llama(), NormPlacement::pre_post_pre_post, 5);
  add("llama layerscale", tiny_llama(), NormPlacement::pre).branch = BranchScale::layerscale;
  add("gpt2 skipinit", tiny_gpt2(), NormPlacement::pre).branch = BranchScale::skipinit;
  add("llama sandwich, layerscale", tiny_llama(), NormPlacement::sandwich).branch =
      BranchScale::layerscale;
  add("llama deepnorm, skipinit", tiny_llama(), NormPlacement::deepnorm).branch =
      BranchScale::skipinit;
  add("llama dyt", tiny_llama(), NormPlacement::pre).kind = NormKind::dyt;
  add("gpt2 derf, peri", tiny_gpt2(), NormPlacement::peri).kind = NormKind::derf;
  add("llama dyt, lns", tiny_llama(), NormPlacement::lns).kind = NormKind::dyt;
  add("llama derf, post", tiny_llama(), NormPlacement::post).kind = NormKind::derf;
  add("llama gpas", tiny_llama(), NormPlacement::pre).gpas = true;
  return cases;
}

HostBatch HostBatch::sequences(int64_t first, int64_t count) const {
  const auto part = [&](const std::vector<int32_t>& all) {
    return std::vector<int32_t>(all.begin() + first * tokens,
                                all.begin() + (first + count) * tokens);
  };
  return {count, tokens, part(ids), part(targets)};
}

HostBatch random_batch(const ModelConfig& config, int64_t batch, int64_t tokens, uint64_t seed) {
  HostBatch host{batch, tokens, {}, {}};
  const auto vocabulary = static_cast<double>(config.vocabulary);
  for (int64_t row = 0; row < batch * tokens; ++row) {
    const auto element = static_cast<uint64_t>(row);
    const int64_t place = row % tokens;
    const int64_t length = tokens - 1 - 2 * (row / tokens);
    const bool ignored = place >= length || uniform(seed, 2, element) < 0.1;
    host.ids.push_back(static_cast<int32_t>(uniform(seed, 0, element) * vocabulary));
    host.targets.push_back(ignored ? -1
                                   : static_cast<int32_t>(uniform(seed, 1, element) * vocabulary));
  }
  return host;
}

double normal_number(uint64_t seed, uint64_t number, uint64_t element) {
  const double radius = std::sqrt(-2 * std::log(uniform(seed, number, 2 * element)));
  return radius * std::cos(2 * std::numbers::pi * uniform(seed, number, 2 * element + 1));
}

TinyModel::TinyModel(Ops& ops, const ModelConfig& config, const Workload& workload, uint64_t seed)
    : ops(ops), model(ops, config, workload) {
  const int64_t bytes = workload.rows() * size_of(DType::i32);
  tokens_memory_ = ops.allocate(bytes);
  targets_memory_ = ops.allocate(bytes);
  lengths_memory_ = ops.allocate(bytes);
  logits_memory_ = ops.allocate(workload.rows() * config.vocabulary * size_of(ops.working_type()));
  ops.set_step_state({.seed = 3, .step = 7, .first_sequence = 2, .loss_scale = 0.37});
  fill(seed);
}

void TinyModel::fill(uint64_t seed) {
  for (size_t i = 0; i < model.parameters().size(); ++i) {
    const Parameter& parameter = model.parameters()[i];
    std::vector<double> values(static_cast<size_t>(parameter.value.elements()));
    for (size_t e = 0; e < values.size(); ++e) {
      const bool gain = parameter.start != 0;
      values[e] = gain ? 0.5 + uniform(seed, i, e) : 0.2 * normal_number(seed, i, e);
    }
    write(parameter.value, values);
  }
}

Batch TinyModel::upload(const HostBatch& host) {
  const Tensor tokens(tokens_memory_.data(), DType::i32, {host.batch, host.tokens});
  const Tensor targets(targets_memory_.data(), DType::i32, {host.batch, host.tokens});
  ops.upload(tokens, host.ids.data());
  ops.upload(targets, host.targets.data());
  const Tensor lengths(lengths_memory_.data(), DType::i32, {host.batch, 1});
  std::vector<int32_t> counted(static_cast<size_t>(host.batch));
  for (int64_t b = 0; b < host.batch; ++b) {
    counted[static_cast<size_t>(b)] = static_cast<int32_t>(host.length(b));
  }
  ops.upload(lengths, counted.data());
  return {tokens, targets, lengths};
}

std::vector<double> TinyModel::losses(const HostBatch& host, Pass pass, Probe* probe) {
  const Batch batch = upload(host);
  model.forward(batch, pass, probe);
  return read(model.losses(batch, probe));
}

void TinyModel::backward(const HostBatch& host, Pass pass, Probe* probe,
                         const BucketDone& bucket_done) {
  const Batch batch = upload(host);
  model.forward(batch, pass, probe);
  model.backward(batch, bucket_done, probe);
}

std::vector<double> TinyModel::logits(const HostBatch& host) {
  model.forward(upload(host), Pass::evaluation);
  const Tensor logits(logits_memory_.data(), ops.working_type(),
                      {host.batch * host.tokens, model.config().vocabulary});
  model.head(logits, model.final_activation());
  return read(logits);
}

std::vector<double> TinyModel::read(ConstTensor tensor) const {
  std::vector<double> values(static_cast<size_t>(tensor.elements()));
  const auto columns = static_cast<size_t>(tensor.columns());
  std::vector<float> narrow(columns);
  std::vector<BFloat16> half(columns);
  for (int64_t row = 0; row < tensor.rows(); ++row) {
    double* line = values.data() + static_cast<size_t>(row) * columns;
    if (tensor.dtype == DType::f64) {
      ops.download(line, tensor.row_slice(row, 1));
    } else if (tensor.dtype == DType::bf16) {
      ops.download(half.data(), tensor.row_slice(row, 1));
      std::transform(half.begin(), half.end(), line, to_float);
    } else {
      ops.download(narrow.data(), tensor.row_slice(row, 1));
      std::copy(narrow.begin(), narrow.end(), line);
    }
  }
  return values;
}

void TinyModel::write(Tensor tensor, const std::vector<double>& values) {
  const std::vector<float> narrow(values.begin(), values.end());
  if (tensor.dtype == DType::f64) {
    ops.upload(tensor, values.data());
  } else if (tensor.dtype == DType::bf16) {
    std::vector<BFloat16> half(narrow.size());
    std::transform(narrow.begin(), narrow.end(), half.begin(), round_to_bfloat16);
    ops.upload(tensor, half.data());
  } else {
    ops.upload(tensor, narrow.data());
  }
}

void TinyModel::set_gates(const std::vector<double>& gates) {
  for (size_t i = 0; i < model.norm_sites().size(); ++i) {
    model.set_norm_state(i, {gates[i % gates.size()], 0.7 + 0.05 * static_cast<double>(i)});
  }
}

Workload training(int64_t micro_batch, int64_t tokens) {
  return {micro_batch, tokens, Purpose::training, AttentionNorms::apart};
}

Workload inference(int64_t micro_batch, int64_t tokens) {
  return {micro_batch, tokens, Purpose::inference, AttentionNorms::apart};
}

std::unique_ptr<Ops> single_precision(int threads) {
  return make_ops(Device::cpu, Precision::fp32, threads);
}

std::unique_ptr<Ops> bf16_precision(int threads) {
  return make_ops(Device::cpu, Precision::bf16, threads);
}

std::unique_ptr<Ops> double_precision() { return make_ops(Device::cpu, Precision::fp64, 1); }

bool same_bits(const std::vector<double>& one, const std::vector<double>& other) {
  return one == other;
}

double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  double error = actual.size() == expected.size() ? 0 : std::numeric_limits<double>::infinity();
  double largest = 0;
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    const double difference = std::abs(actual[i] - expected[i]);
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    error = std::max(error, difference);
    largest = std::max(largest, std::abs(expected[i]));
  }
  return largest > 0 ? error / largest : error;
}

}  // namespace normlab
