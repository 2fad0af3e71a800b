// evaluate MODEL --tokens FILE…: the loss of a model on a corpus.
#include <nlohmann/json.hpp>

#include "engine/checkpoint.h"
#include "engine/corpus.h"
#include "engine/device.h"
#include "engine/evaluation.h"
#include "engine/weights.h"
#include "tools/main.h"

namespace normlab {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> tokens;
  std::string tokenizer;
  int64_t sequence_length = 0;
  int64_t batch = 0;
  int64_t most_tokens = 0;
  RunConfig run;
  bool mask_eot_targets = false;
  bool json = false;
};

void print(const EvaluationResult& result, bool as_json) {
  if (!as_json) {
    std::cout << "loss        " << result.loss << " nats per token\nperplexity  "
              << result.perplexity << "\nmedian      " << result.median << "\n95%         ["
              << result.range_95[0] << ", " << result.range_95[1] << "]\n99.9%       ["
              << result.range_99_9[0] << ", " << result.range_99_9[1] << "]\ntokens      "
              << result.tokens << "\n";
    return;
  }
  nlohmann::ordered_json out = {{"loss", result.loss},
                                {"perplexity", result.perplexity},
                                {"median", result.median},
                                {"range_95", result.range_95},
                                {"range_99_9", result.range_99_9},
                                {"tokens", result.tokens}};
  out["worst_documents"] = nlohmann::ordered_json::array();
  for (const DocumentLoss& document : result.worst_documents) {
    out["worst_documents"].push_back({{"document", document.document},
                                      {"loss", document.loss},
                                      {"tokens", document.tokens}});
  }
  std::cout << out.dump(2) << "\n";
}

int evaluate_model(const Options& options) {
  std::vector<std::string> warnings;
  const std::string directory = model_directory(options.model, warnings);
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
  const ModelDescription description = read_config_json(directory);
  std::string tokenizer = options.tokenizer.empty() ? description.tokenizer : options.tokenizer;
  const TokenCorpus corpus =
      open_tokens(expand_paths(options.tokens), tokenizer.empty() ? "bytes" : tokenizer);
  if (corpus.vocabulary > description.config.vocabulary) {
    throw input_error(options.tokens.front() + ": holds token " +
                      std::to_string(corpus.vocabulary - 1) + " (the model's vocabulary is " +
                      std::to_string(description.config.vocabulary) +
                      "). Use the tokenizer of the model");
  }
  EvaluationOptions evaluation;
  const int64_t context = description.config.context;
  evaluation.tokens_per_sequence = options.sequence_length > 0 ? options.sequence_length : context;
  if (evaluation.tokens_per_sequence > context) {
    throw input_error("--sequence-length " + std::to_string(options.sequence_length) +
                      " (the model's context is " + std::to_string(context) + "). Make it shorter");
  }
  evaluation.batch = options.batch > 0           ? options.batch
                     : description.micro_batch > 0 ? description.micro_batch
                                                   : 8;
  evaluation.most_tokens = options.most_tokens;
  evaluation.mask_eot_targets = options.mask_eot_targets;
  const auto ops = make_device(options.run);
  Model model(*ops, description.config, {evaluation.batch, evaluation.tokens_per_sequence});
  load_weights(model, directory);
  print(evaluate(model, corpus, evaluation), options.json);
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  CLI::App app("Mean cross-entropy of a model in nats per token, perplexity, and percentiles of the "
               "per-token losses.\nExample: evaluate runs/quickstart --tokens my.txt --json",
               "evaluate");
  app.add_option("model", options.model,
                 "a run directory, a checkpoint or a Hugging Face model directory")
      ->required();
  app.add_option("--tokens", options.tokens, "token shards (*.bin) or texts")->required();
  app.add_option("--tokenizer", options.tokenizer, "of texts; the model's own by default");
  app.add_option("--sequence-length", options.sequence_length, "the model's context by default")
      ->check(CLI::PositiveNumber);
  app.add_option("--batch", options.batch, "sequences of a pass; the run's micro-batch by default")
      ->check(CLI::PositiveNumber);
  app.add_option("--most-tokens", options.most_tokens, "stop after so many; all by default")
      ->check(CLI::PositiveNumber);
  app.add_flag("--mask-eot-targets", options.mask_eot_targets, "do not score end-of-text");
  app.add_option("--threads", options.run.threads, "of the CPU; all cores by default")
      ->check(CLI::Range(1, 4096));
  app.add_flag("--json", options.json, "JSON on stdout");
  return normlab::run_main(app, argc, argv, [&] { return normlab::evaluate_model(options); });
}
