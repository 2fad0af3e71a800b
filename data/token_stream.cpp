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

void require_tokens(int64_t tokens) {
  if (tokens >= 2) return;
  throw input_error("too little text: " + std::to_string(tokens) +
                    " tokens (a token can be predicted only from one before it). Give more");
}

}  // namespace

void require_streamable(const CorpusDescription& corpus, const StreamOptions& options) {
  check(options.tokens_per_sequence > 0, "tokens_per_sequence > 0");
  const std::string why =
      " (the data do not say where documents end: a token set without manifest.json, or a "
      "tokenizer without end-of-text). ";
  if (options.mask_eot_targets && corpus.end_of_text < 0) {
    throw input_error("masked end-of-text targets" + why + "Leave the mask out, or take texts");
  }
  if (!corpus.rows) {
    if (options.packing == RowPacking::concatenated || corpus.end_of_text >= 0) return;
    throw input_error("packing padded" + why + "Take packing concatenated, or texts");
  }
  if (options.packing == RowPacking::concatenated) {
    throw input_error(
        "packing concatenated (the token set is padded: a document a row, the rest of each row is "
        "filling). Take packing padded, or prepare the text without --row-length");
  }
  if (options.tokens_per_sequence > corpus.rows->length) {
    throw input_error("sequences of " + std::to_string(options.tokens_per_sequence) +
                      " tokens (the rows of the token set have " +
                      std::to_string(corpus.rows->length) +
                      "). Take a shorter sequence, or prepare longer rows");
  }
}

CutExamples count_cut(const TokenCorpus& corpus, int64_t tokens_per_sequence) {
  const Documents documents(corpus);
  CutExamples counts{documents.count(), 0, 0};
  for (int64_t i = 0; i < counts.examples; ++i) {
    const auto [begin, end] = documents[i];
    const int64_t seen = std::min(end, begin + tokens_per_sequence + 1);
    if (seen < end) ++counts.cut;
    int64_t place = begin + 1;  // the first token is no target
    while (place < seen && !corpus.is_learnt(place)) ++place;
    if (place >= seen) ++counts.without_target;
  }
  return counts;
}

SequenceRange part_of_step(int64_t sequences, int64_t part, int64_t parts) {
  return {part * sequences / parts, (part + 1) * sequences / parts};
}

std::vector<SequenceRange> passes_of(SequenceRange part, int64_t micro_batch) {
  std::vector<SequenceRange> passes;
  for (int64_t first = part.first; first < part.last; first += micro_batch) {
    passes.push_back({first, std::min(first + micro_batch, part.last)});
  }
  return passes;
}

int64_t passes_per_step(int64_t sequences, int64_t parts, int64_t micro_batch) {
  int64_t passes = 0;
  for (int64_t part = 0; part < parts; ++part) {
    passes +=
        static_cast<int64_t>(passes_of(part_of_step(sequences, part, parts), micro_batch).size());
  }
  return passes;
}

TokenStream::TokenStream(const TokenCorpus& corpus, const StreamOptions& options)
    : corpus_(corpus), options_(options) {
  require_streamable(corpus.description(), options);
  require_tokens(corpus.size());
  switch (options.packing) {
    case RowPacking::concatenated:
      sequences_per_epoch_ = (corpus.size() - 2) / options.tokens_per_sequence + 1;
      break;
    case RowPacking::padded:
      documents_.emplace(corpus);
      sequences_per_epoch_ = documents_->count();
      break;
  }
}

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

int64_t TokenStream::document_of(int64_t sequence, int64_t token) const {
  if (documents_) return sequence;
  DocumentCursor cursor(corpus_);
  return cursor.document_at(
      std::min(sequence * options_.tokens_per_sequence + token, corpus_.size() - 1));
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

TokenRange TokenStream::source_of(int64_t sequence) const {
  if (documents_) return (*documents_)[sequence];
  return {sequence * options_.tokens_per_sequence, corpus_.size()};
}

HostBatch TokenStream::gather(int64_t position, int64_t sequences) const {
  if (!options_.shuffled) {
    sequences = std::clamp(sequences_per_epoch_ - position, int64_t{0}, sequences);
  }
  const int64_t length = options_.tokens_per_sequence;
  const CorpusDescription& corpus = corpus_.description();
  const int32_t fill = corpus.rows ? corpus.rows->pad : std::max(corpus.end_of_text, 0);
  HostBatch batch;
  batch.sequences = sequences;
  batch.tokens_per_sequence = length;
  batch.tokens.assign(static_cast<size_t>(sequences * length), fill);
  batch.targets.assign(static_cast<size_t>(sequences * length), -1);
  batch.lengths.assign(static_cast<size_t>(sequences), 0);
  for (int64_t row = 0; row < sequences; ++row) {
    fill_row(batch, row, source_of(sequence_at(position + row)));
  }
  return batch;
}

void TokenStream::fill_row(HostBatch& batch, int64_t row, TokenRange source) const {
  const int64_t length = batch.tokens_per_sequence;
  // One more than fits: the last token's target.
  std::vector<uint16_t> tokens(
      static_cast<size_t>(std::min(source.end - source.begin, length + 1)));
  if (tokens.empty()) return;
  corpus_.copy(source.begin, tokens);
  const int64_t shown = std::min(static_cast<int64_t>(tokens.size()), length);
  batch.lengths[static_cast<size_t>(row)] = static_cast<int32_t>(shown);
  batch.token_count += shown;
  const auto begin = static_cast<size_t>(row * length);
  for (size_t i = 0; i < tokens.size() && i < static_cast<size_t>(length); ++i) {
    batch.tokens[begin + i] = tokens[i];
    if (i + 1 == tokens.size()) break;  // the last token predicts nothing
    const int32_t target = tokens[i + 1];
    if (options_.mask_eot_targets && target == corpus_.description().end_of_text) continue;
    if (!corpus_.is_learnt(source.begin + static_cast<int64_t>(i) + 1)) continue;
    batch.targets[begin + i] = target;
    ++batch.target_count;
  }
}

}  // namespace normlab
