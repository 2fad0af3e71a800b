// train on prompts with completions, as its users run it.
#include "catch.h"
#include "tests/tools/tiny_run.h"

using namespace normlab;
using namespace normlab::test;

namespace {

// Prompts of random letters; the completion is the first of them, again and again.
std::string examples(int count) {
  std::string lines;
  uint32_t state = 1;
  for (int i = 0; i < count; ++i) {
    std::string prompt;
    for (int letter = 0; letter < 12; ++letter) {
      state = state * 1664525 + 1013904223;
      prompt += static_cast<char>('a' + (state >> 24) % 4);
    }
    lines +=
        R"({"prompt": ")" + prompt + R"(=", "completion": ")" + std::string(6, prompt[0]) + "\"}\n";
  }
  return lines;
}

Overrides on_prompts(const std::string& file) {
  return {"data.grammar=null", "data.prompts=[" + file + "]", "data.tokenizer=bytes"};
}

Overrides operator+(Overrides list, const Overrides& more) {
  list.insert(list.end(), more.begin(), more.end());
  return list;
}

}  // namespace

TEST_CASE("train on prompts: completions are learnt, and nothing of random prompts is") {
  const TinyRun run({"optimizer.learning_rate=1e-2", "model.dropout=0"});
  const std::string file = run.folder().write("a.jsonl", examples(400));
  const Finished finished = run.train(on_prompts(file));
  INFO(finished.err);
  REQUIRE(finished.exit_code == 0);
  // Six letters that are one, and the end: next to nothing is left but the first one. To learn the
  // prompts too would leave ln 4 on each of their letters.
  CHECK(run.metrics().back().at("validation_loss") < 0.35);
}

TEST_CASE("train on prompts: a run that is stopped goes on bit for bit, in both packings") {
  for (const std::string packing : {"padded", "concatenated"}) {
    INFO(packing);
    const TinyRun whole, parts;
    const std::string file = whole.folder().write("a.jsonl", examples(60));
    const Overrides data = on_prompts(file) + Overrides{"data.packing=" + packing};
    whole.trained(data + Overrides{"schedule.stop_step=20"});
    parts.trained(data + Overrides{"schedule.stop_step=11"});
    parts.trained(data + Overrides{"schedule.stop_step=20"});
    CHECK(different_files(whole.checkpoint(20), parts.checkpoint(20)).empty());
  }
}

TEST_CASE("train on prompts: a pass without a target changes nothing and harms nothing") {
  // Every example but one in four is a prompt that fills its row.
  std::string lines;
  for (int i = 0; i < 80; ++i) {
    const size_t length = i % 4 == 0 ? 4 : 60;
    lines += R"({"prompt": ")" + std::string(length, 'p') + R"(", "completion": "done"})" + "\n";
  }
  for (const std::string average : {"token", "micro_batch"}) {
    const TinyRun run({"schedule.stop_step=10", "batch.tokens_per_step=64", "batch.micro_batch=1",
                       "optimizer.loss_average=" + average});
    const Finished finished = run.train(on_prompts(run.folder().write("a.jsonl", lines)));
    INFO(finished.err);
    REQUIRE(finished.exit_code == 0);
    CHECK(finished.err.find("have no completion left") != std::string::npos);
    for (const auto& row : run.metrics()) {
      CHECK(row.at("loss").is_number());
      CHECK(row.at("grad_norm").is_number());
    }
  }
}

TEST_CASE("train on prompts: a resume on other completions says that the data differ") {
  const TinyRun run({"schedule.stop_step=10"});
  const std::string file = run.folder().write("a.jsonl", examples(60));
  run.trained(on_prompts(file));
  std::string other = examples(60);
  // The same text, cut elsewhere into prompt and completion.
  const std::string border = R"(=", "completion": ")";
  other.replace(other.find(border), border.size(), R"(", "completion": "=)");
  run.folder().write("a.jsonl", other);
  const Finished finished = run.train(on_prompts(file) + Overrides{"schedule.stop_step=12"});
  CHECK(finished.exit_code == 2);
  CHECK(count_lines(finished.err) == 1);
}
