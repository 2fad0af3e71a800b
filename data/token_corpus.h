// TokenCorpus: a sequence of token ids of any length, in memory or in mapped files.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/input_file.h"
#include "data/manifest.h"

namespace normlab {

// What is known of a corpus before its tokens are looked at.
struct CorpusDescription {
  int64_t vocabulary = 0;         // every id is below; 0: not known
  int32_t end_of_text = -1;       // −1: none, or not known
  std::optional<RowLayout> rows;  // one document a row; absent: documents one after another
  std::string tokenizer;          // as make_tokenizer takes it, from anywhere; "": not known
  uint64_t tokenizer_hash = 0;    // 0: not known
  std::string manifest;           // its path; "": there is none
};

// Tokens [begin, end) of a corpus.
struct TokenRange {
  int64_t begin = 0;
  int64_t end = 0;
};

// A part of a corpus that lies in mapped files.
struct MappedShard {
  Mapping file;
  std::span<const uint16_t> tokens;
  Mapping lengths_file;
  std::span<const uint32_t> lengths;  // of each row's document; empty where rows are not padded
};

// Moved, not copied. May be read from several threads at once.
class TokenCorpus {
 public:
  TokenCorpus() = default;
  TokenCorpus(TokenCorpus&&) = default;
  TokenCorpus& operator=(TokenCorpus&&) = default;
  // Of tokens in memory; document i begins at starts[i]. Each document is ended by end-of-text
  // where there is one. learnt: of each token, whether it is a target (1) or not (0); empty: all
  // are.
  TokenCorpus(CorpusDescription description, std::vector<uint16_t> tokens,
              std::vector<int64_t> starts, std::vector<uint8_t> learnt = {});
  // Of shards one after another; `hash` is what hash() shall give.
  TokenCorpus(CorpusDescription description, std::vector<MappedShard> shards, uint64_t hash);

  const CorpusDescription& description() const { return description_; }
  int64_t size() const { return size_; }
  uint16_t operator[](int64_t place) const;
  // Tokens [first, first + tokens.size()).
  void copy(int64_t first, std::span<uint16_t> tokens) const;

  // Whether a token is to be learnt; of prompts with completions, the completions are.
  bool is_learnt(int64_t place) const;
  // Whether some tokens are not.
  bool has_prompts() const { return !learnt_.empty(); }

  // Where documents begin, of a corpus in memory; else empty (see Documents).
  std::span<const int64_t> starts() const { return starts_; }
  // Of a corpus in rows: how many, and the tokens of a row without what it was filled up with.
  int64_t row_count() const { return row_count_; }
  TokenRange row(int64_t index) const;

  // Of all tokens, of where documents begin, and of what is learnt, to notice other data on resume.
  // The same however tokens are spread over shards.
  uint64_t hash() const { return hash_; }

 private:
  struct Segment {
    int64_t begin = 0;  // of its first token in the corpus
    std::span<const uint16_t> tokens;
    std::span<const uint32_t> lengths;
  };
  const Segment& segment_at(int64_t place) const;

  CorpusDescription description_;
  std::vector<uint16_t> memory_;
  std::vector<int64_t> starts_;
  std::vector<uint8_t> learnt_;
  std::vector<MappedShard> shards_;
  std::vector<Segment> segments_;
  int64_t size_ = 0;
  int64_t row_count_ = 0;
  uint64_t hash_ = 0;
};

// Documents by number. Where they are joined in shards they are found by end-of-text, in one pass
// over all tokens that keeps 8 bytes a document.
class Documents {
 public:
  // The corpus must outlive it.
  explicit Documents(const TokenCorpus& corpus);

  int64_t count() const;
  TokenRange operator[](int64_t document) const;  // with its end-of-text

 private:
  const TokenCorpus& corpus_;
  std::vector<int64_t> found_;
};

// The documents of a corpus of joined ones from its beginning on, without a pass over all of them.
class DocumentCursor {
 public:
  // The corpus must outlive it.
  explicit DocumentCursor(const TokenCorpus& corpus) : corpus_(corpus) {}

  // Number of the document that holds a token; places must not go down from call to call. All is
  // document 0 where ends of documents are not known.
  int64_t document_at(int64_t place);

 private:
  const TokenCorpus& corpus_;
  int64_t place_ = 0;
  int64_t document_ = 0;
};

}  // namespace normlab
