#include "kernels/random.h"

#include <cmath>
#include <set>

#include "catch.h"

namespace normlab {
namespace {

// Random123's kat_vectors, philox4x32-10.
TEST_CASE("philox: gives the known answers of its authors") {
  CHECK(philox({0, 0, 0, 0}, 0) == RandomBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr uint32_t kOnes = 0xffffffff;
  CHECK(philox({kOnes, kOnes, kOnes, kOnes}, 0xffffffffffffffff) ==
        RandomBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822) ==
        RandomBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("philox: can be computed by the compiler") {
  static_assert(philox({0, 0, 0, 0}, 0)[0] == 0x6627e8d5);
  CHECK(philox({0, 0, 0, 0}, 0)[0] == 0x6627e8d5);
}

TEST_CASE("element_block: the block's high half and the tensor are part of the counter") {
  constexpr uint64_t kKey = 99;
  CHECK(element_block(kKey, 7, 5) == philox({5, 0, 7, 0}, kKey));
  CHECK(element_block(kKey, 7, (uint64_t{3} << 32) + 5) == philox({5, 3, 7, 0}, kKey));
}

TEST_CASE("sequence_key: neighbouring seeds, steps and sequences have keys of their own") {
  std::set<uint64_t> keys;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (uint64_t step = 0; step < 10; ++step) {
      for (uint64_t sequence = 0; sequence < 10; ++sequence) {
        keys.insert(sequence_key(seed, step, sequence));
      }
    }
  }
  CHECK(keys.size() == 1000);
}

TEST_CASE("dropout_threshold: is the share of words that are dropped") {
  CHECK(dropout_threshold(0) == 0);
  CHECK(dropout_threshold(0.5) == 0x80000000);
  CHECK(dropout_threshold(0.25) == 0x40000000);
}

TEST_CASE("element_block: all four words are uniform and uncorrelated with the next block") {
  constexpr int kBlocks = 100000;
  double sums[4] = {};
  double products[4] = {};
  RandomBlock last = element_block(5, 1, 0);
  const auto centred = [](uint32_t word) { return word / 4294967296.0 - 0.5; };
  for (uint64_t block = 1; block <= kBlocks; ++block) {
    const RandomBlock words = element_block(5, 1, block);
    for (size_t i = 0; i < 4; ++i) {
      sums[i] += centred(words[i]);
      products[i] += centred(words[i]) * centred(last[i]);
    }
    last = words;
  }
  for (size_t i = 0; i < 4; ++i) {
    // Five deviations: 1/√12 of a word, 1/12 of a product.
    CHECK(std::fabs(sums[i]) < 5 * std::sqrt(kBlocks / 12.0));
    CHECK(std::fabs(products[i]) < 5 * std::sqrt(kBlocks / 144.0));
  }
}

}  // namespace
}  // namespace normlab
