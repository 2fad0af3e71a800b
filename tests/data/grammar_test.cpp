#include "data/grammar.h"

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "catch.h"
#include "kernels/error.h"
#include "tests/data/corpora.h"

namespace normlab {
namespace {

std::vector<std::string> documents(const TokenCorpus& corpus) {
  std::vector<std::string> texts(1);
  for (const uint16_t token : test::tokens_of(corpus)) {
    if (token == 256) {
      texts.emplace_back();
    } else {
      texts.back() += static_cast<char>(token);
    }
  }
  CHECK(texts.back().empty());  // the last one is ended too
  texts.pop_back();
  return texts;
}

std::string form_of(std::string_view alternative, size_t form) {
  std::string text(alternative);
  for (; form > 0; --form) text = text.substr(text.find('|') + 1);
  return text.substr(0, text.find('|'));
}

// Finds every derivation of a text by trying all alternatives, knowing nothing of prefixes.
class Parser {
 public:
  Parser() {
    for (const GrammarRule& rule : story_grammar()) rules_[std::string(rule.name)] = &rule;
  }

  void parse(const std::string& text) {
    text_ = text;
    derivations = 0;
    follow(std::string("<").append(story_grammar()[0].name).append(">"), 0, {}, 0);
  }

  int derivations = 0;
  double surprise = 0;  // of the last one found

 private:
  // pending: what is still to be written from place `at` on.
  void follow(const std::string& pending, size_t at,
              const std::map<std::string, std::string_view>& latest, double so_far) {
    if (pending.empty()) {
      if (at != text_.size()) return;
      ++derivations;
      surprise = so_far;
      return;
    }
    if (pending[0] != '<') {
      const std::string literal = pending.substr(0, pending.find('<'));
      if (text_.compare(at, literal.size(), literal) != 0) return;
      return follow(pending.substr(literal.size()), at + literal.size(), latest, so_far);
    }
    const std::string reference = pending.substr(1, pending.find('>') - 1);
    const std::string rest = pending.substr(pending.find('>') + 1);
    if (const size_t dot = reference.find('.'); dot != std::string::npos) {
      const std::string_view chosen = latest.at(reference.substr(0, dot));
      return follow(form_of(chosen, std::stoul(reference.substr(dot + 1))) + rest, at, latest,
                    so_far);
    }
    const std::vector<std::string_view>& alternatives = rules_.at(reference)->alternatives;
    double total = 0;
    for (size_t i = 0; i < alternatives.size(); ++i) total += std::floor(720720.0 / (i + 1));
    for (size_t i = 0; i < alternatives.size(); ++i) {
      auto now = latest;
      now[reference] = alternatives[i];
      follow(form_of(alternatives[i], 0) + rest, at, now,
             so_far - std::log(std::floor(720720.0 / (i + 1)) / total));
    }
  }

