// What programs share that read tokens with a model: their options, and how they open both.
#pragma once

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/config_names.h"
#include "engine/corpus.h"
#include "engine/device.h"
#include "engine/evaluation.h"
#include "engine/model_files.h"
#include "engine/weights.h"

namespace normlab {

struct ReadingOptions {
  std::string model;
  std::string tokenizer;
  int64_t sequence_length = 0;
  int64_t batch = 0;
  int64_t most_tokens = 0;
  int64_t reference_batch = 0;
  std::string packing;                   // "": as in the run
  std::optional<bool> mask_eot_targets;  // empty: as in the run
  RunConfig run;
  std::string device = "auto";
  std::string precision;  // "": as in the run
};

inline void add_reading_options(CLI::App& app, ReadingOptions& options) {
  app.add_option("model", options.model,
                 "a run directory, a checkpoint or a Hugging Face model directory")
      ->required();
  app.add_option("--tokenizer", options.tokenizer, "of texts; the model's own by default");
  app.add_option("--sequence-length", options.sequence_length,
                 "the run's by default, else the context")
      ->check(CLI::PositiveNumber);
  app.add_option("--batch", options.batch, "sequences of a pass; the run's micro-batch by default")
      ->check(CLI::PositiveNumber);
  app.add_option("--packing", options.packing,
                 "concatenated: documents joined; padded: one a row; the run's by default")
      ->check(CLI::IsMember({"concatenated", "padded"}));
  app.add_flag_function(
      "--mask-eot-targets,!--no-mask-eot-targets",
      [&options](int64_t count) { options.mask_eot_targets = count > 0; },
      "do not score end-of-text, or do; the run's by default");
  app.add_option("--device", options.device, "cpu, cuda, or auto: a GPU where there is one (auto)")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  app.add_option("--threads", options.run.threads, "of the CPU; all cores by default")
      ->check(CLI::Range(1, 4096));
}

inline constexpr const char* kTokensHelp =
    "token shards (*.bin), texts, or JSON lines (*.jsonl), also as .gz or .zst";

// Warnings go to stderr.
inline std::string open_model_directory(const std::string& path) {
  std::vector<std::string> warnings;
  const std::string directory = model_directory(path, warnings);
  for (const std::string& warning : warnings) std::cerr << "warning: " << warning << "\n";
  return directory;
}

// The device of the command line, in its precision or else the run's.
inline std::unique_ptr<Ops> open_device(const ReadingOptions& options,
                                        const ModelDescription& description) {
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

inline int64_t first_positive(int64_t a, int64_t b, int64_t otherwise) {
  return a > 0 ? a : b > 0 ? b : otherwise;
}

inline void require_within_context(int64_t length, const ModelDescription& model) {
  const int64_t context = model.config.context;
  if (length <= context) return;
  throw input_error("--sequence-length " + std::to_string(length) + " (the model's context is " +
                    std::to_string(context) + "). Make it shorter");
}

// Of the tokens of `place`.
inline void require_vocabulary(int64_t vocabulary, const ModelDescription& model,
                               const std::string& place) {
  if (vocabulary <= model.config.vocabulary) return;
  throw input_error(place + ": has a vocabulary of " + std::to_string(vocabulary) +
                    " (the model's is of " + std::to_string(model.config.vocabulary) +
                    "). Use the tokenizer of the model");
}

// What the command line does not say is as in the run's own evaluation, so that its bits are too.
inline EvaluationOptions evaluation_options(const ReadingOptions& options,
                                            const ModelDescription& run,
                                            const CorpusDescription& corpus) {
  EvaluationOptions evaluation;
  int64_t length = first_positive(options.sequence_length, run.sequence_length, run.config.context);
  if (options.sequence_length == 0 && corpus.rows) length = std::min(length, corpus.rows->length);
  require_within_context(length, run);
  evaluation.tokens_per_sequence = length;
  evaluation.batch = first_positive(options.batch, run.micro_batch, 8);
  evaluation.most_tokens = options.most_tokens;
  evaluation.reference_batch = options.reference_batch;
  const Packing packing = choice_of(options.packing, packing_names, run.packing);
  evaluation.packing = row_packing(packing);
  if (options.packing.empty()) evaluation.packing = packing_of(corpus, evaluation.packing);
  evaluation.mask_eot_targets = options.mask_eot_targets.value_or(run.mask_eot_targets);
  return evaluation;
}

// Before the model is loaded: what is wrong with a set is said at once.
inline void check_set(const TokenSet& set, const ModelDescription& description) {
  const CorpusDescription& data = set.corpus.description();
  require_vocabulary(data.vocabulary, description, set.place);
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

inline TokenSet open_set(const std::string& name, const std::vector<std::string>& patterns,
                         const ReadingOptions& options, const ModelDescription& description,
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

}  // namespace normlab
