// What a probe sees, that looking changes nothing, and that the gradients it is shown are right.
#include "models/probe.h"

#include <algorithm>
#include <tuple>

#include "catch.h"
#include "tests/models/tiny.h"

namespace normlab {
namespace {

struct Seen {
  ProbeSite site;
  int64_t layer;
  Shape shape;
  std::vector<double> values;
};

// Reads all that it is shown.
class Reader final : public Probe {
 public:
  explicit Reader(const TinyModel& model) : model_(model) {}

  void activation(ProbeSite site, int64_t layer, Tensor tensor, int64_t) override {
    activations.push_back({site, layer, tensor.shape, model_.read(tensor)});
  }
  void gradient(ProbeSite site, int64_t layer, Tensor tensor, int64_t) override {
    gradients.push_back({site, layer, tensor.shape, model_.read(tensor)});
  }
  static const Seen& find(const std::vector<Seen>& all, ProbeSite site, int64_t layer) {
    const auto found = std::ranges::find_if(
        all, [&](const Seen& seen) { return seen.site == site && seen.layer == layer; });
    if (found == all.end()) throw Error("a site that was not shown");
    return *found;
  }

  std::vector<Seen> activations, gradients;

 private:
  const TinyModel& model_;
};

double direction_of(int64_t row, int64_t column) {
  return normal_number(21, static_cast<uint64_t>(row), static_cast<uint64_t>(column));
}

// Adds amount · direction to one activation.
class Writer final : public Probe {
 public:
  Writer(TinyModel& model, ProbeSite site, int64_t layer, double amount)
      : model_(model), site_(site), layer_(layer), amount_(amount) {}

  void activation(ProbeSite site, int64_t layer, Tensor tensor, int64_t) override {
    if (site != site_ || layer != layer_) return;
    std::vector<double> values = model_.read(tensor);
    const int64_t columns = tensor.columns();
    for (int64_t row = 0; row < tensor.rows(); ++row) {
      double* line = values.data() + row * columns;
      for (int64_t c = 0; c < columns; ++c) line[c] += amount_ * direction_of(row, c);
      model_.write(tensor.row_slice(row, 1), {line, line + columns});
    }
    ++writes;
  }

  int writes = 0;

 private:
  TinyModel& model_;
  ProbeSite site_;
  int64_t layer_;
  double amount_;
};

struct Place {
  ProbeSite site;
  int64_t layer;
};

// Those that losses depend on: norm_std and attention_lse are of use to backward alone.
std::vector<Place> places(int64_t layers) {
  std::vector<Place> places{{ProbeSite::embedding, -1},
                            {ProbeSite::final_pre, -1},
                            {ProbeSite::final, -1},
                            {ProbeSite::logits, -1}};
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (const ProbeSite site :
         {ProbeSite::residual_pre, ProbeSite::residual_mid, ProbeSite::residual_post, ProbeSite::q,
          ProbeSite::k, ProbeSite::attention_z, ProbeSite::attention_out, ProbeSite::mlp_pre,
          ProbeSite::mlp_post, ProbeSite::mlp_out}) {
      places.push_back({site, layer});
    }
  }
  return places;
}

std::vector<TinyCase> cases() {
  std::vector<TinyCase> cases = tiny_cases();
  for (const size_t i : {size_t{0}, size_t{3}}) {
    TinyCase dropped = cases[i];
    dropped.name += " with dropout";
    dropped.config.dropout = 0.5;
    cases.push_back(dropped);
  }
  return cases;
}

double sum(const std::vector<double>& numbers) {
  double sum = 0;
  for (double number : numbers) sum += number;
  return sum;
}

// Of a function of one number, at 0: five points, error of order h⁴.
template <typename Function>
double slope(const Function& at) {
  constexpr double kStep = 5e-5;
  return (8 * (at(kStep) - at(-kStep)) - (at(2 * kStep) - at(-2 * kStep))) / (12 * kStep);
}

}  // namespace

