// Files of text as corpora in memory.
#pragma once

#include <string>
#include <vector>

#include "data/document_source.h"
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

// Files of text, a document each, and of JSON lines, packed or not (data/document_source.h). For
// validation are of a text the last validation_fraction of its bytes (moved to the next line break
// where there is one near), of JSON lines that part of the documents, the last ones. Throws an
// input Error as open_documents does and for a file too short to split. A fraction of 0 leaves
// validation empty.
SplitCorpus read_text(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                      double validation_fraction);
// The same, unsplit.
TokenCorpus read_text(const std::vector<std::string>& files, const Tokenizer& tokenizer);

// Prompts with completions, of JSON lines (data/prompts.h); for validation are the last ones of
// each file. Part by part is tokenised, so that a completion begins with a token; behind what is to
// be learnt stands an end-of-text, learnt too, where the tokenizer has one.
SplitCorpus read_prompts(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                         const ChatRoles& roles, double validation_fraction);

}  // namespace normlab
