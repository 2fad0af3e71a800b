#include "engine/multiple_choice.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <span>
#include <string>
#include <tuple>

#include "engine/evaluation.h"
#include "engine/weights.h"

namespace normlab {
namespace {

// What Python's str.rstrip takes away.
constexpr std::string_view kWhiteSpace[] = {
    " ",      "\t",     "\n",     "\v",     "\f",     "\r",     "\x1c",   "\x1d",
    "\x1e",   "\x1f",   "\u0085", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002",
    "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a",
    "\u2028", "\u2029", "\u202f", "\u205f", "\u3000"};

std::string_view without_trailing_space(std::string_view text) {
  const auto ends_text = [&](std::string_view space) { return text.ends_with(space); };
  while (true) {
    const auto* const space =
        std::find_if(std::begin(kWhiteSpace), std::end(kWhiteSpace), ends_text);
    if (space == std::end(kWhiteSpace)) return text;
    text.remove_suffix(space->size());
  }
}

std::vector<int32_t> encode(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<uint16_t> tokens = tokenizer.encode(text);
  return {tokens.begin(), tokens.end()};
}

ChoiceTokens split(std::vector<int32_t> tokens, size_t context) {
  const auto border = tokens.begin() + static_cast<ptrdiff_t>(std::min(context, tokens.size()));
  return {{tokens.begin(), border}, {border, tokens.end()}};
}

// With nothing before the choice; a begin-of-text that it has itself is not doubled.
ChoiceTokens tokens_alone(const Tokenizer& tokenizer, const std::string& continuation) {
  const int32_t begin = tokenizer.begin_of_text();
  if (begin < 0) {
    throw input_error("\"query\" is empty (" + tokenizer.name() +
                      " has no id for the beginning or end of a text to stand in its place). Give "
                      "the question a query");
  }
  std::vector<int32_t> tokens = encode(tokenizer, continuation);
  if (tokens.empty() || tokens.front() != begin) tokens.insert(tokens.begin(), begin);
  return split(std::move(tokens), 1);
}

ChoiceRequest request_of(ChoiceTokens choice, int64_t context) {
  const auto scored = static_cast<int64_t>(choice.continuation.size());
  if (scored > context) {
    throw input_error("is of " + std::to_string(scored) + " tokens (the model reads " +
                      std::to_string(context) + "). Shorten it");
  }
  ChoiceRequest request{std::move(choice.context), scored};
  std::vector<int32_t>& tokens = request.tokens;
  tokens.insert(tokens.end(), choice.continuation.begin(), choice.continuation.end());
  const auto longest = static_cast<size_t>(context + 1);
  if (tokens.size() > longest) {
    tokens.erase(tokens.begin(), tokens.end() - static_cast<ptrdiff_t>(longest));
  }
  return request;
}

int64_t input_tokens(const ChoiceRequest& request) {
  return static_cast<int64_t>(request.tokens.size()) - 1;
}

// The longest first, so that little of a batch is filled.
bool comes_first(const ChoiceRequest& one, const ChoiceRequest& other) {
  if (one.tokens.size() != other.tokens.size()) return one.tokens.size() > other.tokens.size();
  return std::tie(one.tokens, one.scored) < std::tie(other.tokens, other.scored);
}

// Filled at the end, where causal attention sees nothing of it from what is scored. The first
// request is the longest.
HostBatch batch_of(std::span<const ChoiceRequest> requests) {
  HostBatch batch;
  batch.sequences = static_cast<int64_t>(requests.size());
  batch.tokens_per_sequence = input_tokens(requests.front());
  for (const ChoiceRequest& request : requests) {
    const int64_t length = input_tokens(request);
    for (int64_t i = 0; i < batch.tokens_per_sequence; ++i) {
      const auto place = static_cast<size_t>(i);
      const bool scored = i < length && i >= length - request.scored;
      batch.tokens.push_back(i < length ? request.tokens[place] : 0);
      batch.targets.push_back(scored ? request.tokens[place + 1] : -1);
    }
    batch.lengths.push_back(static_cast<int32_t>(length));
  }
  return batch;
}

// Appends each sequence's Σ log p.
void append_sums(std::vector<double>& sums, Model& model, const HostBatch& host) {
  BatchUploader uploader(model.ops(), host.sequences, host.tokens_per_sequence);
  const Batch batch = uploader.upload(host, 0, host.sequences);
  model.forward(batch, Pass::evaluation);
  const std::vector<float> losses = download_floats(model.ops(), model.losses(batch));
  const auto length = static_cast<size_t>(host.tokens_per_sequence);
  for (size_t i = 0; i < losses.size(); ++i) {
    if (i % length == 0) sums.push_back(0);
    if (host.targets[i] >= 0) sums.back() -= static_cast<double>(losses[i]);
  }
}

double characters(const std::string& text) {
  const auto begins = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; };
  return static_cast<double>(std::count_if(text.begin(), text.end(), begins));
}

// As numpy.argmax chooses.
int64_t largest(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end(), smaller) - values.begin();
}

