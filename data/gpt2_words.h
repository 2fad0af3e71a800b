// GPT-2's pre-tokeniser: text cut into the words within which bytes are merged.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

// PCRE2's own, so that its header stays where it is used.
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace normlab {

// Whether PCRE2 may compile the expression to machine code. It interprets where it cannot.
enum class Matching { compiled, interpreted };

// OpenAI's expression 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// with the classes of Unicode 16, which are tiktoken's, whatever Unicode PCRE2 knows from 14 on.
// (A PCRE2 with Unicode 17 or later takes letters and digits that are new in it for such.)
class Gpt2Words {
 public:
  explicit Gpt2Words(Matching matching = Matching::compiled);

  struct Delete {
    void operator()(pcre2_real_code_8* code) const;
    void operator()(pcre2_real_match_data_8* match) const;
  };
  // What a thread matches with; not for two at once.
  using Scratch = std::unique_ptr<pcre2_real_match_data_8, Delete>;
  Scratch scratch() const;

  // The end of the word that begins at `begin` < text.size(), both at code points of well-formed
  // UTF-8. Takes time and memory linear in the word's length and what follows it within a blank.
  size_t word_end(std::string_view text, size_t begin, const Scratch& scratch) const;

 private:
  std::unique_ptr<pcre2_real_code_8, Delete> code_;
};

}  // namespace normlab
