// A generated corpus whose entropy is known: what a newcomer trains on without having any data.
#pragma once

#include <string_view>
#include <vector>

#include "data/text_reader.h"

namespace normlab {

// A choice of the grammar. Alternative r (from 0) has the weight ⌊720720 / (r + 1)⌋ (Zipf's law).
// In a text, <rule> stands for a choice made there, <rule.k> for form k of that rule's latest
// choice, which is written again without choosing. Forms are parted by |; form 0 is the one written
// where the choice is made.
struct GrammarRule {
  std::string_view name;
  std::vector<std::string_view> alternatives;
};

// The grammar of make_grammar_corpus; the first rule is a document.
const std::vector<GrammarRule>& story_grammar();

struct GrammarCorpus {
  SplitCorpus corpus;                   // byte tokens, each document ended by end-of-text
  double entropy_per_token = 0;         // nats: the expectation of −log p(token | all before it)
  double validation_cross_entropy = 0;  // nats per token of the generator itself on `validation` (0
                                        // where that is empty): no model does better but by chance
                                        // or by memory
};

// Documents of little English stories from a probabilistic grammar in which every text has exactly
// one derivation, so that its probability is the product of the choices made. A function of its
// arguments alone. At least 10 documents, of which the last ones, validation_fraction of them, are
// for validation (at least one where the fraction is above 0).
GrammarCorpus make_grammar_corpus(int64_t documents, double validation_fraction, uint64_t seed);

}  // namespace normlab
