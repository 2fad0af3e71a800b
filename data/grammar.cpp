#include "data/grammar.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/error.h"
#include "kernels/random.h"

// Why a text has one derivation: the alternatives of a rule begin with literal text, and none of
// these beginnings is a prefix of another of the same rule (a rule with one alternative chooses
// nothing). So whoever reads a text from the left knows, wherever a choice was made, which one it
// was from the characters that follow, and with it all that <rule.k> stands for later; nowhere are
// two continuations possible. Keep this when adding an alternative; a test checks it.
//
// Why its entropy is exact: choices are independent, so −log p(text) is the sum over choices, and
// its expectation follows rule by rule; so does that of the length, since a repeated rule is a word
// of its own that decides nothing about what follows it.

namespace normlab {
namespace {

// What is said, and in which order.
std::vector<GrammarRule> sentences() {
  return {
      {"story",
       {"<opening> <hero> went to the <place> with <companion>. <hero.1> had a <colour> <object>. "
        "<hero.1> <act> <next>"}},
      {"next",
       {"Then <hero.2> <act> <next>", "In the end <hero.2> <ending>",
        "The <object.0> <state>. <next>", "Suddenly the <companion.1> <sound>. <next>",
        "\"<speech>\" said <hero.0>. <next>", "It made <hero.3> <feeling>. <next>",
        "After <time> it began to <weather>. <next>"}},
      {"act",
       {"played with the <companion.1>.", "dropped the <object.0> <where>.",
        "walked to the <place>.", "found a <colour> <object>.",
        "showed the <companion.1> <hero.4> <object.0>.", "met <person>.",
        "counted the <things>: one<count_two>", "sang a song (<manner>).",
        "asked the <companion.1> to wait <where>.",
        "lost the <colour.0> <object.0> and looked <where>.", "rested for <time>.",
        "bought a <colour> <object> from <person>."}},
      {"ending",
       {"went home with the <colour.0> <object.0>.", "fell asleep <where>.",
        "gave the <object.0> to the <companion.1>.", "left the <place.0>.",
        "told <hero.4> <family> about the <companion.1>.", "put the <object.0> <where>."}},
      {"state",
       {"was still <colour.0>", "shone in the sun", "fell down", "seemed heavy", "broke in two",
        "got wet"}},
      {"sound",
       {"ran away", "slept", "looked at <hero.3>", "was hungry",
        "followed <hero.0> to the <place.0>", "made a noise", "hid <where>"}},
      {"speech",
       {"Where is my <colour.0> <object.0>?", "I like this <place.0>.", "Come here, <companion.1>!",
        "What a day!", "Let us go home.", "Do you see the <things>?"}},
      {"person",
       {"a farmer who gave <hero.3> <food>", "a queen who told <hero.3> <news>",
        "the baker and ate <food>", "two sailors and heard <news>", "an old king", "a singer"}},
      {"news",
       {"about the <place.0>", "that it would rain", "a secret", "of a lost <object.0>",
        "where the <companion.1> was born"}},
      {"count_two", {", two<count_three>", "."}},
      {"count_three", {", three<count_four>", "."}},
      {"count_four", {", four<count_five>", "."}},
      {"count_five", {", five.", "."}},
      {"manner",
       {"very loudly", "the one about the <place.0>", "quietly", "for the <companion.1>",
        "as <hero.4> mother did"}},
  };
}

// What it is said with.
std::vector<GrammarRule> words() {
  return {
      {"opening",
       {"One day", "In the morning", "Yesterday", "On a cold night", "After school", "Last summer",
        "Before breakfast", "Long ago"}},
      // The name, then "She", "she", "her" (whom), "her" (whose).
      {"hero",
       {"Anna|She|she|her|her", "Ben|He|he|him|his", "Clara|She|she|her|her", "Tom|He|he|him|his",
        "Emma|She|she|her|her", "Jack|He|he|him|his", "Lily|She|she|her|her", "Max|He|he|him|his",
        "Olga|She|she|her|her", "Peter|He|he|him|his", "Rosa|She|she|her|her", "Sam|He|he|him|his",
        "Tina|She|she|her|her", "Victor|He|he|him|his", "Wanda|She|she|her|her",
        "Yusuf|He|he|him|his"}},
      {"companion",
       {"a dog|dog", "a cat|cat", "an old horse|horse", "a duck|duck", "a little goat|goat",
        "a mouse|mouse", "a fox|fox", "an owl|owl", "a donkey|donkey", "a frog|frog"}},
      {"place",
       {"park", "garden", "river", "forest", "market", "beach", "hill", "farm", "castle", "lake",
        "mill", "harbour", "bridge", "village", "island", "tower"}},
      {"colour",
       {"red", "blue", "green", "yellow", "white", "black", "brown", "golden", "silver", "purple"}},
      {"object",
       {"ball", "kite", "book", "hat", "drum", "boat", "key", "lamp", "coin", "cup", "flute",
        "basket", "mirror", "shell", "whistle", "puppet"}},
      {"where",
       {"under a tree", "behind the house", "near the water", "in the grass", "on a stone",
        "by the road", "at the gate"}},
      {"food", {"bread", "an apple", "some soup", "a cake", "cheese", "honey", "three plums"}},
      {"things", {"birds", "clouds", "trees", "stars", "houses", "fish", "windows", "apples"}},
      {"time", {"an hour", "a while", "ten minutes", "a moment", "half a day"}},
      {"feeling", {"happy", "tired", "sad", "brave", "a little cold", "proud", "lonely"}},
      {"weather", {"rain", "snow", "get dark", "be windy"}},
      {"family", {"mother", "father", "sister", "brother", "friends", "uncle"}},
  };
}

constexpr uint64_t kWeightOfFirst = 720720;  // divisible by 1 … 16: the weights are exact

enum class PieceKind { literal, choice, repeat };

struct Piece {
  PieceKind kind = PieceKind::literal;
  std::string_view text;  // of a literal
  size_t rule = 0;        // of a choice or a repeat
  size_t form = 0;        // of a repeat
};

struct Alternative {
  uint64_t weight = 0;
  double probability = 0;
  std::vector<Piece> pieces;
  std::vector<std::string_view> forms;
};

using Rule = std::vector<Alternative>;

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t at = text.find(separator); at != text.npos; at = text.find(separator)) {
    parts.push_back(text.substr(0, at));
    text.remove_prefix(at + 1);
  }
  parts.push_back(text);
  return parts;
}