// A choice without a character is infinitely unlikely, as there.
template <typename Size>
bool is_right(const Question& question, const std::vector<double>& log_likelihoods,
              const Size& size) {
  std::vector<double> values;
  for (size_t i = 0; i < question.choices.size(); ++i) {
    values.push_back(log_likelihoods[i] / size(question.choices[i]));
  }
  return largest(values) == question.gold;
}

Share share_of(const std::vector<QuestionResult>& questions, bool QuestionResult::*right) {
  const auto count = static_cast<double>(questions.size());
  const auto is_right = [&](const QuestionResult& question) { return question.*right; };
  const auto hits =
      static_cast<double>(std::count_if(questions.begin(), questions.end(), is_right));
  Share share{hits / count, 0};
  // The squares of 0s and 1s around their mean.
  const double squares = hits * (1 - share.mean);
  share.standard_error = std::sqrt(squares / (count - 1)) / std::sqrt(count);
  return share;
}

}  // namespace

ChoiceTokens choice_tokens(const Tokenizer& tokenizer, std::string_view query,
                           std::string_view choice) {
  const std::string whole = std::string(query) + " " + std::string(choice);
  const std::string context(without_trailing_space(query));
  if (context.empty() && !query.empty()) {
    throw input_error(
        "\"query\" is nothing but white space (which belongs to the choice; nothing is left before "
        "it). Leave it empty, or write one");
  }
  ChoiceTokens tokens = context.empty()
                            ? tokens_alone(tokenizer, whole)
                            : split(encode(tokenizer, whole), encode(tokenizer, context).size());
  if (tokens.context.empty()) {
    throw input_error("\"query\" has no token (with " + tokenizer.name() + "). Write another");
  }
  if (tokens.continuation.empty()) {
    throw input_error("adds no token to its query (with " + tokenizer.name() + "). Write another");
  }
  return tokens;
}

std::vector<ChoiceRequest> choice_requests(const std::vector<Question>& questions,
                                           const Tokenizer& tokenizer, int64_t context) {
  std::vector<ChoiceRequest> requests;
  for (const Question& question : questions) {
    for (size_t i = 0; i < question.choices.size(); ++i) {
      try {
        requests.push_back(
            request_of(choice_tokens(tokenizer, question.query, question.choices[i]), context));
      } catch (const Error& error) {
        throw error.at(question.place + ", choice " + std::to_string(i));
      }
    }
  }
  return requests;
}

int64_t longest_input(const std::vector<ChoiceRequest>& requests) {
  int64_t longest = 0;
  for (const ChoiceRequest& request : requests) {
    longest = std::max(longest, input_tokens(request));
  }
  return longest;
}

std::vector<double> log_likelihoods(Model& model, const std::vector<ChoiceRequest>& requests,
                                    int64_t batch) {
  // Each once: a tie must not be broken by the rounding of two passes.
  std::vector<ChoiceRequest> distinct = requests;
  std::sort(distinct.begin(), distinct.end(), comes_first);
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  const std::span<const ChoiceRequest> all(distinct);
  std::vector<double> sums;
  for (size_t first = 0; first < all.size(); first += static_cast<size_t>(batch)) {
    const size_t count = std::min(static_cast<size_t>(batch), all.size() - first);
    append_sums(sums, model, batch_of(all.subspan(first, count)));
  }
  std::vector<double> in_order;
  for (const ChoiceRequest& request : requests) {
    const auto found = std::lower_bound(distinct.begin(), distinct.end(), request, comes_first);
    in_order.push_back(sums[static_cast<size_t>(found - distinct.begin())]);
  }
  return in_order;
}

MultipleChoiceResult multiple_choice_result(const std::vector<Question>& questions,
                                            const std::vector<double>& log_likelihoods) {
  MultipleChoiceResult result;
  auto next = log_likelihoods.begin();
  for (const Question& question : questions) {
    const auto last = next + static_cast<ptrdiff_t>(question.choices.size());
    QuestionResult one{{next, last}};
    const auto bytes = [](const std::string& choice) { return static_cast<double>(choice.size()); };
    one.acc = is_right(question, one.log_likelihoods, [](const std::string&) { return 1.0; });
    one.acc_norm = is_right(question, one.log_likelihoods, characters);
    one.acc_bytes = is_right(question, one.log_likelihoods, bytes);
    result.questions.push_back(std::move(one));
    next = last;
  }
  result.acc = share_of(result.questions, &QuestionResult::acc);
  result.acc_norm = share_of(result.questions, &QuestionResult::acc_norm);
  result.acc_bytes = share_of(result.questions, &QuestionResult::acc_bytes);
  return result;
}

}  // namespace normlab
