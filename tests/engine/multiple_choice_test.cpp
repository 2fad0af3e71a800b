#include "engine/multiple_choice.h"

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "engine/hugging_face.h"
#include "engine/weights.h"
#include "small_model.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr const char* kGolden = SOURCE_DIRECTORY "/tests/golden/";

// Bytes, of which some pairs are one token, and a begin-of-text of its own choice.
class PairTokenizer final : public Tokenizer {
 public:
  PairTokenizer(std::string pair, int32_t begin) : pair_(std::move(pair)), begin_(begin) {}

  std::vector<uint16_t> encode(std::string_view text) const override {
    std::vector<uint16_t> tokens;
    while (!text.empty()) {
      const bool paired = text.starts_with(pair_);
      tokens.push_back(paired ? uint16_t{300} : static_cast<unsigned char>(text.front()));
      text.remove_prefix(paired ? pair_.size() : 1);
    }
    return tokens;
  }
  std::string decode(const std::vector<uint16_t>&) const override { return ""; }
  int64_t vocabulary() const override { return 301; }
  int32_t end_of_text() const override { return begin_; }
  std::string name() const override { return "pairs"; }
  uint64_t hash() const override { return 0; }

 private:
  std::string pair_;
  int32_t begin_;
};

std::vector<int32_t> ids(const std::string& text) { return {text.begin(), text.end()}; }

std::string message_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "no error";
}

Question question(const std::string& query, const std::vector<std::string>& choices,
                  int64_t gold = 0) {
  return {query, choices, gold, "q.jsonl:1"};
}

}  // namespace

TEST_CASE("multiple choice: a space stands before the choice, also before one that has its own") {
  const auto bytes = make_tokenizer("bytes");
  const ChoiceTokens plain = choice_tokens(*bytes, "ab", "c");
  CHECK(plain.context == ids("ab"));
  CHECK(plain.continuation == ids(" c"));
  CHECK(choice_tokens(*bytes, "ab", " c").continuation == ids("  c"));
}

TEST_CASE("multiple choice: white space that ends a query is scored with the choice") {
  const auto bytes = make_tokenizer("bytes");
  for (const std::string space : {" ", "\n", "\t \n", "\x1f", "\u0085", "\u00a0", "\u2003\u3000"}) {
    const ChoiceTokens tokens = choice_tokens(*bytes, "a b" + space, "c");
    CHECK(tokens.context == ids("a b"));
    std::vector<int32_t> expected;
    for (const char byte : space + " c") expected.push_back(static_cast<unsigned char>(byte));
    CHECK(tokens.continuation == expected);
  }
  // Python's isspace does not know them.
  for (const std::string other : {"\u200b", "\ufeff", "."}) {
    CHECK(choice_tokens(*bytes, "a" + other, "c").continuation == ids(" c"));
  }
}

TEST_CASE("multiple choice: the continuation begins where the context's own tokens end, by count") {
  // "b c": alone "b" is a token of the context, together with the choice its space is not.
  const ChoiceTokens tokens = choice_tokens(PairTokenizer("b ", 7), "ab", "c");
  CHECK(tokens.context == std::vector<int32_t>{'a', 300});
  CHECK(tokens.continuation == ids("c"));
}

TEST_CASE("multiple choice: begin-of-text stands in for an empty query, once") {
  const PairTokenizer tokenizer("xx", 7);
  CHECK(choice_tokens(tokenizer, "", "c").context == std::vector<int32_t>{7});
  CHECK(choice_tokens(tokenizer, "", "c").continuation == ids(" c"));
  const ChoiceTokens own = choice_tokens(PairTokenizer("xx", ' '), "", "c");
  CHECK(own.context == ids(" "));
  CHECK(own.continuation == ids("c"));
}

TEST_CASE("multiple choice: what cannot be scored is an error that names question and choice") {
  const auto bytes = make_tokenizer("bytes");
  const auto message = [&](const Question& asked, const Tokenizer& tokenizer) {
    return message_of([&] { choice_requests({asked}, tokenizer, 8); });
  };
  CHECK(message(question(" \n", {"c"}), *bytes).starts_with("q.jsonl:1, choice 0: \"query\" is "));
  CHECK(message(question("", {"c"}), PairTokenizer("xx", -1)).find("has no id") !=
        std::string::npos);
  CHECK(message(question("a", {"c", "12345678"}), *bytes)
            .starts_with("q.jsonl:1, choice 1: is of 9 tokens (the model reads 8). "));
  CHECK(message(question("a", {""}), PairTokenizer("a ", 7)).find("adds no token") !=
        std::string::npos);
  CHECK(choice_requests({question("a", {"1234567"})}, *bytes, 8).size() == 1);
}

TEST_CASE("multiple choice: a query that is too long loses its beginning") {
  const auto bytes = make_tokenizer("bytes");
  const auto requests = choice_requests({question("abcdefgh", {"x", "yz"})}, *bytes, 6);
  REQUIRE(requests.size() == 2);
  CHECK(requests[0] == ChoiceRequest{ids("defgh x"), 2});
  CHECK(requests[1] == ChoiceRequest{ids("efgh yz"), 3});
  CHECK(longest_input(requests) == 6);
  CHECK(choice_requests({question("abcdefgh", {"x"})}, *bytes, 9)[0].tokens == ids("abcdefgh x"));
}

