// Plain text files as corpora.
#pragma once

#include <string>
#include <vector>

#include "data/token_corpus.h"
#include "data/tokenizer.h"

namespace normlab {

struct SplitCorpus {
  TokenCorpus train;
  TokenCorpus validation;
};

// Of a corpus that the tokenizer makes.
CorpusDescription describe(const Tokenizer& tokenizer);

// Texts as a corpus, each a document ended by the tokenizer's end-of-text where it has one.
TokenCorpus make_corpus(const std::vector<std::string>& documents, const Tokenizer& tokenizer);

// One document a file; the last validation_fraction of each file's bytes (moved to the next line
// break where there is one near) is its validation document. Throws an input Error for a file that
// is missing, unreadable, empty or too short to split. A fraction of 0 leaves validation empty.
SplitCorpus read_text(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                      double validation_fraction);
// The same, unsplit.
TokenCorpus read_text(const std::vector<std::string>& files, const Tokenizer& tokenizer);

}  // namespace normlab