Piece read_reference(std::string_view reference, const std::vector<GrammarRule>& grammar) {
  const std::vector<std::string_view> parts = split(reference, '.');
  const auto found = std::find_if(grammar.begin(), grammar.end(),
                                  [&](const GrammarRule& rule) { return rule.name == parts[0]; });
  check(found != grammar.end(), "a grammar refers to its own rules");
  Piece piece{PieceKind::choice, {}, static_cast<size_t>(found - grammar.begin()), 0};
  if (parts.size() == 2) {
    piece.kind = PieceKind::repeat;
    piece.form = std::stoul(std::string(parts[1]));
  }
  return piece;
}

std::vector<Piece> read_pieces(std::string_view text, const std::vector<GrammarRule>& grammar) {
  std::vector<Piece> pieces;
  while (!text.empty()) {
    const size_t end = text[0] == '<' ? text.find('>') : std::min(text.find('<'), text.size());
    check(end != text.npos, "a reference of a grammar ends with >");
    if (text[0] == '<') {
      pieces.push_back(read_reference(text.substr(1, end - 1), grammar));
      text.remove_prefix(end + 1);
    } else {
      pieces.push_back({PieceKind::literal, text.substr(0, end), 0, 0});
      text.remove_prefix(end);
    }
  }
  return pieces;
}

std::vector<Rule> read_rules(const std::vector<GrammarRule>& grammar) {
  std::vector<Rule> rules;
  for (const GrammarRule& source : grammar) {
    Rule rule;
    uint64_t total = 0;
    for (const std::string_view text : source.alternatives) {
      Alternative alternative;
      alternative.forms = split(text, '|');
      alternative.pieces = read_pieces(alternative.forms[0], grammar);
      alternative.weight = kWeightOfFirst / (rule.size() + 1);
      total += alternative.weight;
      rule.push_back(std::move(alternative));
    }
    for (Alternative& alternative : rule) {
      alternative.probability =
          static_cast<double>(alternative.weight) / static_cast<double>(total);
    }
    rules.push_back(std::move(rule));
  }
  return rules;
}

// One document: its text and the surprise, −log p, of its choices.
class Writer {
 public:
  Writer(const std::vector<Rule>& rules, uint64_t key)
      : rules_(rules), latest_(rules.size(), nullptr), key_(key) {}

  void write(size_t rule) {
    const Alternative& chosen = choose(rules_[rule]);
    latest_[rule] = &chosen;
    for (const Piece& piece : chosen.pieces) {
      switch (piece.kind) {
        case PieceKind::literal:
          text_ += piece.text;
          break;
        case PieceKind::choice:
          write(piece.rule);
          break;
        case PieceKind::repeat:
          check(latest_[piece.rule] != nullptr, "a grammar repeats what was chosen before");
          text_ += latest_[piece.rule]->forms.at(piece.form);
          break;
      }
    }
  }

  const std::string& text() const { return text_; }
  double surprise() const { return surprise_; }

 private:
  const Alternative& choose(const Rule& rule) {
    if (rule.size() == 1) return rule[0];
    uint64_t total = 0;
    for (const Alternative& alternative : rule) total += alternative.weight;
    const RandomBlock random = element_block(key_, 0, choices_++);
    // 64 random bits against a total below 2^32: off from uniform by less than 2^-32.
    uint64_t rest = (uint64_t{random[1]} << 32 | random[0]) % total;
    size_t i = 0;
    while (rest >= rule[i].weight) rest -= rule[i++].weight;
    surprise_ -= std::log(rule[i].probability);
    return rule[i];
  }