  std::map<std::string, const GrammarRule*> rules_;
  std::string text_;
};

TEST_CASE("grammar: alternatives begin with literals of which none is a prefix of another") {
  for (const GrammarRule& rule : story_grammar()) {
    if (rule.alternatives.size() == 1) continue;
    for (size_t i = 0; i < rule.alternatives.size(); ++i) {
      const std::string first = form_of(rule.alternatives[i], 0);
      const std::string beginning = first.substr(0, first.find('<'));
      INFO(rule.name << ": " << first);
      CHECK(!beginning.empty());
      for (size_t j = 0; j < rule.alternatives.size(); ++j) {
        const std::string other = form_of(rule.alternatives[j], 0);
        if (i != j) CHECK(other.substr(0, other.find('<')).rfind(beginning, 0) != 0);
      }
    }
  }
}

TEST_CASE("grammar: every text has exactly one derivation, and its probability is the product") {
  const GrammarCorpus made = make_grammar_corpus(300, 0.5, 7);
  Parser parser;
  double surprise = 0;
  for (const std::string& text : documents(made.corpus.validation)) {
    parser.parse(text);
    INFO(text);
    REQUIRE(parser.derivations == 1);
    surprise += parser.surprise;
  }
  const auto tokens = static_cast<double>(made.corpus.validation.size());
  CHECK(made.validation_cross_entropy == Approx(surprise / tokens).epsilon(1e-12));
}

// surprise − entropy · tokens has the expectation 0 exactly where the entropy is right. Its mean is
// that of the whole validation part, its spread that of the first documents (parsing is slow).
TEST_CASE("grammar: the entropy is the mean over many documents") {
  const GrammarCorpus made = make_grammar_corpus(100000, 0.99, 3);
  const std::vector<std::string> texts = documents(made.corpus.validation);
  const auto count = static_cast<double>(texts.size());
  const double tokens = static_cast<double>(made.corpus.validation.size()) / count;
  const double mean = (made.validation_cross_entropy - made.entropy_per_token) * tokens;
  const size_t parsed = 300;
  double squares = 0;
  Parser parser;
  for (size_t i = 0; i < parsed; ++i) {
    parser.parse(texts[i]);
    const auto length = static_cast<double>(texts[i].size()) + 1;
    const double off = parser.surprise - made.entropy_per_token * length;
    squares += off * off;
  }
  const double standard_error = std::sqrt(squares / parsed / count);
  CHECK(std::abs(mean) < 4 * standard_error);
  CHECK(4 * standard_error < 0.002 * made.entropy_per_token * tokens);  // sees one token too few
}

TEST_CASE("grammar: a corpus is a function of its arguments") {
  const GrammarCorpus a = make_grammar_corpus(50, 0.1, 1);
  const GrammarCorpus b = make_grammar_corpus(50, 0.1, 1);
  const GrammarCorpus other = make_grammar_corpus(50, 0.1, 2);
  CHECK(test::tokens_of(a.corpus.train) == test::tokens_of(b.corpus.train));
  CHECK(a.corpus.train.hash() == b.corpus.train.hash());
  CHECK(test::tokens_of(a.corpus.validation) == test::tokens_of(b.corpus.validation));
  CHECK(a.validation_cross_entropy == b.validation_cross_entropy);
  CHECK(test::tokens_of(a.corpus.train) != test::tokens_of(other.corpus.train));
  CHECK(a.entropy_per_token == other.entropy_per_token);
}

TEST_CASE("grammar: documents differ from each other") {
  const std::vector<std::string> texts = documents(make_grammar_corpus(1000, 0, 5).corpus.train);
  CHECK(std::set<std::string>(texts.begin(), texts.end()).size() == 1000);
}

TEST_CASE("grammar: the last documents are for validation") {
  const GrammarCorpus whole = make_grammar_corpus(40, 0, 9);
  const GrammarCorpus split = make_grammar_corpus(40, 0.25, 9);
  std::vector<std::string> parts = documents(split.corpus.train);
  CHECK(parts.size() == 30);
  for (const std::string& text : documents(split.corpus.validation)) parts.push_back(text);
  CHECK(parts == documents(whole.corpus.train));
  CHECK(whole.corpus.validation.size() == 0);
  CHECK(whole.validation_cross_entropy == 0);
  CHECK(split.corpus.train.starts().size() == 30);
  CHECK(split.corpus.train.description().end_of_text == 256);
  CHECK(split.corpus.train.description().tokenizer == "bytes");
  CHECK(documents(make_grammar_corpus(10, 0.001, 9).corpus.validation).size() == 1);
  CHECK(documents(make_grammar_corpus(10, 0.999, 9).corpus.train).size() == 1);
}

TEST_CASE("grammar: names and pronouns agree in every text") {
  const std::set<std::string> women = {"Anna", "Clara", "Emma", "Lily",
                                       "Olga", "Rosa",  "Tina", "Wanda"};
  for (const std::string& text : documents(make_grammar_corpus(1000, 0, 11).corpus.train)) {
    const size_t end = text.find(" went to the ");
    const size_t begin = text.rfind(' ', end - 1) + 1;
    const bool woman = women.contains(text.substr(begin, end - begin));
    const auto has = [&](const char* word) { return text.find(word) != std::string::npos; };
    INFO(text);
    CHECK(has(woman ? " She " : " He "));
    for (const char* word : {" He ", " he ", " him ", " his "}) CHECK((!woman || !has(word)));
    for (const char* word : {" She ", " she ", " her "}) CHECK((woman || !has(word)));
  }
}

TEST_CASE("grammar: arguments out of range are input errors") {
  const auto kind_of = [](int64_t count, double fraction) {
    try {
      make_grammar_corpus(count, fraction, 0);
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::failure;
  };
  CHECK(kind_of(9, 0.1) == ErrorKind::input);
  CHECK(kind_of(10, 1.0) == ErrorKind::input);
  CHECK(kind_of(10, -0.1) == ErrorKind::input);
  CHECK(kind_of(10, std::nan("")) == ErrorKind::input);
}

}  // namespace
}  // namespace normlab
