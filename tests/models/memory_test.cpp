// What a model allocates: as measured, and how it grows.
#include "catch.h"
#include "tests/models/tiny.h"
#include "tests/models/watching_ops.h"

namespace normlab {
namespace {

ModelMemory measured(ModelConfig config, const Workload& workload) {
  config.context = std::max(config.context, workload.tokens);
  return measure_model(config, workload, number_types(Precision::fp32));
}

// Records where each chunk of logits begins.
class ChunkReader final : public Probe {
 public:
  void activation(ProbeSite site, int64_t, Tensor tensor, int64_t first_row) override {
    if (site == ProbeSite::logits) chunks.push_back({first_row, tensor.rows()});
  }
  std::vector<std::pair<int64_t, int64_t>> chunks;
};

}  // namespace

TEST_CASE("measure_model: is what a model allocates, in training and inference") {
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::fp64}) {
    const auto ops = make_ops(Device::cpu, precision, 1);
    for (TinyCase tiny : tiny_cases()) {
      for (const double dropout : {0.0, 0.1}) {
        for (const Purpose purpose : {Purpose::training, Purpose::inference}) {
          INFO(tiny.name << ", dropout " << dropout);
          tiny.config.dropout = dropout;
          const Workload workload{tiny.batch, tiny.tokens, purpose};
          WatchingOps watching(*ops);
          const Model model(watching, tiny.config, workload);
          const ModelMemory memory = measure_model(tiny.config, workload, number_types(precision));
          CHECK(watching.allocated_bytes() ==
                memory.weights_bytes + memory.gradients_bytes + memory.activations_bytes);
          const int64_t elements = model.values().elements();
          CHECK(memory.weights_bytes == elements * size_of(ops->working_type()));
          CHECK(memory.gradients_bytes ==
                (purpose == Purpose::training ? elements * size_of(ops->gradient_type()) : 0));
        }
      }
    }
  }
}

TEST_CASE("number_types: a precision has the types of its device") {
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::fp64}) {
    const NumberTypes found = number_types(*make_ops(Device::cpu, precision, 1));
    const NumberTypes types = number_types(precision);
    CHECK(types.working == found.working);
    CHECK(types.gradient == found.gradient);
    CHECK(types.statistics == found.statistics);
    CHECK(types.has_masters == found.has_masters);
  }
}

TEST_CASE("measure_model: in bf16 weights take half the bytes, gradients as many") {
  const ModelConfig config = gpt2_config("small");
  const Workload workload = training(4, 1024);
  const ModelMemory wide = measure_model(config, workload, number_types(Precision::fp32));
  const ModelMemory narrow = measure_model(config, workload, number_types(Precision::bf16));
  CHECK(2 * narrow.weights_bytes == wide.weights_bytes);
  CHECK(narrow.gradients_bytes == wide.gradients_bytes);
  CHECK(static_cast<double>(narrow.activations_bytes) <
        0.52 * static_cast<double>(wide.activations_bytes));
}

TEST_CASE("lay_out_activations: measuring and taking come to the same peak") {
  for (const TinyCase& tiny : tiny_cases()) {
    for (const Purpose purpose : {Purpose::training, Purpose::inference}) {
      const Workload workload{tiny.batch, tiny.tokens, purpose};
      ModelStructure structure = make_structure(tiny.config);
      const auto lay_out = [&](Arena& arena) {
        lay_out_activations(structure, arena, tiny.config, workload, DType::f32, DType::f32);
        return arena.peak_bytes();
      };
      Arena measuring;
      const int64_t peak = lay_out(measuring);
      const auto ops = single_precision();
      const Memory memory = ops->allocate(peak);
      Arena exact(memory.data(), peak);
      CHECK(lay_out(exact) == peak);
      Arena tight(memory.data(), peak - 1);
      CHECK_THROWS_AS(lay_out(tight), Error);
    }
  }
}

TEST_CASE("measure_model: activations grow linearly with the tokens, no (T,T) tensor is kept") {
  for (const ModelConfig& config : {gpt2_config("small"), llama_config("130m")}) {
    for (const Purpose purpose : {Purpose::training, Purpose::inference}) {
      const ModelMemory one = measured(config, {1, 2048, purpose});
      const ModelMemory twice = measured(config, {1, 4096, purpose});
      const double ratio =
          static_cast<double>(twice.activations_bytes) / static_cast<double>(one.activations_bytes);
      CHECK(ratio < 2.1);
      CHECK(ratio > 1.2);
    }
  }
}

TEST_CASE("measure_model: inference keeps one layer, training all of them") {
  ModelConfig config = gpt2_config("small");
  const auto activations = [&](int64_t layers, Purpose purpose) {
    config.layers = layers;
    return static_cast<double>(measured(config, {4, 1024, purpose}).activations_bytes);
  };
  CHECK(activations(24, Purpose::inference) < 1.01 * activations(2, Purpose::inference));
  CHECK(activations(24, Purpose::training) > 4 * activations(2, Purpose::training));
}

TEST_CASE("measure_model: logits are made in chunks, not for the whole batch at once") {
  const ModelConfig config = gpt2_config("small");
  const Workload workload = inference(64, 1024);
  const int64_t all_logits_bytes = workload.rows() * config.vocabulary * size_of(DType::f32);
  CHECK(measured(config, workload).activations_bytes < all_logits_bytes / 2);
}

TEST_CASE("Model: losses and gradients do not depend on where a chunk of logits ends") {
  ModelConfig config = tiny_gpt2();
  config.layers = 1;
  config.width = 8;
  config.heads = config.kv_heads = 1;
  config.head_size = 8;
  config.vocabulary = 200'003;  // 64 rows a chunk
  const auto ops = single_precision();
  TinyModel model(*ops, config, training(2, 35));
  HostBatch host = random_batch(config, 2, 35);
  ChunkReader reader;
  const std::vector<double> losses = model.losses(host, Pass::evaluation, &reader);
  CHECK(reader.chunks == std::vector<std::pair<int64_t, int64_t>>{{0, 64}, {64, 6}});
  model.backward(host);
  const std::vector<double> gradients = model.gradients();
  model.zero_gradients();
  std::vector<double> apart;
  for (int64_t sequence = 0; sequence < 2; ++sequence) {
    const HostBatch part = host.sequences(sequence, 1);
    const std::vector<double> found = model.losses(part);
    apart.insert(apart.end(), found.begin(), found.end());
    model.backward(part);
  }
  CHECK(relative_error(apart, losses) < 1e-6);
  CHECK(relative_error(model.gradients(), gradients) < 2e-6);
}

}  // namespace normlab
