// Corpora of tests, and what is in them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "data/token_corpus.h"

namespace normlab::test {

inline std::vector<uint16_t> tokens_of(const TokenCorpus& corpus) {
  std::vector<uint16_t> tokens(static_cast<size_t>(corpus.size()));
  corpus.copy(0, tokens);
  return tokens;
}

inline std::vector<int64_t> starts_of(const TokenCorpus& corpus) {
  return {corpus.starts().begin(), corpus.starts().end()};
}

// A corpus in memory.
inline TokenCorpus corpus_of(std::vector<uint16_t> tokens, std::vector<int64_t> starts = {0},
                             int32_t end_of_text = -1) {
  CorpusDescription description;
  description.vocabulary = 65536;
  description.end_of_text = end_of_text;
  return {description, std::move(tokens), std::move(starts)};
}

}  // namespace normlab::test
