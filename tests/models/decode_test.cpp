// Generation, token by token or in chunks, against forward passes over whole sequences.
#include "catch.h"
#include "tests/models/tiny.h"

namespace normlab {
namespace {

// Feeds one sequence in chunks of the given sizes, in turn; compares the logits after each with
// those of forward at the same place.
void check_chunks(TinyModel& model, const HostBatch& host, const std::vector<double>& logits,
                  const std::vector<int64_t>& chunks) {
  const auto vocabulary = static_cast<size_t>(model.model.config().vocabulary);
  model.model.start_decoding();
  int64_t seen = 0;
  for (size_t i = 0; seen < host.tokens; ++i) {
    const int64_t count = std::min(chunks[i % chunks.size()], host.tokens - seen);
    const Batch batch = model.upload(host);
    const Tensor decoded = model.model.decode(batch.tokens.column_slice(seen, count));
    seen += count;
    CHECK(model.model.decoded_tokens() == seen);
    const auto last = logits.begin() + (seen - 1) * static_cast<int64_t>(vocabulary);
    const std::vector<double> expected(last, last + static_cast<int64_t>(vocabulary));
    INFO("after token " << seen - 1);
    // Measured: 2.3e-6 of the largest logit at most.
    CHECK(relative_error(model.read(decoded), expected) < 1e-5);
  }
}

}  // namespace

TEST_CASE("decode: token by token and in chunks gives the logits of forward") {
  const auto ops = single_precision();
  for (const TinyCase& tiny : tiny_cases()) {
    INFO(tiny.name);
    const HostBatch host = random_batch(tiny.config, 1, tiny.tokens);
    for (const Purpose purpose : {Purpose::inference, Purpose::training}) {
      TinyModel model(*ops, tiny.config, {1, tiny.tokens, purpose});
      const std::vector<double> logits = model.logits(host);
      for (const std::vector<int64_t>& chunks :
           {std::vector<int64_t>{1}, {5, 1, 7}, {tiny.tokens - 1}}) {
        check_chunks(model, host, logits, chunks);
      }
    }
  }
}

TEST_CASE("decode: frozen norms stay frozen") {
  const auto ops = single_precision();
  TinyModel model(*ops, tiny_gpt2(), inference(1, 21));
  model.set_gates({0, 0.3});
  const HostBatch host = random_batch(tiny_gpt2(), 1, 21);
  check_chunks(model, host, model.logits(host), {4});
}

TEST_CASE("decode: a token that is special to a norm is so wherever its chunk begins") {
  const auto ops = single_precision();
  TinyModel model(*ops, tiny_gpt2(), inference(1, 21));
  const HostBatch host = random_batch(tiny_gpt2(), 1, 21);
  for (size_t i = 0; i < model.model.norm_sites().size(); ++i) {
    model.model.set_norm_state(i, {.gate = 0,
                                   .sigma = 0.8,
                                   .special_sigma = 1.7,
                                   .special_first = true,
                                   .special_id = host.ids[6]});
  }
  const std::vector<double> logits = model.logits(host);
  check_chunks(model, host, logits, {1});
  check_chunks(model, host, logits, {4, 3});
}

TEST_CASE("decode: the context may be filled by calls no longer than the workload") {
  const auto ops = single_precision();
  for (const ModelConfig& config : {tiny_gpt2(), tiny_llama()}) {
    TinyModel whole(*ops, config, inference(1, 72));
    TinyModel narrow(*ops, config, inference(1, 9));
    const HostBatch host = random_batch(config, 1, 72);
    const std::vector<double> logits = whole.logits(host);
    narrow.model.start_decoding();
    std::vector<double> last;
    for (int64_t first = 0; first < 72; first += 9) {
      const Batch batch = whole.upload(host);
      last = narrow.read(narrow.model.decode(batch.tokens.column_slice(first, 9)));
    }
    CHECK(relative_error(last, {logits.end() - 37, logits.end()}) < 1e-5);
    const Batch batch = whole.upload(host);
    CHECK_THROWS_AS(narrow.model.decode(batch.tokens.column_slice(0, 1)), Error);
    narrow.model.start_decoding();
    CHECK_NOTHROW(narrow.model.decode(batch.tokens.column_slice(0, 1)));
    CHECK_THROWS_AS(narrow.model.decode(batch.tokens.column_slice(0, 10)), Error);
  }
}

TEST_CASE("decode: start_decoding forgets, and forward passes in between disturb nothing") {
  const auto ops = single_precision();
  for (const ModelConfig& config : {tiny_gpt2(), tiny_llama()}) {
    TinyModel model(*ops, config, inference(1, 21));
    const HostBatch host = random_batch(config, 1, 21);
    const HostBatch other = random_batch(config, 1, 21, 99);
    const auto decoded = [&](const HostBatch& source, bool disturbed) {
      std::vector<double> logits;
      model.model.start_decoding();
      for (int64_t token = 0; token < 8; ++token) {
        if (disturbed) model.losses(other);
        const Batch batch = model.upload(source);
        logits = model.read(model.model.decode(batch.tokens.column_slice(token, 1)));
      }
      return logits;
    };
    const std::vector<double> first = decoded(host, false);
    CHECK(relative_error(decoded(other, false), first) > 1e-2);
    CHECK(same_bits(decoded(host, false), first));
    CHECK(same_bits(decoded(host, true), first));
  }
}

TEST_CASE("decode: refuses to begin before start_decoding, and more than one sequence") {
  const auto ops = single_precision();
  TinyModel model(*ops, tiny_gpt2(), inference(2, 21));
  const HostBatch host = random_batch(tiny_gpt2(), 2, 21);
  CHECK_THROWS_AS(model.model.decode(model.upload(host).tokens.row_slice(0, 1)), Error);
  model.model.start_decoding();
  CHECK_THROWS_AS(model.model.decode(model.upload(host).tokens), Error);
  CHECK_NOTHROW(model.model.decode(model.upload(host).tokens.row_slice(0, 1)));
}

}  // namespace normlab
