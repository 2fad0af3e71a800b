#include "data/token_corpus.h"

#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "kernels/error.h"

namespace normlab {
namespace {

constexpr size_t kBlockTokens = size_t{1} << 16;

std::vector<int64_t> find_starts(const TokenCorpus& corpus) {
  const int32_t end_of_text = corpus.description().end_of_text;
  std::vector<int64_t> starts = {0};
  std::vector<uint16_t> block(kBlockTokens);
  for (int64_t first = 0; first < corpus.size(); first += int64_t{kBlockTokens}) {
    const auto count = std::min<int64_t>(kBlockTokens, corpus.size() - first);
    const auto tokens = std::span(block).first(static_cast<size_t>(count));
    corpus.copy(first, tokens);
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (tokens[i] == end_of_text) starts.push_back(first + static_cast<int64_t>(i) + 1);
    }
  }
  if (starts.back() == corpus.size()) starts.pop_back();  // nothing follows the last end
  return starts;
}

}  // namespace

TokenCorpus::TokenCorpus(CorpusDescription description, std::vector<uint16_t> tokens,
                         std::vector<int64_t> starts, std::vector<uint8_t> learnt)
    : description_(std::move(description)),
      memory_(std::move(tokens)),
      starts_(std::move(starts)),
      learnt_(std::move(learnt)),
      segments_({Segment{0, memory_, {}}}),
      size_(static_cast<int64_t>(memory_.size())) {
  hash_ = XXH3_64bits(memory_.data(), memory_.size() * sizeof(memory_[0]));
  hash_ = XXH3_64bits_withSeed(starts_.data(), starts_.size() * sizeof(starts_[0]), hash_);
  if (learnt_.empty()) return;
  check(learnt_.size() == memory_.size(), "learnt: one for each token");
  hash_ = XXH3_64bits_withSeed(learnt_.data(), learnt_.size(), hash_);
}

TokenCorpus::TokenCorpus(CorpusDescription description, std::vector<MappedShard> shards,
                         uint64_t hash)
    : description_(std::move(description)), shards_(std::move(shards)), hash_(hash) {
  for (const MappedShard& shard : shards_) {
    segments_.push_back({size_, shard.tokens, shard.lengths});
    size_ += static_cast<int64_t>(shard.tokens.size());
    row_count_ += static_cast<int64_t>(shard.lengths.size());
  }
}

const TokenCorpus::Segment& TokenCorpus::segment_at(int64_t place) const {
  check(place >= 0 && place < size_, "a place lies in the corpus");
  const auto after = std::upper_bound(
      segments_.begin(), segments_.end(), place,
      [](int64_t wanted, const Segment& segment) { return wanted < segment.begin; });
  return *(after - 1);
}

uint16_t TokenCorpus::operator[](int64_t place) const {
  const Segment& segment = segment_at(place);
  return segment.tokens[static_cast<size_t>(place - segment.begin)];
}

void TokenCorpus::copy(int64_t first, std::span<uint16_t> tokens) const {
  check(first >= 0 && static_cast<int64_t>(tokens.size()) <= size_ - first,
        "copied tokens lie in the corpus");
  while (!tokens.empty()) {
    const Segment& segment = segment_at(first);
    const auto source = segment.tokens.subspan(static_cast<size_t>(first - segment.begin));
    const size_t count = std::min(source.size(), tokens.size());
    std::copy_n(source.begin(), count, tokens.begin());
    tokens = tokens.subspan(count);
    first += static_cast<int64_t>(count);
  }
}

bool TokenCorpus::is_learnt(int64_t place) const {
  check(place >= 0 && place < size_, "a place lies in the corpus");
  return learnt_.empty() || learnt_[static_cast<size_t>(place)] != 0;
}

TokenRange TokenCorpus::row(int64_t index) const {
  check(index >= 0 && index < row_count_, "a row lies in the corpus");
  const int64_t length = description_.rows->length;
  const int64_t begin = index * length;
  const Segment& segment = segment_at(begin);
  return {begin, begin + segment.lengths[static_cast<size_t>((begin - segment.begin) / length)]};
}

Documents::Documents(const TokenCorpus& corpus) : corpus_(corpus) {
  if (!corpus.description().rows && corpus.starts().empty() && corpus.size() > 0) {
    found_ = find_starts(corpus);
  }
}

int64_t Documents::count() const {
  if (corpus_.description().rows) return corpus_.row_count();
  return static_cast<int64_t>(found_.empty() ? corpus_.starts().size() : found_.size());
}

TokenRange Documents::operator[](int64_t document) const {
  if (corpus_.description().rows) return corpus_.row(document);
  check(document >= 0 && document < count(), "a document lies in the corpus");
  const std::span<const int64_t> starts = found_.empty() ? corpus_.starts() : found_;
  const auto index = static_cast<size_t>(document);
  return {starts[index], document + 1 < count() ? starts[index + 1] : corpus_.size()};
}

int64_t DocumentCursor::document_at(int64_t place) {
  check(place >= place_, "places do not go down");
  const std::span<const int64_t> starts = corpus_.starts();
  if (!starts.empty()) {
    const auto count = static_cast<int64_t>(starts.size());
    while (document_ + 1 < count && starts[static_cast<size_t>(document_ + 1)] <= place) {
      ++document_;
    }
    place_ = place;
    return document_;
  }
  for (; place_ < place; ++place_) {
    if (corpus_[place_] == corpus_.description().end_of_text) ++document_;
  }
  return document_;
}

}  // namespace normlab
