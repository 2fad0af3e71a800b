// Documents as token ids: read by one thread, encoded by several, in the order of their files.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "data/document_source.h"
#include "data/tokenizer.h"

namespace normlab {

struct TokenizedBatch {
  std::vector<std::vector<uint16_t>> documents;  // without an end-of-text, or the ids as they came
  int64_t text_bytes = 0;                        // of these documents; 0 where ids came
  int64_t bytes_read = 0;                        // of the files, up to here
};

// Which batches there are depends on the documents alone, not on the threads. Memory is bounded: a
// few MiB a thread, and a few times the longest document.
class TokenizedDocuments {
 public:
  // Opens the files, ids within the tokenizer's vocabulary. Throws as open_documents does. The
  // tokenizer must outlive this object.
  TokenizedDocuments(const std::vector<std::string>& files, SourceOptions options,
                     const Tokenizer& tokenizer, int threads);
  // Does not wait for a pipe.
  ~TokenizedDocuments();
  TokenizedDocuments(const TokenizedDocuments&) = delete;
  TokenizedDocuments& operator=(const TokenizedDocuments&) = delete;

  enum class Arrival { batch, later, end };
  // `later` where nothing has come within `patience`. Throws what reading or encoding threw.
  Arrival next(TokenizedBatch& batch, std::chrono::milliseconds patience);
  // 0: unknown.
  int64_t bytes_total() const { return source_->bytes_total(); }

 private:
  struct Work {
    std::vector<Document> documents;
    int64_t size_bytes = 0;
    TokenizedBatch batch;
    bool done = false;
    std::exception_ptr error;
  };

  void read_documents();
  bool fill(Work& work);
  void encode_documents();
  void encode(Work& work) const;
  void stop();

  const Tokenizer& tokenizer_;
  std::stop_source stop_;
  bool ids_;
  int64_t most_bytes_ahead_;
  std::unique_ptr<DocumentSource> source_;

  std::mutex mutex_;  // of all that follows
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Work>> ahead_;  // in order; the first may be waited for
  size_t taken_ = 0;                         // of them, by an encoding thread
  int64_t bytes_ahead_ = 0;
  bool read_to_end_ = false;

  std::vector<std::jthread> threads_;
};

}  // namespace normlab
