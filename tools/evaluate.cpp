// evaluate MODEL --tokens FILE…: the loss of a model on one corpus, or on several.
#include <optional>

#include "engine/checkpoint.h"
#include "engine/config_names.h"
#include "engine/corpus.h"
#include "engine/device.h"
#include "engine/model_files.h"
#include "engine/weights.h"
#include "tools/evaluation_report.h"
#include "tools/main.h"

namespace normlab {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> tokens;
  std::vector<std::vector<std::string>> sets;  // each a name, then its files
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

// One corpus, and how the model is to read it.
struct TokenSet {
  std::string name;   // "": the only one
  std::string place;  // where it was named, for messages
  TokenCorpus corpus;
  EvaluationOptions evaluation;
};

// Before the model is loaded: what is wrong with a set is said at once.
void check_set(const TokenSet& set, const ModelDescription& description) {
  const CorpusDescription& data = set.corpus.description();
  if (data.vocabulary > description.config.vocabulary) {
    throw input_error(set.place + ": has a vocabulary of " + std::to_string(data.vocabulary) +
                      " (the model's is of " + std::to_string(description.config.vocabulary) +
                      "). Use the tokenizer of the model");
  }
  StreamOptions stream;
  stream.tokens_per_sequence = set.evaluation.tokens_per_sequence;
  stream.packing = set.evaluation.packing;
  stream.mask_eot_targets = set.evaluation.mask_eot_targets;
  try {
    require_streamable(data, stream);
  } catch (const Error& error) {
    throw error.at(set.place);
  }
}

TokenSet open_set(const std::string& name, const std::vector<std::string>& patterns,
                  const Options& options, const ModelDescription& description,
                  const std::string& directory) {
  const std::vector<std::string> files = expand_paths(patterns);
  CorpusDescription otherwise;
  otherwise.vocabulary = description.config.vocabulary;
  const std::string tokenizer =
      all_shards(files) ? "" : tokenizer_for(description, options.tokenizer, directory);
  TokenSet set{name, patterns.front(), open_tokens(files, tokenizer, otherwise), {}};
  set.evaluation = evaluation_options(options, description, set.corpus.description());
  check_set(set, description);
  return set;
}

std::vector<TokenSet> open_sets(const Options& options, const ModelDescription& description,
                                const std::string& directory) {
  std::vector<TokenSet> sets;
  if (options.tokens.empty() && options.sets.empty()) {
    throw input_error("no tokens to evaluate on. Name their files with --tokens FILE…");
  }
  if (options.sets.empty()) {
    sets.push_back(open_set("", options.tokens, options, description, directory));
  }
  for (const std::vector<std::string>& words : options.sets) {
    const std::string& name = words.front();
    if (words.size() == 1) {
      throw input_error("--set " + name + " (names no file). Write --set NAME FILE…");
    }
    const auto same_name = [&](const TokenSet& set) { return set.name == name; };
    if (std::any_of(sets.begin(), sets.end(), same_name)) {
      throw input_error("--set " + name + " (there are two of this name). Give each its own");
    }
    sets.push_back(
        open_set(name, {words.begin() + 1, words.end()}, options, description, directory));
  }
  return sets;
}

// To show how documents begin; none where it is not known or cannot be read.
std::unique_ptr<Tokenizer> tokenizer_of(const TokenSet& set, const Options& options,
                                        const ModelDescription& description,
                                        const std::string& directory) {
  const std::string& own = set.corpus.description().tokenizer;
  try {
    const bool stated = options.tokenizer.empty() && !own.empty();
    return make_tokenizer(stated ? own : tokenizer_for(description, options.tokenizer, directory));
  } catch (const Error&) {
    return nullptr;
  }
}

int evaluate_model(const Options& options) {
  std::vector<std::string> warnings;
  const std::string directory = model_directory(options.model, warnings);
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
  const ModelDescription description = read_config_json(directory);
  const std::vector<TokenSet> sets = open_sets(options, description, directory);
  Workload workload{1, 1, Purpose::inference, attention_norms(description.norms)};
  for (const TokenSet& set : sets) {
    workload.micro_batch = set.evaluation.batch;
    workload.tokens = std::max(workload.tokens, set.evaluation.tokens_per_sequence);
  }
  const auto ops = open_device(options, description);
  Model model(*ops, description.config, workload);
  load_weights(model, directory);
  set_norm_states(model, description.norms);
  std::vector<EvaluationReport> reports;
  for (const TokenSet& set : sets) {
    const auto tokenizer = tokenizer_of(set, options, description, directory);
    const EvaluationResult result = evaluate(model, set.corpus, set.evaluation);
    reports.push_back(make_report(set.name, result, set.corpus, tokenizer.get()));
  }
  if (options.json) {
    print_json(std::cout, reports);
  } else {
    print(std::cout, reports);
  }
  return kExitDone;
}

}  // namespace
}  // namespace normlab

int main(int argc, char* argv[]) {
  normlab::Options options;
  CLI::App app(
      "Mean cross-entropy of a model in nats per token, perplexity, and percentiles of the "
      "per-token losses.\nExample: evaluate runs/quickstart --tokens my.txt --json\n"
      "         evaluate runs/quickstart --set mine my.txt --set web web/val-*.bin",
      "evaluate");
  app.add_option("model", options.model,
                 "a run directory, a checkpoint or a Hugging Face model directory")
      ->required();
  CLI::Option* tokens =
      app.add_option("--tokens", options.tokens,
                     "token shards (*.bin), texts, or JSON lines (*.jsonl), also as .gz or .zst");
  app.add_option("--set", options.sets,
                 "NAME FILE…: the same under a name; several sets are reported one by one")
      ->excludes(tokens);
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
