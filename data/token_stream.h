// TokenStream: which tokens a step sees. A function of seed and position alone.
#pragma once

#include <cstdint>
#include <future>
#include <optional>
#include <vector>

#include "data/token_corpus.h"

namespace normlab {

enum class RowPacking { concatenated, padded };  // documents joined; or one document a row

// Sequences in host memory. tokens and targets (sequences, tokens_per_sequence), row-major;
// a target of −1 is ignored.
struct HostBatch {
  int64_t sequences = 0;
  int64_t tokens_per_sequence = 0;
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  std::vector<int32_t> lengths;  // of each sequence, the tokens that are no filling
  int64_t target_count = 0;      // of all sequences
  int64_t token_count = 0;       // those that are no filling, of all sequences
};

struct StreamOptions {
  int64_t tokens_per_sequence = 256;
  RowPacking packing = RowPacking::concatenated;
  bool mask_eot_targets = false;
  bool shuffled = true;  // false: sequences in the corpus's order, and next() ends after one epoch
  uint64_t seed = 0;
};

// Throws an input Error where a corpus cannot be cut as the options ask: ends of documents that it
// does not know, joining rows that are padded, sequences longer than its rows.
void require_streamable(const CorpusDescription& corpus, const StreamOptions& options);

// Of prompts with completions, an example a row: how many are longer than a row shows, and how many
// have no target in their row.
struct CutExamples {
  int64_t examples = 0;
  int64_t cut = 0;
  int64_t without_target = 0;
};
CutExamples count_cut(const TokenCorpus& corpus, int64_t tokens_per_sequence);

// Sequences [first, last) of a step.
struct SequenceRange {
  int64_t first = 0;
  int64_t last = 0;
};
// What part `part` of `parts` takes of a step's sequences: contiguous, sizes differ by one at most.
SequenceRange part_of_step(int64_t sequences, int64_t part, int64_t parts);
// A part cut into passes of at most `micro_batch` sequences.
std::vector<SequenceRange> passes_of(SequenceRange part, int64_t micro_batch);
int64_t passes_per_step(int64_t sequences, int64_t parts, int64_t micro_batch);

// All that a resume needs.
struct StreamState {
  int64_t position = 0;  // sequences taken since the beginning of epoch 0
};

// Cuts a corpus into sequences. Concatenated: window i holds tokens [i·T, (i+1)·T) and predicts
// [i·T + 1, (i+1)·T + 1), so that over an epoch every token but the first is a target exactly once;
// the last window is filled up with ignored targets. Padded: row i is document i, or row i of a
// padded set, cut to T + 1 tokens, filled up with end-of-text (or the set's pad) and ignored
// targets; the document's own end-of-text is a target like any other. Tokens that are not to be
// learnt (TokenCorpus::is_learnt) are seen and are no targets. Epoch e goes through all
// sequences in an order that is a permutation computed from (seed, e); the stream goes on into the
// next epoch.
class TokenStream {
 public:
  // The corpus must outlive the stream, hold at least 2 tokens, and be streamable: else an input
  // Error.
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
  // Number of the document in the corpus that a token of that sequence is of; 0 where ends of
  // documents are not known. Slow: it may go through all that is before.
  int64_t document_of(int64_t sequence, int64_t token) const;

 private:
  HostBatch gather(int64_t position, int64_t sequences) const;
  // The tokens that a sequence may show; it takes at most T + 1 of them.
  TokenRange source_of(int64_t sequence) const;
  void fill_row(HostBatch& batch, int64_t row, TokenRange source) const;

  const TokenCorpus& corpus_;
  StreamOptions options_;
  std::optional<Documents> documents_;  // where packing is padded
  int64_t sequences_per_epoch_ = 0;
  int64_t position_ = 0;
  std::future<HostBatch> ahead_;
  int64_t ahead_position_ = -1;
  int64_t ahead_sequences_ = 0;
};

}  // namespace normlab
