#include "engine/generation.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/weights.h"
#include "kernels/random.h"

namespace normlab {
namespace {

// Feeds tokens into the cache, as many at a time as the workload allows; logits of the last.
class Decoder {
 public:
  explicit Decoder(Model& model) : model_(model) {
    const int64_t tokens = model.workload().tokens;
    memory_ = model.ops().allocate(tokens * size_of(DType::i32));
    room_ = Tensor(memory_.data(), DType::i32, {1, tokens});
    model.start_decoding();
  }

  std::vector<float> read(const std::vector<int32_t>& tokens) {
    Tensor logits;
    const auto count = static_cast<int64_t>(tokens.size());
    for (int64_t first = 0; first < count; first += room_.columns()) {
      const Tensor part = room_.column_slice(0, std::min(room_.columns(), count - first));
      model_.ops().upload(part, tokens.data() + first);
      logits = model_.decode(part);
    }
    return download_floats(model_.ops(), logits);
  }

 private:
  Model& model_;
  Memory memory_;
  Tensor room_;
};

}  // namespace

int32_t sample(const std::vector<float>& logits, const SamplingOptions& options, double uniform) {
  const auto rows = static_cast<int64_t>(logits.size());
  std::vector<int32_t> order(
      static_cast<size_t>(options.vocabulary > 0 ? std::min(options.vocabulary, rows) : rows));
  std::iota(order.begin(), order.end(), 0);
  const auto likelier = [&](int32_t a, int32_t b) {
    const float left = logits[static_cast<size_t>(a)];
    const float right = logits[static_cast<size_t>(b)];
    return left != right ? left > right : a < b;
  };
  if (options.temperature == 0) return *std::min_element(order.begin(), order.end(), likelier);
  if (options.top_k > 0 && options.top_k < static_cast<int64_t>(order.size())) {
    std::nth_element(order.begin(), order.begin() + options.top_k, order.end(), likelier);
    order.resize(static_cast<size_t>(options.top_k));
    std::sort(order.begin(), order.end());
  }
  const double largest = static_cast<double>(
      logits[static_cast<size_t>(*std::min_element(order.begin(), order.end(), likelier))]);
  std::vector<double> weights;
  for (const int32_t token : order) {
    const double logit = static_cast<double>(logits[static_cast<size_t>(token)]);
    weights.push_back(std::exp((logit - largest) / options.temperature));
  }
  double left = uniform * std::accumulate(weights.begin(), weights.end(), 0.0);
  for (size_t i = 0; i < order.size(); ++i) {
    left -= weights[i];
    if (left < 0) return order[i];
  }
  return order.back();
}

void generate(Model& model, const std::vector<int32_t>& prompt, const SamplingOptions& options,
              const std::function<void(int32_t)>& emit, bool (*should_stop)()) {
  check(!prompt.empty(), "a prompt of at least one token");
  const auto context = static_cast<size_t>(model.config().context);
  std::vector<int32_t> text = prompt;
  const auto tail = [&](size_t count) {
    return std::vector<int32_t>(text.end() - static_cast<ptrdiff_t>(std::min(count, text.size())),
                                text.end());
  };
  Decoder decoder(model);
  std::vector<float> logits = decoder.read(tail(context));
  for (int64_t i = 0; i < options.tokens; ++i) {
    if (should_stop != nullptr && should_stop()) return;
    const RandomBlock words = element_block(mix(options.seed), 0, static_cast<uint64_t>(i));
    const int32_t token = sample(logits, options, words[0] / 4294967296.0);
    if (token == options.end_of_text) return;
    emit(token);
    text.push_back(token);
    if (i + 1 == options.tokens) return;
    if (model.decoded_tokens() < model.config().context) {
      logits = decoder.read({token});
    } else {
      model.start_decoding();
      logits = decoder.read(tail(std::max<size_t>(context / 2, 1)));
    }
  }
}

}  // namespace normlab
