// Multiple choice: how likely a model holds each choice of a question, and how often the likeliest
// is right, as lm-evaluation-harness 0.4.13 computes it (its models/huggingface.py, api/model.py
// and api/task.py, output_type multiple_choice, no examples before the query).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"
#include "engine/questions.h"
#include "models/model.h"

namespace normlab {

// A choice behind its query.
struct ChoiceTokens {
  std::vector<int32_t> context;       // at least one
  std::vector<int32_t> continuation;  // those that are scored
};

// The continuation is a space and the choice; white space that ends the query moves to its front.
// The two texts are encoded together, and the continuation is what lies beyond as many tokens as
// the context has alone. Behind an empty query stands begin-of-text. Throws an input Error, without
// a place, for a query of nothing but white space, for a choice that adds no token, and where
// something must stand before the choice and the tokenizer has no id for it.
ChoiceTokens choice_tokens(const Tokenizer& tokenizer, std::string_view query,
                           std::string_view choice);

// What a model reads: tokens but the last are its input, the last `scored` its targets.
struct ChoiceRequest {
  std::vector<int32_t> tokens;
  int64_t scored = 0;

  bool operator==(const ChoiceRequest&) const = default;
};

// Question by question, choice by choice. What is longer than `context` tokens of input is cut at
// its beginning. Throws an input Error that names the question, also for a choice that is longer
// than that by itself.
std::vector<ChoiceRequest> choice_requests(const std::vector<Question>& questions,
                                           const Tokenizer& tokenizer, int64_t context);
// Tokens of the longest input.
int64_t longest_input(const std::vector<ChoiceRequest>& requests);

// Σ log p of each request's targets, nats, in the requests' order; `batch` of them a pass, filled
// at their ends. At most the model's micro-batch and tokens. Equal requests have equal bits.
std::vector<double> log_likelihoods(Model& model, const std::vector<ChoiceRequest>& requests,
                                    int64_t batch);

// A share of questions; the error is std/√n with n − 1 in the variance, NaN for one question.
struct Share {
  double mean = 0;
  double standard_error = 0;
};

struct QuestionResult {
  std::vector<double> log_likelihoods;  // of its choices
  // Whether the choice with the largest log-likelihood is right; with the largest log-likelihood by
  // characters of the choice; by its bytes in UTF-8. Of equal ones the first counts, of numbers
  // that are none the first of these.
  bool acc = false;
  bool acc_norm = false;
  bool acc_bytes = false;
};

struct MultipleChoiceResult {
  std::vector<QuestionResult> questions;
  Share acc, acc_norm, acc_bytes;
};

// From the log-likelihoods of all choices, question by question.
MultipleChoiceResult multiple_choice_result(const std::vector<Question>& questions,
                                            const std::vector<double>& log_likelihoods);

}  // namespace normlab
