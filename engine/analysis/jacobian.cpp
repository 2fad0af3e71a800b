#include "engine/analysis/jacobian.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "kernels/numbers.h"
#include "kernels/random.h"

namespace normlab {
namespace {

// Tells these random numbers from those of weights and of dropout.
constexpr uint64_t kDirections = 0x6a61636f62;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end(), smaller);
  return *middle;
}

// Lengths of the streams that are no filling.
std::vector<double> without_filling(const std::vector<double>& norms, const HostBatch& host) {
  std::vector<double> kept;
  for (int64_t sequence = 0; sequence < host.sequences; ++sequence) {
    const auto first = norms.begin() + sequence * host.tokens_per_sequence;
    kept.insert(kept.end(), first, first + host.lengths[static_cast<size_t>(sequence)]);
  }
  return kept;
}

}  // namespace

std::vector<double> random_direction(uint64_t seed, int64_t layer, int64_t projection,
                                     int64_t width) {
  const uint64_t key = mix(mix(mix(seed) ^ kDirections) ^ static_cast<uint64_t>(projection));
  std::vector<double> direction(static_cast<size_t>(width));
  double squares = 0;
  for (size_t i = 0; i < direction.size(); ++i) {
    // Standard normal numbers (Box & Muller 1958), scaled to length 1, are uniform on the sphere.
    const RandomBlock words = element_block(key, static_cast<uint32_t>(layer), i);
    const auto uniform = [](uint32_t word) { return (word + 0.5) / 4294967296.0; };
    direction[i] = std::sqrt(-2 * std::log(uniform(words[0]))) *
                   std::cos(2 * std::numbers::pi * uniform(words[1]));
    squares += direction[i] * direction[i];
  }
  for (double& element : direction) element /= std::sqrt(squares);
  return direction;
}

double random_sign(uint64_t seed, int64_t projection, int64_t sequence, int64_t token) {
  const uint64_t key = sequence_key(seed ^ kDirections, static_cast<uint64_t>(projection),
                                    static_cast<uint64_t>(sequence));
  return element_block(key, 0, static_cast<uint64_t>(token))[0] >> 31 != 0 ? 1 : -1;
}

double relative_step(DType working_type) {
  switch (working_type) {
    case DType::f64:
      return 0x1p-17;
    case DType::f32:
      return 0x1p-8;
    case DType::bf16:
    case DType::i32:
      break;
  }
  throw input_error(
      "the Jacobian in bf16 (its differences drown in rounding). Measure it in fp32, or leave it "
      "out with --projections 0");
}

JacobianMeasurement::JacobianMeasurement(Model& model, const JacobianOptions& options, int64_t rows)
    : model_(model), options_(options) {
  const ModelConfig& config = model.config();
  Ops& ops = model.ops();
  if (options.projections == 0) return;
  relative_step(ops.working_type());
  memory_ = ops.allocate(2 * rows * config.width * size_of(ops.working_type()));
  const Tensor both(memory_.data(), ops.working_type(), {2 * rows, config.width});
  step_ = both.row_slice(0, rows);
  moved_ = both.row_slice(rows, rows);
  const Projection nothing{0, std::vector<double>(static_cast<size_t>(config.width)), 0};
  sums_.assign(static_cast<size_t>(config.layers),
               std::vector<Projection>(static_cast<size_t>(options.projections), nothing));
}

std::vector<double> JacobianMeasurement::output(int64_t layer, ConstTensor x,
                                                const std::vector<double>& step,
                                                const Batch& batch) {
  Ops& ops = model_.ops();
  const Tensor moved = moved_.row_slice(0, x.rows());
  upload_numbers(ops, step_.row_slice(0, x.rows()), step);
  ops.add(moved, x, step_.row_slice(0, x.rows()));
  return download_numbers(ops,
                          model_.forward_layers(layer, layer + 1, moved, batch, Pass::evaluation));
}

void JacobianMeasurement::add(int64_t layer, ConstTensor x, const std::vector<double>& norms,
                              const Batch& batch, const HostBatch& host, int64_t first_sequence) {
  const int64_t width = model_.config().width, tokens = host.tokens_per_sequence;
  const double length = median(without_filling(norms, host));
  const double h = relative_step(x.dtype) * (length > 0 ? length : 1);
  std::vector<double> step(static_cast<size_t>(x.elements()));
  for (int64_t number = 0; number < options_.projections; ++number) {
    Projection& sums = sums_[static_cast<size_t>(layer)][static_cast<size_t>(number)];
    const std::vector<double> direction = random_direction(options_.seed, layer, number, width);
    std::vector<double> signs;
    for (int64_t row = 0; row < x.rows(); ++row) {
      signs.push_back(
          random_sign(options_.seed, number, first_sequence + row / tokens, row % tokens));
      for (int64_t i = 0; i < width; ++i) {
        step[static_cast<size_t>(row * width + i)] =
            h * signs.back() * direction[static_cast<size_t>(i)];
      }
    }
    const std::vector<double> plus = output(layer, x, step, batch);
    for (double& element : step) element = -element;
    const std::vector<double> minus = output(layer, x, step, batch);
    for (int64_t row = 0; row < x.rows(); ++row) {
      if (row % tokens >= host.lengths[static_cast<size_t>(row / tokens)]) continue;
      ++sums.tokens;
      for (size_t i = 0; i < direction.size(); ++i) {
        const size_t place = static_cast<size_t>(row * width) + i;
        const double sign = signs[static_cast<size_t>(row)];
        const double slope = (plus[place] - minus[place]) / (2 * h);
        sums.mean[i] += sign * slope;
        sums.squares += (slope - sign * direction[i]) * (slope - sign * direction[i]);
      }
    }
  }
}

std::vector<JacobianDistance> JacobianMeasurement::result() const {
  std::vector<JacobianDistance> distances;
  for (size_t layer = 0; layer < sums_.size(); ++layer) {
    JacobianDistance squares;
    for (size_t number = 0; number < sums_[layer].size(); ++number) {
      const Projection& sums = sums_[layer][number];
      const auto tokens = static_cast<double>(sums.tokens);
      const std::vector<double> direction =
          random_direction(options_.seed, static_cast<int64_t>(layer), static_cast<int64_t>(number),
                           model_.config().width);
      squares.whole += sums.squares / tokens;
      for (size_t i = 0; i < direction.size(); ++i) {
        const double difference = sums.mean[i] / tokens - direction[i];
        squares.token_mean += difference * difference;
      }
    }
    const auto count = static_cast<double>(sums_[layer].size());
    distances.push_back({std::sqrt(squares.token_mean / count), std::sqrt(squares.whole / count)});
  }
  return distances;
}

}  // namespace normlab
