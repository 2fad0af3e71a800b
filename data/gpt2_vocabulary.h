// The vocabulary of a byte-level BPE, as GPT-2's two files hold it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace normlab {

struct Gpt2Vocabulary {
  struct Merge {
    uint16_t left = 0;
    uint16_t right = 0;
    uint16_t result = 0;
  };

  std::vector<std::string> tokens;             // by id: the bytes that it stands for
  std::array<uint16_t, 256> byte_tokens = {};  // the id of each byte
  std::vector<Merge> merges;                   // in their order: the first is made first
  int32_t end_of_text = -1;                    // of <|endoftext|>; −1: there is none
};

// From vocab.json (an object: token to id; the bytes of a token are written as characters, as
// GPT-2's bytes_to_unicode does) and merges.txt (two tokens a line, after a line #version, which
// may lack). Ids are 0, 1, 2 … without a gap, every byte has one. Throws an input Error that names
// the file and the line.
Gpt2Vocabulary read_gpt2_vocabulary(const std::string& vocabulary_file,
                                    const std::string& merges_file);

// Of all that decides about ids and bytes, however the files are laid out.
uint64_t hash_of(const Gpt2Vocabulary& vocabulary);

}  // namespace normlab
