// TokenStream: which tokens a step sees. A function of seed and position alone.
#pragma once

#include <cstdint>
#include <future>
#include <vector>

#include "data/token_shards.h"

namespace normlab {

enum class RowPacking { concatenated, padded };  // documents joined; or one document a row

// Sequences in host memory. tokens and targets (sequences, tokens_per_sequence), row-major;
// a target of −1 is ignored.
struct HostBatch {
  int64_t sequences = 0;
  int64_t tokens_per_sequence = 0;
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  int64_t target_count = 0;  // of all sequences
};

struct StreamOptions {
  int64_t tokens_per_sequence = 256;
  RowPacking packing = RowPacking::concatenated;
  bool mask_eot_targets = false;
  bool shuffled = true;  // false: sequences in the corpus's order, and next() ends after one epoch
  uint64_t seed = 0;
};

// Throws an input Error where the options ask for ends of documents and the corpus does not know
// them (end_of_text −1).
void require_document_ends(const TokenCorpus& corpus, const StreamOptions& options);

// All that a resume needs.
struct StreamState {
  int64_t position = 0;  // sequences taken since the beginning of epoch 0
};

// Cuts a corpus into sequences. Concatenated: window i holds tokens [i·T, (i+1)·T) and predicts
// [i·T + 1, (i+1)·T + 1), so that over an epoch every token but the first is a target exactly once;
// the last window is filled up with ignored targets. Padded: row i is document i, cut to T + 1
// tokens, filled up with end-of-text and ignored targets. Epoch e goes through all sequences in an
// order that is a permutation computed from (seed, e); the stream goes on into the next epoch.
class TokenStream {
 public:
  // The corpus must outlive the stream, hold at least 2 tokens, and know the ends of its documents
  // where the options ask for them: else an input Error.
  TokenStream(const TokenCorpus& corpus, const StreamOptions& options);
  ~TokenStream();

  // The next `sequences` sequences (fewer at the end of an unshuffled epoch; then 0). A thread of
  // its own has prepared them where the call before asked for as many.
  HostBatch next(int64_t sequences);
  StreamState state() const { return {position_}; }
  void restore(const StreamState& state);
  int64_t sequences_per_epoch() const { return sequences_per_epoch_; }
  int64_t epoch() const { return position_ / sequences_per_epoch_; }
  // Index in the corpus of the sequence at a position.
  int64_t sequence_at(int64_t position) const;

 private:
  HostBatch gather(int64_t position, int64_t sequences) const;

  const TokenCorpus& corpus_;
  StreamOptions options_;
  int64_t sequences_per_epoch_ = 0;
  int64_t position_ = 0;
  std::future<HostBatch> ahead_;
  int64_t ahead_position_ = -1;
  int64_t ahead_sequences_ = 0;
};

}  // namespace normlab
