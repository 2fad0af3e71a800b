// The tokens of words that were seen lately.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace normlab {

// Holds words of at most 15 bytes and 7 tokens, one a slot: a word takes the slot of another that
// has the same hash. Not for two threads at once.
class Gpt2WordCache {
 public:
  Gpt2WordCache() : slots_(size_t{1} << kSlotBits) {}

  // Empty where it does not hold the word.
  std::span<const uint16_t> find(std::string_view word) const {
    if (word.size() > kLongest) return {};
    const Key key = key_of(word);
    const Slot& slot = slots_[slot_of(key)];
    if (slot.key != key) return {};
    return {slot.tokens.data(), slot.count};
  }

  void keep(std::string_view word, std::span<const uint16_t> tokens) {
    if (word.size() > kLongest || tokens.size() > kMostTokens) return;
    const Key key = key_of(word);
    Slot& slot = slots_[slot_of(key)];
    slot.key = key;
    slot.count = static_cast<uint16_t>(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) slot.tokens[i] = tokens[i];
  }

 private:
  static constexpr size_t kLongest = 15;
  static constexpr size_t kMostTokens = 7;
  static constexpr int kSlotBits = 16;

  // The word's bytes, zeros, and its length in the last byte.
  struct Key {
    uint64_t begin = 0;
    uint64_t end = 0;
    bool operator==(const Key&) const = default;
  };
  struct Slot {
    Key key = {};  // a word is not empty: no word has the key of an empty slot
    std::array<uint16_t, kMostTokens> tokens = {};
    uint16_t count = 0;
  };

  static Key key_of(std::string_view word) {
    std::array<char, sizeof(Key)> bytes{};
    std::memcpy(bytes.data(), word.data(), word.size());
    bytes.back() = static_cast<char>(word.size());
    Key key;
    std::memcpy(&key.begin, bytes.data(), sizeof(key.begin));
    std::memcpy(&key.end, bytes.data() + sizeof(key.begin), sizeof(key.end));
    return key;
  }

  static size_t slot_of(const Key& key) {
    const uint64_t mixed = (key.begin ^ key.end * 0xD6E8FEB86659FD93) * 0x9E3779B97F4A7C15;
    return static_cast<size_t>(mixed >> (64 - kSlotBits));
  }

  std::vector<Slot> slots_;
};

}  // namespace normlab
