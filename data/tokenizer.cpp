#include "data/tokenizer.h"

#include "data/gpt2_bpe.h"
#include "data/sentencepiece_tokenizer.h"
#include "kernels/error.h"

namespace normlab {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  std::vector<uint16_t> encode(std::string_view text) const override {
    std::vector<uint16_t> tokens;
    tokens.reserve(text.size() + 1);  // room for the end-of-text that most callers add
    for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
    return tokens;
  }

  std::string decode(const std::vector<uint16_t>& tokens) const override {
    std::string text;
    text.reserve(tokens.size());
    for (const uint16_t token : tokens) {
      if (token >= kVocabulary) {
        throw input_error("token " + std::to_string(token) + " is not a byte (the tokenizer " +
                          "`bytes` has the ids 0 to 256). Use the tokenizer the tokens come from");
      }
      if (token != kEndOfText) text += static_cast<char>(token);
    }
    return text;
  }

  int64_t vocabulary() const override { return kVocabulary; }
  int32_t end_of_text() const override { return kEndOfText; }
  std::string name() const override { return "bytes"; }
  uint64_t hash() const override { return 0x6279746573; }  // "bytes"

 private:
  static constexpr int32_t kEndOfText = 256;
  static constexpr int64_t kVocabulary = 257;
};

}  // namespace

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& name) {
  if (name == "bytes") return std::make_unique<ByteTokenizer>();
  constexpr std::string_view kGpt2 = "gpt2:";
  if (name.starts_with(kGpt2)) return make_gpt2_tokenizer(name.substr(kGpt2.size()));
  constexpr std::string_view kSentencePiece = "sentencepiece:";
  if (name.starts_with(kSentencePiece)) {
    return make_sentencepiece_tokenizer(name.substr(kSentencePiece.size()));
  }
  throw input_error(
      "tokenizer \"" + name +
      "\" is unknown (there are: bytes, gpt2:DIR, sentencepiece:FILE). Use one of them");
}

}  // namespace normlab
