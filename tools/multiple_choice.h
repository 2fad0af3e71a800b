// evaluate MODEL --multiple-choice FILE: how often a model holds the right choice for the
// likeliest.
#pragma once

#include <iomanip>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "engine/files.h"
#include "engine/multiple_choice.h"
#include "tools/reading_options.h"

namespace normlab {

struct MultipleChoiceOptions {
  std::string questions;  // a file; "": none
  std::string details;    // a file to write; "": none
};

inline void add_multiple_choice_options(CLI::App& app, MultipleChoiceOptions& options) {
  CLI::Option* const questions = app.add_option(
      "--multiple-choice", options.questions,
      R"(questions, lines of {"query": text, "choices": [texts], "gold": number}, scored as )"
      "lm-evaluation-harness does; in place of tokens");
  for (const char* other : {"--tokens", "--set", "--most-tokens", "--reference-batch", "--packing",
                            "--mask-eot-targets"}) {
    questions->excludes(app.get_option(other));
  }
  app.add_option("--details", options.details,
                 "write the log-likelihood of every choice there, a line of JSON a question")
      ->needs(questions);
}

inline MultipleChoiceResult answer(const std::vector<Question>& questions,
                                   const ReadingOptions& options, const std::string& directory) {
  const ModelDescription description = read_config_json(directory);
  const auto tokenizer = make_tokenizer(tokenizer_for(description, options.tokenizer, directory));
  require_vocabulary(tokenizer->vocabulary(), description, "tokenizer " + tokenizer->name());
  const int64_t length = first_positive(options.sequence_length, 0, description.config.context);
  require_within_context(length, description);
  const std::vector<ChoiceRequest> requests = choice_requests(questions, *tokenizer, length);
  const int64_t batch = first_positive(options.batch, description.micro_batch, 8);
  const auto ops = open_device(options, description);
  Model model(
      *ops, description.config,
      {batch, longest_input(requests), Purpose::inference, attention_norms(description.norms)});
  load_weights(model, directory);
  set_norm_states(model, description.norms);
  return multiple_choice_result(questions, log_likelihoods(model, requests, batch));
}

// Under the harness's names. The error of one question is null.
inline nlohmann::ordered_json to_json(const MultipleChoiceResult& result) {
  return {{"acc", result.acc.mean},
          {"acc_stderr", result.acc.standard_error},
          {"acc_norm", result.acc_norm.mean},
          {"acc_norm_stderr", result.acc_norm.standard_error},
          {"acc_bytes", result.acc_bytes.mean},
          {"acc_bytes_stderr", result.acc_bytes.standard_error},
          {"questions", result.questions.size()}};
}

inline std::string details_text(const std::vector<Question>& questions,
                                const MultipleChoiceResult& result) {
  std::string text;
  for (size_t i = 0; i < questions.size(); ++i) {
    const QuestionResult& question = result.questions[i];
    const nlohmann::ordered_json line = {{"log_likelihoods", question.log_likelihoods},
                                         {"gold", questions[i].gold},
                                         {"acc", question.acc},
                                         {"acc_norm", question.acc_norm},
                                         {"acc_bytes", question.acc_bytes}};
    text += line.dump() + "\n";
  }
  return text;
}

inline void print_text(std::ostream& out, const MultipleChoiceResult& result) {
  const auto line = [&](const char* name, const Share& share) {
    out << std::left << std::setw(11) << name << share.mean;
    if (result.questions.size() > 1) out << " ± " << share.standard_error;
    out << "\n";
  };
  line("acc", result.acc);
  line("acc_norm", result.acc_norm);
  line("acc_bytes", result.acc_bytes);
  out << std::setw(11) << "questions" << result.questions.size() << "\n";
}

inline MultipleChoiceResult answer_questions(const MultipleChoiceOptions& options,
                                             const ReadingOptions& reading) {
  const std::string directory = open_model_directory(reading.model);
  const std::vector<Question> questions = read_questions(options.questions);
  MultipleChoiceResult result = answer(questions, reading, directory);
  if (!options.details.empty()) {
    write_file_atomically(options.details, details_text(questions, result));
  }
  return result;
}

}  // namespace normlab
