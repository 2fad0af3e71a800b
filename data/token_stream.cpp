#include "data/token_stream.h"

#include <algorithm>
#include <bit>
#include <exception>
#include <string>
#include <utility>

#include "kernels/error.h"
#include "kernels/random.h"

namespace normlab {
namespace {

constexpr int kFeistelRounds = 6;

// A permutation of [0, 2^(2·half_bits)): a Feistel network is one whatever its round function is.
uint64_t encrypt(uint64_t value, int half_bits, uint64_t key) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = value >> half_bits;
  uint64_t right = value & mask;
  for (uint64_t round = 0; round < kFeistelRounds; ++round) {
    const uint64_t next = left ^ (mix(mix(key ^ round) ^ right) & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

// Place `index` of a permutation of [0, count), in constant memory: walking along a cycle of the
// larger permutation until it comes back into the range (in the mean at most 4 steps) is again
// a permutation.
uint64_t permuted(uint64_t index, uint64_t count, uint64_t key) {
  const int half_bits = (static_cast<int>(std::bit_width(count - 1)) + 1) / 2;
  do {
    index = encrypt(index, half_bits, key);
  } while (index >= count);
  return index;
}

int64_t count_sequences(const TokenCorpus& corpus, const StreamOptions& options) {
  check(options.tokens_per_sequence > 0, "tokens_per_sequence > 0");
  require_document_ends(corpus, options);
  const auto tokens = static_cast<int64_t>(corpus.tokens.size());
  if (tokens < 2) {
    throw input_error("too little text: " + std::to_string(tokens) +
                      " tokens (a token can be predicted only from one before it). Give more");
  }
  switch (options.packing) {
    case RowPacking::concatenated:
      return (tokens - 2) / options.tokens_per_sequence + 1;
    case RowPacking::padded:
      check(!corpus.document_starts.empty(), "a corpus has at least one document");
      return static_cast<int64_t>(corpus.document_starts.size());
  }
  throw Error("RowPacking has no such value. This is a defect of normlab; please report it");
}

// The tokens [first, second) of the corpus that a sequence may show; a row takes T + 1 of them.
std::pair<int64_t, int64_t> source_range(const TokenCorpus& corpus, const StreamOptions& options,
                                         int64_t sequence) {
  const auto tokens = static_cast<int64_t>(corpus.tokens.size());
  if (options.packing == RowPacking::concatenated) {
    return {sequence * options.tokens_per_sequence, tokens};
  }
  const std::vector<int64_t>& starts = corpus.document_starts;
  const auto document = static_cast<size_t>(sequence);
  return {starts[document], document + 1 < starts.size() ? starts[document + 1] : tokens};
}

}  // namespace

void require_document_ends(const TokenCorpus& corpus, const StreamOptions& options) {
  if (corpus.end_of_text >= 0) return;
  const std::string why = " (token shards do not say where documents end yet). ";
  if (options.packing == RowPacking::padded) {
    throw input_error("packing padded" + why + "Take packing concatenated, or texts");
  }
  if (options.mask_eot_targets) {
    throw input_error("masked end-of-text targets" + why + "Leave the mask out, or take texts");
  }
}

TokenStream::TokenStream(const TokenCorpus& corpus, const StreamOptions& options)
    : corpus_(corpus), options_(options), sequences_per_epoch_(count_sequences(corpus, options)) {}

// The thread looks at this object, so it ends first.
TokenStream::~TokenStream() {
  if (ahead_.valid()) ahead_.wait();
}

int64_t TokenStream::sequence_at(int64_t position) const {
  check(position >= 0, "position >= 0");
  const int64_t index = position % sequences_per_epoch_;
  if (!options_.shuffled) return index;
  const auto epoch = static_cast<uint64_t>(position / sequences_per_epoch_);
  const uint64_t key = mix(mix(options_.seed) ^ epoch);
  return static_cast<int64_t>(
      permuted(static_cast<uint64_t>(index), static_cast<uint64_t>(sequences_per_epoch_), key));
}

HostBatch TokenStream::next(int64_t sequences) {
  check(sequences > 0, "sequences > 0");
  // The thread is waited for even where its batch is of no use (after restore, or another count):
  // one at a time. If it threw, get() throws here, the position stays, and ahead_ is empty.
  const bool ready =
      ahead_.valid() && ahead_position_ == position_ && ahead_sequences_ == sequences;
  std::future<HostBatch> ahead = std::move(ahead_);
  if (ahead.valid()) ahead.wait();
  HostBatch batch = ready ? ahead.get() : gather(position_, sequences);
  position_ += batch.sequences;
  if (batch.sequences < sequences) return batch;  // the end: there is nothing more to prepare

  ahead_position_ = position_;
  ahead_sequences_ = sequences;
  try {
    ahead_ = std::async(std::launch::async, [this, position = position_, sequences] {
      return gather(position, sequences);
    });
  } catch (const std::exception&) {
    // No thread to be had: the next call does the work itself.
  }
  return batch;
}

void TokenStream::restore(const StreamState& state) {
  check(state.position >= 0, "state.position >= 0");
  position_ = state.position;  // next() sees that what was prepared is for another position
}

HostBatch TokenStream::gather(int64_t position, int64_t sequences) const {
  if (!options_.shuffled) {
    sequences = std::clamp(sequences_per_epoch_ - position, int64_t{0}, sequences);
  }
  const int64_t length = options_.tokens_per_sequence;
  const int32_t fill = std::max(corpus_.end_of_text, 0);
  HostBatch batch;
  batch.sequences = sequences;
  batch.tokens_per_sequence = length;
  batch.tokens.assign(static_cast<size_t>(sequences * length), fill);
  batch.targets.assign(static_cast<size_t>(sequences * length), -1);
  for (int64_t row = 0; row < sequences; ++row) {
    const auto [begin, end] = source_range(corpus_, options_, sequence_at(position + row));
    for (int64_t i = 0; begin + i < end && i < length; ++i) {
      const auto place = static_cast<size_t>(row * length + i);
      const auto source = static_cast<size_t>(begin + i);
      batch.tokens[place] = corpus_.tokens[source];
      if (begin + i + 1 == end) break;  // the last token predicts nothing
      const int32_t target = corpus_.tokens[source + 1];
      if (options_.mask_eot_targets && target == corpus_.end_of_text) continue;
      batch.targets[place] = target;
      ++batch.target_count;
    }
  }
  return batch;
}

}  // namespace normlab
