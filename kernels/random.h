// Counter-based random numbers: a pure function of where the number is used, the same on every
// device, rank and thread. Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as
// 1, 2, 3").
#pragma once

#include <array>
#include <cstdint>

namespace normlab {

using RandomBlock = std::array<uint32_t, 4>;

// One of its ten rounds; the key of round r is (low + r·0x9E3779B9, high + r·0xBB67AE85).
constexpr int kPhiloxRounds = 10;
constexpr void philox_round(uint32_t& word0, uint32_t& word1, uint32_t& word2, uint32_t& word3,
                            uint64_t key, int round) {
  const uint32_t key0 = static_cast<uint32_t>(key) + static_cast<uint32_t>(round) * 0x9E3779B9u;
  const uint32_t key1 =
      static_cast<uint32_t>(key >> 32) + static_cast<uint32_t>(round) * 0xBB67AE85u;
  const uint64_t product0 = uint64_t{0xD2511F53} * word0;
  const uint64_t product1 = uint64_t{0xCD9E8D57} * word2;
  word0 = static_cast<uint32_t>(product1 >> 32) ^ word1 ^ key0;
  word1 = static_cast<uint32_t>(product1);
  word2 = static_cast<uint32_t>(product0 >> 32) ^ word3 ^ key1;
  word3 = static_cast<uint32_t>(product0);
}

constexpr RandomBlock philox(RandomBlock counter, uint64_t key) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    philox_round(counter[0], counter[1], counter[2], counter[3], key, round);
  }
  return counter;
}

// Thorough mixing of 64 bits (splitmix64's finaliser), to derive independent keys.
constexpr uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

// The key of one sequence of one step; an element's number is word `element % 4` of
// philox({element / 4 low, element / 4 high, tensor, 0}, key).
constexpr uint64_t sequence_key(uint64_t seed, uint64_t step, uint64_t sequence) {
  return mix(mix(mix(seed) ^ step) ^ sequence);
}

constexpr RandomBlock element_block(uint64_t key, uint32_t tensor, uint64_t block) {
  return philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), tensor, 0}, key);
}

// A word is kept with probability 1 − p when it is at least this; p in [0, 1).
constexpr uint32_t dropout_threshold(double probability) {
  return static_cast<uint32_t>(probability * 4294967296.0);
}

}  // namespace normlab
