// A set: token shards for training and validation, their manifest, and the tokenizer's files.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/manifest.h"
#include "data/shard_series.h"
#include "data/tokenizer.h"

namespace normlab {

// What is put behind a document: the tokenizer's end-of-text where it has one, or nothing (ids that
// came as they are).
enum class DocumentEnd { end_of_text, none };

struct SetOptions {
  DocumentEnd end = DocumentEnd::end_of_text;
  int64_t shard_tokens = 100'000'000;
  int64_t row_length = 0;  // 0: documents one after another; else a document a row
  // Which documents are for validation, one of: each with this probability, or so many (kept in
  // memory), each equally likely. A function of the seed and of the document's number alone. With
  // probability 1 there is no training part.
  double validation_fraction = 0;
  int64_t validation_documents = 0;
  uint64_t seed = 1337;
};

class SetWriter {
 public:
  // Into a directory that exists and is empty. The tokenizer must outlive this object. Throws an
  // input Error for options that do not fit.
  SetWriter(std::string directory, const SetOptions& options, const Tokenizer& tokenizer);

  // The next document. An empty one is its end-of-text alone; it is left out where nothing is put
  // behind documents, and of rows. Throws as ShardSeries::add.
  void add(std::vector<uint16_t> document);
  // Completes shards and manifest. Throws an input Error where no document is for training, or none
  // for validation although some were asked for.
  Manifest finish();

  int64_t empty_documents() const { return empty_documents_; }  // those left out
  const ShardSeries& train() const { return train_; }
  const ShardSeries& validation() const { return validation_; }

 private:
  struct Reserved {
    int64_t number = 0;
    std::vector<uint16_t> tokens;
  };

  void reserve(Reserved document);
  std::string copy_tokenizer() const;

  std::string directory_;
  SetOptions options_;
  const Tokenizer& tokenizer_;
  std::optional<RowLayout> rows_;
  ShardSeries train_;
  ShardSeries validation_;
  std::vector<Reserved> reserved_;  // for validation, so far
  int64_t documents_ = 0;           // seen
  int64_t empty_documents_ = 0;
};

}  // namespace normlab