TEST_CASE("multiple choice: log-likelihoods are the logits' own, however many pass at once") {
  for (const Family family : {Family::gpt2, Family::llama}) {
    SmallModel small(small_config(family), Purpose::inference, 3);
    const std::vector<ChoiceRequest> requests = {
        {{1, 2, 3, 4}, 1}, {{5, 6}, 1}, {{7, 8, 9, 10, 11, 12, 13, 14, 15}, 4},
        {{1, 2, 3, 4}, 2}, {{5, 6}, 1}, {{3, 1, 4, 1, 5, 9, 2, 6}, 7}};
    const std::vector<double> sums = log_likelihoods(small.model, requests, 3);
    const std::vector<double> alone = log_likelihoods(small.model, requests, 1);
    REQUIRE(sums.size() == requests.size());
    CHECK(sums[1] == sums[4]);
    for (size_t i = 0; i < requests.size(); ++i) {
      const ChoiceRequest& request = requests[i];
      double expected = 0;
      for (auto place = request.tokens.end() - request.scored; place != request.tokens.end();
           ++place) {
        const std::vector<float> logits = small.logits({request.tokens.begin(), place});
        double total = 0;
        for (const float logit : logits) total += std::exp(static_cast<double>(logit));
        expected += static_cast<double>(logits[static_cast<size_t>(*place)]) - std::log(total);
      }
      CHECK(sums[i] == Approx(expected).epsilon(1e-5));
      CHECK(alone[i] == Approx(expected).epsilon(1e-5));
    }
  }
}

TEST_CASE(
    "multiple choice: the likeliest, by itself and by characters and by bytes") {
  // Per character −2, −1.5, −3; per byte −2, −0.75, −3.
  const auto result = multiple_choice_result(
      {question("", {"ab", "\u00e9\u00e9", "c"}, 2), question("", {"ab", "\u00e9\u00e9", "c"}, 1),
       question("", {"same", "same"}, 0), question("", {"same", "same"}, 1)},
      {-4, -3.5, -3, -4, -3.5, -3, -1, -1, -1, -1});
  const std::vector<std::vector<bool>> right = {
      {true, false, false}, {false, true, true}, {true, true, true}, {false, false, false}};
  for (size_t i = 0; i < right.size(); ++i) {
    const QuestionResult& one = result.questions[i];
    CHECK(std::vector<bool>{one.acc, one.acc_norm, one.acc_bytes} == right[i]);
  }
  CHECK(result.acc.mean == 0.5);
  CHECK(result.acc.standard_error == Approx(std::sqrt(1.0 / 3) / 2));
  CHECK(result.questions[0].log_likelihoods == std::vector<double>{-4, -3.5, -3});
}

TEST_CASE("multiple choice: characters and bytes are not the same") {
  const auto result = multiple_choice_result({question("", {"\u65e5\u672c", "abcd"}, 0)}, {-4, -6});
  CHECK_FALSE(result.questions[0].acc_norm);  // −2 and −1.5
  CHECK(result.questions[0].acc_bytes);       // −0.67 and −1.5
}

TEST_CASE("multiple choice: no number is the largest, no character the least likely, as in numpy") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto result = multiple_choice_result(
      {question("", {"a", "b", "c"}, 1), question("", {"", "abc"}, 1)}, {-1, nan, nan, -1, -9});
  CHECK(result.questions[0].acc);
  CHECK_FALSE(result.questions[1].acc);
  CHECK(result.questions[1].acc_norm);
  CHECK(std::isnan(multiple_choice_result({question("", {"a"})}, {-1}).acc.standard_error));
}

TEST_CASE("multiple choice: everything is what lm-evaluation-harness says") {
  const std::string folder = std::string(kGolden) + "multiple_choice";
  std::ifstream file(folder + "/expected.json");
  const auto expected = nlohmann::json::parse(file);
  const auto questions = read_questions(folder + "/questions.jsonl");
  REQUIRE(questions.size() == 40);
  for (const auto& [name, model_directory, tokenizer_name] :
       std::vector<std::array<std::string, 3>>{
           {"gpt2", folder, "gpt2:" + folder},
           {"bytes", folder, "bytes"},
           {"sentencepiece", std::string(kGolden) + "llama",
            std::string("sentencepiece:") + kGolden + "tokenizer.model"}}) {
    INFO(name);
    std::unique_ptr<Tokenizer> tokenizer;
    try {
      tokenizer = make_tokenizer(tokenizer_name);
    } catch (const Error& error) {
      WARN(error.what());  // a build without SentencePiece
      continue;
    }
    const ModelConfig config = read_config_json(model_directory).config;
    const auto requests = choice_requests(questions, *tokenizer, config.context);
    const auto ops = make_ops(Device::cpu, Precision::fp32, 1);
    Model model(*ops, config, {8, longest_input(requests), Purpose::inference});
    load_weights(model, model_directory);
    const std::vector<double> sums = log_likelihoods(model, requests, 8);
    std::vector<double> wanted;
    for (const auto& list : expected.at(name).at("log_likelihoods")) {
      for (const auto& value : list) wanted.push_back(value.get<double>());
    }
    REQUIRE(sums.size() == wanted.size());
    double worst = 0;
    for (size_t i = 0; i < sums.size(); ++i) worst = std::max(worst, std::abs(sums[i] - wanted[i]));
    CHECK(worst < 1e-4);
    const MultipleChoiceResult result = multiple_choice_result(questions, sums);
    for (const auto& [key, share] : {std::pair{"acc", result.acc},
                                     {"acc_norm", result.acc_norm},
                                     {"acc_bytes", result.acc_bytes}}) {
      CHECK(share.mean == Approx(expected.at(name).at(key).get<double>()));
      CHECK(share.standard_error ==
            Approx(expected.at(name).at(std::string(key) + "_stderr").get<double>()));
    }
  }
}
