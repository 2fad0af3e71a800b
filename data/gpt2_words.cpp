#include "data/gpt2_words.h"

#include <pcre2.h>

#include <array>
#include <string>

#include "kernels/error.h"

namespace normlab {
namespace {

// Unicode's White_Space, spelt out: PCRE2's \s has U+180E too, which has not been blank since
// Unicode 6.3.
constexpr std::string_view kBlank =
    R"(\x09-\x0d\x20\x85\xa0\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

// Letters and numbers that came with Unicode 15, 15.1 and 16, which PCRE2 before 10.43 lacks
// (tests/data/gpt2_words_test.cpp compares all code points with tiktoken's classes).
constexpr std::string_view kLetter =
    R"(\p{L}\x{1c89}\x{1c8a}\x{a7cb}-\x{a7cd}\x{a7da}-\x{a7dc}\x{105c0}-\x{105f3})"
    R"(\x{10d4a}-\x{10d65}\x{10d6f}-\x{10d85}\x{10ec2}-\x{10ec4}\x{1123f}\x{11240})"
    R"(\x{11380}-\x{11389}\x{1138b}\x{1138e}\x{11390}-\x{113b5}\x{113b7}\x{113d1}\x{113d3})"
    R"(\x{11bc0}-\x{11be0}\x{11f02}\x{11f04}-\x{11f10}\x{11f12}-\x{11f33}\x{1342f})"
    R"(\x{13441}-\x{13446}\x{13460}-\x{143fa}\x{16100}-\x{1611d}\x{16d40}-\x{16d6c}\x{18cff})"
    R"(\x{1b132}\x{1b155}\x{1df25}-\x{1df2a}\x{1e030}-\x{1e06d}\x{1e4d0}-\x{1e4eb})"
    R"(\x{1e5d0}-\x{1e5ed}\x{1e5f0}\x{2b739}\x{2ebf0}-\x{2ee5d}\x{31350}-\x{323af})";
constexpr std::string_view kNumber =
    R"(\p{N}\x{10d40}-\x{10d49}\x{116d0}-\x{116e3}\x{11bf0}-\x{11bf9}\x{11f50}-\x{11f59})"
    R"(\x{16130}-\x{16139}\x{16d70}-\x{16d79}\x{1ccf0}-\x{1ccf9}\x{1d2c0}-\x{1d2d3})"
    R"(\x{1e4f0}-\x{1e4f9}\x{1e5f1}-\x{1e5fa})";

std::string expression() {
  const std::string blank(kBlank);
  const std::string letter(kLetter);
  const std::string number(kNumber);
  // Possessive where giving back could not help.
  return "'(?:[stmd]|re|ve|ll)| ?[" + letter + "]++| ?[" + number + "]++| ?[^" + blank + letter +
         number + "]++|[" + blank + "]+(?![^" + blank + "])|[" + blank + "]++";
}

std::string message_of(int error) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

Gpt2Words::Gpt2Words(Matching matching) {
  const std::string pattern = expression();
  int error = 0;
  PCRE2_SIZE place = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                            PCRE2_UTF | PCRE2_ANCHORED, &error, &place, nullptr));
  if (!code_) {
    throw Error("the pre-tokeniser's expression does not compile (PCRE2 says: " +
                message_of(error) + "). Use a PCRE2 that was built with Unicode");
  }
  // Where a system forbids code that was made at run time, pcre2_match interprets.
  if (matching == Matching::compiled) pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

void Gpt2Words::Delete::operator()(pcre2_real_code_8* code) const { pcre2_code_free(code); }
void Gpt2Words::Delete::operator()(pcre2_real_match_data_8* match) const {
  pcre2_match_data_free(match);
}

Gpt2Words::Scratch Gpt2Words::scratch() const {
  return Scratch(pcre2_match_data_create(1, nullptr));
}

size_t Gpt2Words::word_end(std::string_view text, size_t begin, const Scratch& scratch) const {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto match = [&](uint32_t options) {
    return pcre2_match(code_.get(), subject, text.size(), begin, options | PCRE2_NO_UTF_CHECK,
                       scratch.get(), nullptr);
  };
  int groups = match(0);
  // Machine code has a stack of fixed size, the interpreter has not.
  if (groups == PCRE2_ERROR_JIT_STACKLIMIT) groups = match(PCRE2_NO_JIT);
  if (groups < 0) {
    throw Error("the pre-tokeniser stopped at byte " + std::to_string(begin) + " of a text of " +
                std::to_string(text.size()) + " (PCRE2 says: " + message_of(groups) +
                "). Divide the text");
  }
  return pcre2_get_ovector_pointer(scratch.get())[1];
}

}  // namespace normlab
