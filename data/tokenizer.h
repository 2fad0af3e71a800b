// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace normlab {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  // Without an end-of-text, which whoever joins documents adds.
  virtual std::vector<uint16_t> encode(std::string_view text) const = 0;
  // End-of-text is written as nothing. Throws an input Error for an id outside the vocabulary.
  virtual std::string decode(const std::vector<uint16_t>& tokens) const = 0;
  virtual int64_t vocabulary() const = 0;
  virtual int32_t end_of_text() const = 0;  // −1: none
  // What stands before a text where something must: end-of-text, unless there is a begin-of-text.
  virtual int32_t begin_of_text() const { return end_of_text(); }
  virtual std::string name() const = 0;  // as make_tokenizer takes it
  // Of all that decides about ids, the same wherever its files lie.
  virtual uint64_t hash() const = 0;
  // The files that it was read from, under the names that other programs look for: to be copied
  // beside tokens and models. Empty where there are none.
  virtual std::vector<std::string> files() const { return {}; }
};

// NAME is one of
//   bytes               ids 0 … 255 are the bytes, 256 ends a text
//   gpt2:DIR            GPT-2's byte-level BPE from DIR/vocab.json and DIR/merges.txt
//   sentencepiece:FILE  a SentencePiece model, without its begin-of-text
// Thread-safe: encode and decode may be called from several threads at once. Throws an input Error
// for any other name, for files that are missing or damaged, and for a vocabulary beyond 65536.
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name);

}  // namespace normlab
