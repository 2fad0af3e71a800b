// evaluate MODEL --tokens FILE…: the loss of a model on a corpus.
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/checkpoint.h"
#include "engine/config_names.h"
#include "engine/corpus.h"
#include "engine/device.h"
#include "engine/evaluation.h"
#include "engine/model_files.h"
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
  std::string device = "auto";
  std::string precision;                 // "": as in the run
  std::string packing;                   // "": as in the run
  std::optional<bool> mask_eot_targets;  // empty: as in the run
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
  nlohmann::ordered_json out = {
      {"loss", result.loss},         {"perplexity", result.perplexity}, {"median", result.median},
      {"range_95", result.range_95}, {"range_99_9", result.range_99_9}, {"tokens", result.tokens}};
  out["worst_documents"] = nlohmann::ordered_json::array();
  for (const DocumentLoss& document : result.worst_documents) {
    out["worst_documents"].push_back(
        {{"document", document.document}, {"loss", document.loss}, {"tokens", document.tokens}});
  }
  std::cout << out.dump(2) << "\n";
}

int64_t first_positive(int64_t a, int64_t b, int64_t otherwise) {
  return a > 0 ? a : b > 0 ? b : otherwise;
}

// What the command line does not say is as in the run's own evaluation, so that its bits are too.
EvaluationOptions evaluation_options(const Options& options, const ModelDescription& run,
                                     const CorpusDescription& corpus) {
  EvaluationOptions evaluation;
  const int64_t context = run.config.context;
  int64_t length = first_positive(options.sequence_length, run.sequence_length, context);
  if (options.sequence_length == 0 && corpus.rows) length = std::min(length, corpus.rows->length);
  if (length > context) {
    throw input_error("--sequence-length " + std::to_string(length) + " (the model's context is " +
                      std::to_string(context) + "). Make it shorter");
  }
  evaluation.tokens_per_sequence = length;
  evaluation.batch = first_positive(options.batch, run.micro_batch, 8);
  evaluation.most_tokens = options.most_tokens;
  const Packing packing = choice_of(options.packing, packing_names, run.packing);
  evaluation.packing = row_packing(packing);
  if (options.packing.empty()) evaluation.packing = packing_of(corpus, evaluation.packing);
  evaluation.mask_eot_targets = options.mask_eot_targets.value_or(run.mask_eot_targets);
  return evaluation;
}

// The device of the command line, in its precision or else the run's.
std::unique_ptr<Ops> open_device(const Options& options, const ModelDescription& description) {
  RunConfig run = options.run;
  run.device = choice_of(options.device, device_names, run.device);
  run.precision = choice_of(options.precision, precision_names, description.precision);
  return make_device(run);
}

TokenCorpus open_files(const Options& options, const ModelDescription& description,
                       const std::string& directory) {
  const std::vector<std::string> files = expand_paths(options.tokens);
  CorpusDescription otherwise;
  otherwise.vocabulary = description.config.vocabulary;
  if (all_shards(files)) return open_tokens(files, "", otherwise);
  return open_tokens(files, tokenizer_for(description, options.tokenizer, directory), otherwise);
}

// Before the model is loaded.
void check_documents(const CorpusDescription& corpus, const EvaluationOptions& evaluation,
                     const std::string& place) {
  StreamOptions stream;
  stream.tokens_per_sequence = evaluation.tokens_per_sequence;
  stream.packing = evaluation.packing;
  stream.mask_eot_targets = evaluation.mask_eot_targets;
  try {
    require_streamable(corpus, stream);
  } catch (const Error& error) {
    throw error.at(place);
  }
}

int evaluate_model(const Options& options) {
  std::vector<std::string> warnings;
  const std::string directory = model_directory(options.model, warnings);
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
  const ModelDescription description = read_config_json(directory);
  const TokenCorpus corpus = open_files(options, description, directory);
  const CorpusDescription& data = corpus.description();
  if (data.vocabulary > description.config.vocabulary) {
    throw input_error(options.tokens.front() + ": has a vocabulary of " +
                      std::to_string(data.vocabulary) + " (the model's is of " +
                      std::to_string(description.config.vocabulary) +
                      "). Use the tokenizer of the model");
  }
  const EvaluationOptions evaluation = evaluation_options(options, description, data);
  check_documents(data, evaluation, options.tokens.front());
  const auto ops = open_device(options, description);
  Model model(*ops, description.config,
              {evaluation.batch, evaluation.tokens_per_sequence, Purpose::inference,
               attention_norms(description.norms)});
  load_weights(model, directory);
  set_norm_states(model, description.norms);
  print(evaluate(model, corpus, evaluation), options.json);
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  CLI::App app(
      "Mean cross-entropy of a model in nats per token, perplexity, and percentiles of the "
      "per-token losses.\nExample: evaluate runs/quickstart --tokens my.txt --json",
      "evaluate");
  app.add_option("model", options.model,
                 "a run directory, a checkpoint or a Hugging Face model directory")
      ->required();
  app.add_option("--tokens", options.tokens,
                 "token shards (*.bin), texts, or JSON lines (*.jsonl), also as .gz or .zst")
      ->required();
  app.add_option("--tokenizer", options.tokenizer, "of texts; the model's own by default");
  app.add_option("--sequence-length", options.sequence_length,
                 "the run's by default, else the context")
      ->check(CLI::PositiveNumber);
  app.add_option("--batch", options.batch, "sequences of a pass; the run's micro-batch by default")
      ->check(CLI::PositiveNumber);
  app.add_option("--most-tokens", options.most_tokens, "stop after so many; all by default")
      ->check(CLI::PositiveNumber);
  app.add_option("--packing", options.packing,
                 "concatenated: documents joined; padded: one a row; the run's by default")
      ->check(CLI::IsMember({"concatenated", "padded"}));
  bool mask = false;
  const CLI::Option* mask_flag =
      app.add_flag("--mask-eot-targets,!--no-mask-eot-targets", mask,
                   "do not score end-of-text, or do; the run's by default");
  app.add_option("--device", options.device, "cpu, cuda, or auto: a GPU where there is one (auto)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--precision", options.precision,
                 "fp32, bf16, or auto: bf16 on a GPU, fp32 on a CPU; the run's by default")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}));
  app.add_option("--threads", options.run.threads, "of the CPU; all cores by default")
      ->check(CLI::Range(1, 4096));
  app.add_flag("--json", options.json, "JSON on stdout");
  return normlab::run_main(app, argc, argv, [&] {
    if (mask_flag->count() > 0) options.mask_eot_targets = mask;
    return normlab::evaluate_model(options);
  });
}