TEST_CASE("Probe: one that only reads changes no bit") {
  const auto ops = single_precision();
  for (const TinyCase& tiny : cases()) {
    INFO(tiny.name);
    const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
    TinyModel plain(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    TinyModel probed(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    TinyModel inferring(*ops, tiny.config, inference(tiny.batch, tiny.tokens));
    Reader reader(probed), other_reader(inferring);
    plain.backward(host);
    probed.backward(host, Pass::training, &reader);
    CHECK(same_bits(plain.gradients(), probed.gradients()));
    const std::vector<double> losses = plain.losses(host);
    CHECK(same_bits(probed.losses(host, Pass::evaluation, &reader), losses));
    CHECK(same_bits(inferring.losses(host, Pass::evaluation, &other_reader), losses));
    const NormConfig& norm = tiny.config.norm;
    const bool none = norm.placement == NormPlacement::none || is_elementwise(norm.kind);
    const size_t stds = none ? 0 : 7;
    CHECK(other_reader.activations.size() == 37 + stds);
  }
}

TEST_CASE("Probe: every activation is shown once, in the order of the pass, with its shape") {
  const auto ops = single_precision();
  ModelConfig config = tiny_llama();
  config.layers = 1;
  TinyModel model(*ops, config, training(2, 21));
  Reader reader(model);
  model.losses(random_batch(config, 2, 21), Pass::evaluation, &reader);
  using Site = ProbeSite;
  const std::vector<std::tuple<Site, int64_t, int64_t, int64_t>> expected{
      {Site::embedding, -1, 42, 24},
      {Site::residual_pre, 0, 42, 24},
      {Site::norm_std, 0, 42, 2},
      {Site::q, 0, 42, 48},
      {Site::k, 0, 42, 24},
      {Site::attention_lse, 0, 8, 21},
      {Site::attention_z, 0, 42, 48},
      {Site::attention_out, 0, 42, 24},
      {Site::residual_mid, 0, 42, 24},
      {Site::norm_std, 0, 42, 2},
      {Site::mlp_pre, 0, 42, 80},
      {Site::mlp_post, 0, 42, 40},
      {Site::mlp_out, 0, 42, 24},
      {Site::residual_post, 0, 42, 24},
      {Site::final_pre, -1, 42, 24},
      {Site::norm_std, -1, 42, 2},
      {Site::final, -1, 42, 24},
      {Site::logits, -1, 42, 37}};
  REQUIRE(reader.activations.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO(i);
    const Seen& seen = reader.activations[i];
    CHECK(std::tuple{seen.site, seen.layer, seen.shape.rows(), seen.shape.columns()} ==
          expected[i]);
  }
}

TEST_CASE("Probe: the stream that it is shown is the sum of the branches that it is shown") {
  const auto ops = double_precision();
  TinyModel model(*ops, tiny_gpt2(), training(2, 21));
  Reader reader(model);
  model.losses(random_batch(tiny_gpt2(), 2, 21), Pass::evaluation, &reader);
  const auto shown = [&](ProbeSite site, int64_t layer) {
    return Reader::find(reader.activations, site, layer).values;
  };
  std::vector<double> stream = shown(ProbeSite::embedding, -1);
  for (int64_t layer = 0; layer < 3; ++layer) {
    CHECK(same_bits(shown(ProbeSite::residual_pre, layer), stream));
    for (const auto& [branch, after] :
         {std::pair{ProbeSite::attention_out, ProbeSite::residual_mid},
          {ProbeSite::mlp_out, ProbeSite::residual_post}}) {
      const std::vector<double> added = shown(branch, layer);
      for (size_t i = 0; i < stream.size(); ++i) stream[i] += added[i];
      CHECK(same_bits(shown(after, layer), stream));
    }
  }
  CHECK(same_bits(shown(ProbeSite::final_pre, -1), stream));
}

TEST_CASE("Probe: one that writes changes the losses, wherever it writes") {
  const auto ops = single_precision();
  for (const TinyCase& tiny : {tiny_cases()[0], tiny_cases()[3]}) {
    const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
    TinyModel model(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    const std::vector<double> losses = model.losses(host);
    for (const Place& place : places(tiny.config.layers)) {
      INFO(tiny.name << ", site " << static_cast<int>(place.site) << ", layer " << place.layer);
      Writer writer(model, place.site, place.layer, 0.1);
      CHECK(relative_error(model.losses(host, Pass::evaluation, &writer), losses) > 1e-3);
      CHECK(writer.writes == 1);
    }
    CHECK(same_bits(model.losses(host), losses));
  }
}

TEST_CASE("Probe: writing norm_std or attention_lse changes the gradients") {
  const auto ops = single_precision();
  for (const ProbeSite site : {ProbeSite::norm_std, ProbeSite::attention_lse}) {
    const HostBatch host = random_batch(tiny_gpt2(), 2, 21);
    TinyModel plain(*ops, tiny_gpt2(), training(2, 21));
    TinyModel written(*ops, tiny_gpt2(), training(2, 21));
    Writer writer(written, site, 1, 0.1);
    plain.backward(host);
    written.backward(host, Pass::training, &writer);
    CHECK(relative_error(written.gradients(), plain.gradients()) > 1e-3);
  }
}

TEST_CASE("Probe: the gradient shown at a site is that of the activation shown there") {
  const auto ops = double_precision();
  for (const TinyCase& tiny : cases()) {
    const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
    TinyModel model(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    model.set_gates({1, 0.3});
    Reader reader(model);
    model.backward(host, Pass::training, &reader);
    CHECK(reader.gradients.size() == places(tiny.config.layers).size());
    for (const Place& place : places(tiny.config.layers)) {
      INFO(tiny.name << ", site " << static_cast<int>(place.site) << ", layer " << place.layer);
      const Seen& gradient = Reader::find(reader.gradients, place.site, place.layer);
      double expected = 0;
      double largest = 0;
      for (size_t i = 0; i < gradient.values.size(); ++i) {
        const auto columns = gradient.shape.columns();
        const auto at = static_cast<int64_t>(i);
        expected += gradient.values[i] * direction_of(at / columns, at % columns);
        largest = std::max(largest, std::abs(gradient.values[i]));
      }
      const double found = slope([&](double amount) {
        Writer writer(model, place.site, place.layer, amount);
        return 0.37 * sum(model.losses(host, Pass::training, &writer));
      });
      // Measured: 2.3e-8 at most.
      CHECK(std::abs(found - expected) <= 1e-7 * largest);
    }
  }
}

TEST_CASE("Model: forward_from a captured residual stream gives the bits of forward") {
  const auto ops = single_precision();
  for (const TinyCase& tiny : tiny_cases()) {
    INFO(tiny.name);
    const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
    for (const Purpose purpose : {Purpose::training, Purpose::inference}) {
      TinyModel model(*ops, tiny.config, {tiny.batch, tiny.tokens, purpose});
      Reader reader(model);
      const std::vector<double> losses = model.losses(host, Pass::evaluation, &reader);
      const Memory memory =
          ops->allocate(tiny.batch * tiny.tokens * 24 * size_of(ops->working_type()));
      const Tensor x(memory.data(), ops->working_type(), {tiny.batch * tiny.tokens, 24});
      for (int64_t layer = 0; layer <= tiny.config.layers; ++layer) {
        INFO("layer " << layer);
        const bool last = layer == tiny.config.layers;
        model.write(x, Reader::find(reader.activations,
                                    last ? ProbeSite::final_pre : ProbeSite::residual_pre,
                                    last ? -1 : layer)
                           .values);
        model.losses(random_batch(tiny.config, tiny.batch, tiny.tokens, 99));
        const Batch batch = model.upload(host);
        model.model.forward_from(layer, x, batch, Pass::evaluation);
        CHECK(same_bits(model.read(model.model.losses(batch)), losses));
      }
    }
  }
}

TEST_CASE("Model: layers in parts give the streams of all of them together") {
  const auto ops = single_precision();
  for (const TinyCase& tiny : tiny_cases()) {
    INFO(tiny.name);
    TinyModel model(*ops, tiny.config, inference(tiny.batch, tiny.tokens));
    Reader reader(model);
    const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
    model.losses(host, Pass::evaluation, &reader);
    const auto stream = [&](int64_t layer) {
      const bool last = layer == tiny.config.layers;
      return Reader::find(reader.activations, last ? ProbeSite::final_pre : ProbeSite::residual_pre,
                          last ? -1 : layer)
          .values;
    };
    const Memory memory = ops->allocate(tiny.batch * tiny.tokens * 24 * 4);
    const Tensor x(memory.data(), DType::f32, {tiny.batch * tiny.tokens, 24});
    const Batch batch = model.upload(host);
    for (int64_t first = 0; first <= tiny.config.layers; ++first) {
      for (int64_t end = first; end <= tiny.config.layers; ++end) {
        INFO("layers " << first << " to " << end);
        model.write(x, stream(first));
        const Tensor y = model.model.forward_layers(first, end, x, batch, Pass::evaluation);
        CHECK(same_bits(model.read(y), stream(end)));
      }
    }
  }
}

TEST_CASE("Model: residual_pre's gradient is the slope of forward_from") {
  const auto ops = double_precision();
  for (const TinyCase& tiny : tiny_cases()) {
    INFO(tiny.name);
    const HostBatch host = random_batch(tiny.config, tiny.batch, tiny.tokens);
    TinyModel model(*ops, tiny.config, training(tiny.batch, tiny.tokens));
    Reader reader(model);
    model.backward(host, Pass::training, &reader);
    const std::vector<double> stream =
        Reader::find(reader.activations, ProbeSite::residual_pre, 1).values;
    const std::vector<double> gradient =
        Reader::find(reader.gradients, ProbeSite::residual_pre, 1).values;
    const Memory memory = ops->allocate(static_cast<int64_t>(stream.size()) * 8);
    const Tensor x(memory.data(), DType::f64, {tiny.batch * tiny.tokens, 24});
    for (const size_t element : {size_t{0}, size_t{100}, stream.size() - 30}) {
      const double found = slope([&](double amount) {
        std::vector<double> moved = stream;
        moved[element] += amount;
        model.write(x, moved);
        const Batch batch = model.upload(host);
        model.model.forward_from(1, x, batch, Pass::evaluation);
        return 0.37 * sum(model.read(model.model.losses(batch)));
      });
      CHECK(std::abs(found - gradient[element]) <= 1e-7 * std::abs(gradient[0]));
      CHECK(std::abs(gradient[0]) > 1e-3);
    }
  }
}

TEST_CASE("Model: forward_from refuses a layer that is not there") {
  const auto ops = single_precision();
  TinyModel model(*ops, tiny_gpt2(), inference(1, 8));
  const HostBatch host = random_batch(tiny_gpt2(), 1, 8);
  model.losses(host);
  const Batch batch = model.upload(host);
  const ConstTensor x = model.model.final_activation();
  CHECK_THROWS_AS(model.model.forward_from(-1, x, batch, Pass::evaluation), Error);
  CHECK_THROWS_AS(model.model.forward_from(4, x, batch, Pass::evaluation), Error);
  CHECK_THROWS_AS(model.model.forward_layers(2, 1, x, batch, Pass::evaluation), Error);
}

}  // namespace normlab
