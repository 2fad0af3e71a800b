// The merging of byte pairs within a word.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "data/gpt2_vocabulary.h"

namespace normlab {

// Merges the pair whose merge stands first in the vocabulary's list, the leftmost of equal ones, as
// long as there is one: O(n log n) for a word of n bytes. The vocabulary must outlive it.
class Gpt2Merger {
 public:
  explicit Gpt2Merger(const Gpt2Vocabulary& vocabulary);

  // What a thread merges in; not for two at once.
  class Scratch {
    friend class Gpt2Merger;
    struct Node {
      uint32_t previous = 0;
      uint32_t next = 0;
      uint32_t rank = 0;  // of the merge with the next node
      uint16_t token = 0;
    };
    std::vector<Node> nodes_;           // at the place of its token's first byte
    std::vector<uint64_t> candidates_;  // a heap of (rank << 32 | place); some are out of date
  };

  // Appends the tokens of a word.
  void merge(std::vector<uint16_t>& tokens, std::string_view word, Scratch& scratch) const;

 private:
  struct Slot {
    uint32_t pair = 0;
    uint32_t rank = kNone;
  };
  static constexpr uint32_t kNone = 0xFFFFFFFF;

  // Of the merge of two tokens, kNone where there is none.
  uint32_t rank_of(uint16_t left, uint16_t right) const;
  size_t slot_of(uint32_t pair) const;
  // Notes what node `place` and the next one would merge to.
  void rate(uint32_t place, Scratch& scratch) const;
  void lay_out(std::string_view word, Scratch& scratch) const;

  const Gpt2Vocabulary& vocabulary_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  int shift_ = 0;
};

}  // namespace normlab
