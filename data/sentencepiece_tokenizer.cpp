#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>
#include <xxhash.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "data/sentencepiece_charsmap.h"
#include "kernels/error.h"

namespace normlab {
namespace {

constexpr int kMostTokens = 65536;  // tokens are stored as uint16

std::string read_model(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!std::filesystem::is_regular_file(file) || !stream) {
    throw input_error(file + ": no such file (a SentencePiece model was named). Name the " +
                      "tokenizer.model that belongs to the tokens");
  }
  std::string content{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad()) throw Error(file + ": reading failed. Look after the disk");
  return content;
}

// Encode and Decode of the library are const, work in memory of their own, and so run at once.
class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const std::string& file) : file_(file) {
    const std::string model = read_model(file);
    hash_ = XXH3_64bits(model.data(), model.size());
    load(model);
    if (processor_.GetPieceSize() > kMostTokens) {
      throw input_error(file + ": a vocabulary of " + std::to_string(processor_.GetPieceSize()) +
                        " tokens (at most 65536, ids are stored in 16 bits). Use a smaller one");
    }
  }

  std::vector<uint16_t> encode(std::string_view text) const override {
    std::vector<int> ids;
    const auto status = processor_.Encode({text.data(), text.size()}, &ids);
    if (!status.ok()) {
      throw Error(file_ + ": a text of " + std::to_string(text.size()) +
                  " bytes could not be encoded (the library says: " + status.ToString() +
                  "). Divide the text");
    }
    return {ids.begin(), ids.end()};
  }

  std::string decode(const std::vector<uint16_t>& tokens) const override {
    for (const uint16_t token : tokens) {
      if (token < vocabulary()) continue;
      throw input_error("token " + std::to_string(token) + " is not in the vocabulary (" + name() +
                        " has " + std::to_string(vocabulary()) +
                        " tokens). Use the tokenizer the tokens come from");
    }
    std::string text;
    const auto status = processor_.Decode(std::vector<int>(tokens.begin(), tokens.end()), &text);
    if (!status.ok()) {
      throw Error(file_ + ": tokens could not be decoded (the library says: " + status.ToString() +
                  "). Use the tokenizer the tokens come from");
    }
    return text;
  }

  int64_t vocabulary() const override { return processor_.GetPieceSize(); }
  int32_t end_of_text() const override { return processor_.eos_id(); }
  int32_t begin_of_text() const override {
    return processor_.bos_id() >= 0 ? processor_.bos_id() : processor_.eos_id();
  }
  std::string name() const override { return "sentencepiece:" + file_; }
  uint64_t hash() const override { return hash_; }
  std::vector<std::string> files() const override { return {file_}; }

 private:
  void load(const std::string& model) {
    std::string reason = "its normalisation leads out of its tables";
    if (charsmaps_are_sound(model)) {
      try {
        const auto status = processor_.LoadFromSerializedProto(model);
        if (status.ok()) return;
        reason = "the library says: " + status.ToString();
      } catch (const std::exception& error) {
        reason = std::string("the library says: ") + error.what();
      }
    }
    throw input_error(file_ + ": no SentencePiece model (" + reason +
                      "). Name the tokenizer.model that belongs to the tokens");
  }

  std::string file_;
  uint64_t hash_ = 0;
  sentencepiece::SentencePieceProcessor processor_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& file) {
  return std::make_unique<SentencePieceTokenizer>(file);
}

}  // namespace normlab