  const std::vector<Rule>& rules_;
  std::vector<const Alternative*> latest_;
  uint64_t key_;
  uint64_t choices_ = 0;
  std::string text_;
  double surprise_ = 0;
};

struct Expectation {
  double nats = 0;   // of −log p of what a rule writes
  double bytes = 0;  // of its length
};

double expected_form_bytes(const Rule& rule, size_t form) {
  double bytes = 0;
  for (const Alternative& alternative : rule) {
    check(alternative.pieces.size() == 1 && alternative.pieces[0].kind == PieceKind::literal,
          "a grammar repeats only rules of literal text");
    bytes += alternative.probability * static_cast<double>(alternative.forms.at(form).size());
  }
  return bytes;
}

Expectation expect_once(const std::vector<Rule>& rules, const Rule& rule,
                        const std::vector<Expectation>& known) {
  Expectation sum;
  for (const Alternative& alternative : rule) {
    Expectation own{-std::log(alternative.probability), 0};
    for (const Piece& piece : alternative.pieces) {
      switch (piece.kind) {
        case PieceKind::literal:
          own.bytes += static_cast<double>(piece.text.size());
          break;
        case PieceKind::choice:
          own.nats += known[piece.rule].nats;
          own.bytes += known[piece.rule].bytes;
          break;
        case PieceKind::repeat:
          own.bytes += expected_form_bytes(rules[piece.rule], piece.form);
          break;
      }
    }
    sum.nats += alternative.probability * own.nats;
    sum.bytes += alternative.probability * own.bytes;
  }
  return sum;
}

// The expectations of all rules solve linear equations (a rule may contain itself). Iterating them
// from zero is summing over derivations by their depth, and ends when deeper ones change no bit.
std::vector<Expectation> expectations(const std::vector<Rule>& rules) {
  std::vector<Expectation> known(rules.size());
  for (int sweep = 0; sweep < 10000; ++sweep) {
    bool changed = false;
    for (size_t i = 0; i < rules.size(); ++i) {
      const Expectation now = expect_once(rules, rules[i], known);
      changed = changed || now.nats > known[i].nats || now.bytes > known[i].bytes;
      known[i] = now;
    }
    if (!changed) return known;
  }
  throw Error(
      "the grammar's texts do not end (its expected length does not converge). This is a "
      "defect of normlab; please report it");
}

int64_t count_validation(int64_t documents, double validation_fraction) {
  if (documents < 10) {
    throw input_error("data.grammar.documents = " + std::to_string(documents) +
                      " (must be at least 10). Set it to 2000");
  }
  if (!(validation_fraction >= 0 && validation_fraction < 1)) {
    throw input_error("data.validation_fraction = " + std::to_string(validation_fraction) +
                      " (must be at least 0 and below 1). Set it to 0.1");
  }
  if (validation_fraction == 0) return 0;
  const auto wanted = std::llround(static_cast<double>(documents) * validation_fraction);
  return std::clamp<int64_t>(wanted, 1, documents - 1);
}

}  // namespace

const std::vector<GrammarRule>& story_grammar() {
  static const std::vector<GrammarRule> grammar = [] {
    std::vector<GrammarRule> rules = sentences();
    const std::vector<GrammarRule> more = words();
    rules.insert(rules.end(), more.begin(), more.end());
    return rules;
  }();
  return grammar;
}

GrammarCorpus make_grammar_corpus(int64_t documents, double validation_fraction, uint64_t seed) {
  const int64_t train_documents = documents - count_validation(documents, validation_fraction);
  const std::vector<Rule> rules = read_rules(story_grammar());
  const std::unique_ptr<Tokenizer> tokenizer = make_tokenizer("bytes");
  std::vector<std::string> train;
  std::vector<std::string> validation;
  double validation_nats = 0;
  for (int64_t document = 0; document < documents; ++document) {
    Writer writer(rules, sequence_key(seed, 0, static_cast<uint64_t>(document)));
    writer.write(0);
    if (document < train_documents) {
      train.push_back(writer.text());
    } else {
      validation.push_back(writer.text());
      validation_nats += writer.surprise();
    }
  }
  GrammarCorpus result;
  result.corpus = {make_corpus(train, *tokenizer), make_corpus(validation, *tokenizer)};
  const Expectation story = expectations(rules)[0];
  result.entropy_per_token = story.nats / (story.bytes + 1);  // 1: the end-of-text, which is sure
  if (!validation.empty()) {
    const auto tokens = static_cast<double>(result.corpus.validation.size());
    result.validation_cross_entropy = validation_nats / tokens;
  }
  return result;
}

}  // namespace normlab
