// evaluate MODEL --tokens FILE…: the loss of a model on one corpus, or on several; and with
// --multiple-choice FILE its answers to questions.
#include "tools/evaluation_report.h"
#include "tools/main.h"
#include "tools/multiple_choice.h"
#include "tools/reading_options.h"

namespace normlab {
namespace {

struct Options {
  ReadingOptions reading;
  std::vector<std::string> tokens;
  std::vector<std::vector<std::string>> sets;  // each a name, then its files
  MultipleChoiceOptions multiple_choice;
  bool json = false;
};

std::vector<TokenSet> open_sets(const Options& options, const ModelDescription& description,
                                const std::string& directory) {
  std::vector<TokenSet> sets;
  if (options.tokens.empty() && options.sets.empty()) {
    throw input_error("no tokens to evaluate on. Name their files with --tokens FILE…");
  }
  if (options.sets.empty()) {
    sets.push_back(open_set("", options.tokens, options.reading, description, directory));
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
        open_set(name, {words.begin() + 1, words.end()}, options.reading, description, directory));
  }
  return sets;
}

// To show how documents begin; none where it is not known or cannot be read.
std::unique_ptr<Tokenizer> tokenizer_of(const TokenSet& set, const Options& options,
                                        const ModelDescription& description,
                                        const std::string& directory) {
  const std::string& own = set.corpus.description().tokenizer;
  try {
    const std::string& given = options.reading.tokenizer;
    return make_tokenizer(
        given.empty() && !own.empty() ? own : tokenizer_for(description, given, directory));
  } catch (const Error&) {
    return nullptr;
  }
}

int evaluate_choices(const Options& options) {
  const MultipleChoiceResult result = answer_questions(options.multiple_choice, options.reading);
  if (options.json) {
    std::cout << to_json(result).dump(2) << "\n";
  } else {
    print_text(std::cout, result);
  }
  return kExitDone;
}

int evaluate_tokens(const Options& options) {
  const std::string directory = open_model_directory(options.reading.model);
  const ModelDescription description = read_config_json(directory);
  const std::vector<TokenSet> sets = open_sets(options, description, directory);
  Workload workload{1, 1, Purpose::inference, attention_norms(description.norms)};
  for (const TokenSet& set : sets) {
    workload.micro_batch = set.evaluation.batch;
    workload.tokens = std::max(workload.tokens, set.evaluation.tokens_per_sequence);
  }
  const auto ops = open_device(options.reading, description);
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
      "per-token losses; or its accuracy in multiple choice.\nExample: evaluate runs/quickstart "
      "--tokens my.txt --json\n"
      "         evaluate runs/quickstart --set mine my.txt --set web web/val-*.bin\n"
      "         evaluate runs/quickstart --multiple-choice questions.jsonl",
      "evaluate");
  normlab::ReadingOptions& reading = options.reading;
  normlab::add_reading_options(app, reading);
  CLI::Option* tokens = app.add_option("--tokens", options.tokens, normlab::kTokensHelp);
  app.add_option("--set", options.sets,
                 "NAME FILE…: the same under a name; several sets are reported one by one")
      ->excludes(tokens);
  app.add_option("--most-tokens", reading.most_tokens, "stop after so many; all by default")
      ->check(CLI::PositiveNumber);
  app.add_option("--reference-batch", reading.reference_batch,
                 "sequences of a batch of the Curse of Depth's own evaluation: its perplexity, "
                 "ppl_cod, beside the correct one")
      ->check(CLI::PositiveNumber);
  app.add_option("--precision", reading.precision,
                 "fp32, bf16, or auto: bf16 on a GPU, fp32 on a CPU; the run's by default")
      ->check(CLI::IsMember({"auto", "fp32", "bf16"}));
  normlab::add_multiple_choice_options(app, options.multiple_choice);
  app.add_flag("--json", options.json, "JSON on stdout");
  return normlab::run_main(app, argc, argv, [&] {
    const bool choices = !options.multiple_choice.questions.empty();
    return choices ? normlab::evaluate_choices(options) : normlab::evaluate_tokens(options);
  });
}
