#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <filesystem>

#include "kernels/error.h"

namespace normlab {
namespace {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::string& file) : file_(file) {
    const auto status = processor_.Load(file);
    if (!status.ok()) {
      throw input_error(file + ": no SentencePiece model (" + status.ToString() +
                        "). Name the tokenizer.model that belongs to the tokens");
    }
  }

  std::vector<uint16_t> encode(std::string_view text) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode({text.data(), text.size()}, &ids);
    if (!status.ok()) throw Error(file_ + ": " + status.ToString());
    return {ids.begin(), ids.end()};
  }

  std::string decode(const std::vector<uint16_t>& tokens) const override {
    std::string text;
    const auto status = processor_.Decode(std::vector<int>(tokens.begin(), tokens.end()), &text);
    if (!status.ok()) throw input_error(file_ + ": " + status.ToString());
    return text;
  }

  int64_t vocabulary() const override { return processor_.GetPieceSize(); }
  int32_t end_of_text() const override { return processor_.eos_id(); }
  std::string name() const override { return "sentencepiece:" + file_; }
  uint64_t hash() const override { return std::filesystem::file_size(file_); }
  std::vector<std::string> files() const override { return {file_}; }

 private:
  std::string file_;
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& file) {
  return std::make_unique<SentencePieceTokenizer>(file);
}

}  // namespace normlab
