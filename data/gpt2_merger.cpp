#include "data/gpt2_merger.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "kernels/error.h"

namespace normlab {
namespace {

constexpr uint32_t pair_of(uint16_t left, uint16_t right) {
  return static_cast<uint32_t>(left) << 16 | right;
}

}  // namespace

Gpt2Merger::Gpt2Merger(const Gpt2Vocabulary& vocabulary) : vocabulary_(vocabulary) {
  const size_t merges = vocabulary.merges.size();
  const size_t slots = std::bit_ceil(2 * merges + 2);
  slots_.resize(slots);
  shift_ = 64 - std::countr_zero(slots);
  for (uint32_t rank = 0; rank < merges; ++rank) {
    const uint32_t pair = pair_of(vocabulary.merges[rank].left, vocabulary.merges[rank].right);
    slots_[slot_of(pair)] = {pair, rank};
  }
}

// The slot that holds the pair, or the empty one where it belongs.
size_t Gpt2Merger::slot_of(uint32_t pair) const {
  size_t slot = (pair * uint64_t{0x9E3779B97F4A7C15}) >> shift_;
  while (slots_[slot].rank != kNone && slots_[slot].pair != pair) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

uint32_t Gpt2Merger::rank_of(uint16_t left, uint16_t right) const {
  return slots_[slot_of(pair_of(left, right))].rank;
}

void Gpt2Merger::rate(uint32_t place, Scratch& scratch) const {
  Scratch::Node& node = scratch.nodes_[place];
  node.rank = kNone;
  if (node.next == scratch.nodes_.size()) return;
  node.rank = rank_of(node.token, scratch.nodes_[node.next].token);
  if (node.rank == kNone) return;
  scratch.candidates_.push_back(static_cast<uint64_t>(node.rank) << 32 | place);
}

void Gpt2Merger::lay_out(std::string_view word, Scratch& scratch) const {
  const auto bytes = static_cast<uint32_t>(word.size());
  scratch.nodes_.resize(bytes);
  scratch.candidates_.clear();
  for (uint32_t place = 0; place < bytes; ++place) {
    const auto byte = static_cast<unsigned char>(word[place]);
    scratch.nodes_[place] = {place - 1, place + 1, kNone, vocabulary_.byte_tokens[byte]};
  }
  for (uint32_t place = 0; place < bytes; ++place) rate(place, scratch);
  std::ranges::make_heap(scratch.candidates_, std::greater());
}

void Gpt2Merger::merge(std::vector<uint16_t>& tokens, std::string_view word,
                       Scratch& scratch) const {
  if (word.size() >= kNone) {
    throw input_error("a word of " + std::to_string(word.size()) +
                      " bytes (at most 4 GiB fit). Divide the text");
  }
  lay_out(word, scratch);
  auto& nodes = scratch.nodes_;
  auto& candidates = scratch.candidates_;
  const auto rate_and_sift = [&](uint32_t place) {
    const size_t before = candidates.size();
    rate(place, scratch);
    if (candidates.size() > before) std::ranges::push_heap(candidates, std::greater());
  };
  while (!candidates.empty()) {
    const auto rank = static_cast<uint32_t>(candidates.front() >> 32);
    const auto place = static_cast<uint32_t>(candidates.front());
    std::ranges::pop_heap(candidates, std::greater());
    candidates.pop_back();
    Scratch::Node& left = nodes[place];
    if (left.rank != rank) continue;  // one of the two has been merged with another meanwhile
    Scratch::Node& right = nodes[left.next];
    right.rank = kNone;
    left.token = vocabulary_.merges[rank].result;
    left.next = right.next;
    if (left.next < nodes.size()) nodes[left.next].previous = place;
    rate_and_sift(place);
    if (place > 0) rate_and_sift(left.previous);
  }
  for (uint32_t place = 0; place < nodes.size(); place = nodes[place].next) {
    tokens.push_back(nodes[place].token);
  }
  // A word of megabytes is rare: its room is not kept.
  constexpr size_t kKept = 1 << 16;
  if (nodes.size() > kKept) scratch = {};
}

}  // namespace normlab
