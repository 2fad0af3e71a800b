#include "data/text_reader.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "kernels/error.h"

namespace normlab {
namespace {

// A line break within this many bytes is worth moving the cut for.
constexpr size_t kNearBytes = 4096;

// A corpus that grows document by document.
class Collector {
 public:
  explicit Collector(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void append(std::string_view text) {
    const std::vector<uint16_t> document = tokenizer_.encode(text);
    starts_.push_back(static_cast<int64_t>(tokens_.size()));
    tokens_.insert(tokens_.end(), document.begin(), document.end());
    const int32_t end_of_text = tokenizer_.end_of_text();
    if (end_of_text >= 0) tokens_.push_back(static_cast<uint16_t>(end_of_text));
  }

  TokenCorpus corpus() && { return {describe(tokenizer_), std::move(tokens_), std::move(starts_)}; }

 private:
  const Tokenizer& tokenizer_;
  std::vector<uint16_t> tokens_;
  std::vector<int64_t> starts_;
};

std::string read_file(const std::string& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) {
    throw input_error(file + ": no such file (" + (error ? error.message() : "missing") +
                      "). Check data.text");
  }
  if (std::filesystem::is_directory(status)) {
    throw input_error(file + ": a directory (a text file is wanted). Name the files in it");
  }
  std::ifstream stream(file, std::ios::binary);
  if (!stream) {
    throw input_error(file + ": cannot be read (" + std::strerror(errno) + "). Check its rights");
  }
  std::string text;
  std::vector<char> block(size_t{1} << 20);
  do {  // in blocks, since a pipe has no size to ask for
    stream.read(block.data(), static_cast<std::streamsize>(block.size()));
    text.append(block.data(), static_cast<size_t>(stream.gcount()));
  } while (stream);
  if (stream.bad()) throw Error(file + ": reading failed (disk or network). Run again");
  if (text.empty()) throw input_error(file + ": empty (0 bytes). Leave it out or give it text");
  return text;
}

// Where the validation document begins: at a line if one begins near, else at least not inside a
// UTF-8 character; in any case something is left on both sides.
size_t validation_start(const std::string& text, double validation_fraction) {
  const auto wanted = static_cast<double>(text.size()) * validation_fraction;
  const auto validation_bytes = static_cast<size_t>(std::llround(wanted));
  if (validation_bytes == 0 || validation_bytes >= text.size()) {
    throw input_error("too short to split (" + std::to_string(text.size()) + " bytes, of which " +
                      std::to_string(validation_bytes) + " would be for validation). Give a " +
                      "longer text or another data.validation_fraction");
  }
  const size_t cut = text.size() - validation_bytes;
  const size_t line_break = text.find('\n', cut - 1);  // cut - 1: the cut itself may begin a line
  if (line_break < cut + std::min(kNearBytes, validation_bytes / 2)) return line_break + 1;
  size_t character = cut;
  while (character < text.size() && (text[character] & 0xC0) == 0x80) ++character;
  return character < text.size() ? character : cut;
}

}  // namespace

CorpusDescription describe(const Tokenizer& tokenizer) {
  CorpusDescription description;
  description.vocabulary = tokenizer.vocabulary();
  description.end_of_text = tokenizer.end_of_text();
  description.tokenizer = tokenizer.name();
  description.tokenizer_hash = tokenizer.hash();
  return description;
}

TokenCorpus make_corpus(const std::vector<std::string>& documents, const Tokenizer& tokenizer) {
  Collector collector(tokenizer);
  for (const std::string& document : documents) collector.append(document);
  return std::move(collector).corpus();
}

SplitCorpus read_text(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                      double validation_fraction) {
  if (files.empty()) throw input_error("no text files given (an empty list). Name at least one");
  if (!(validation_fraction >= 0 && validation_fraction < 1)) {
    throw input_error("data.validation_fraction = " + std::to_string(validation_fraction) +
                      " (must be at least 0 and below 1). Set it to 0.1");
  }
  Collector train(tokenizer), validation(tokenizer);
  for (const std::string& file : files) {
    const std::string text = read_file(file);
    const std::string_view view = text;
    size_t cut = text.size();
    if (validation_fraction > 0) {
      try {
        cut = validation_start(text, validation_fraction);
      } catch (const Error& error) {
        throw error.at(file);
      }
      validation.append(view.substr(cut));
    }
    train.append(view.substr(0, cut));
  }
  return {std::move(train).corpus(), std::move(validation).corpus()};
}

TokenCorpus read_text(const std::vector<std::string>& files, const Tokenizer& tokenizer) {
  return read_text(files, tokenizer, 0).train;
}

}  // namespace normlab
