#include "data/text_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "data/document_source.h"
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
    starts_.push_back(static_cast<int64_t>(tokens_.size()));
    add(text);
    add_end();
  }
  void append(const std::vector<DocumentPart>& parts) {
    starts_.push_back(static_cast<int64_t>(tokens_.size()));
    for (const DocumentPart& part : parts) {
      add(part.text);
      if (part.learnt) add_end();
      learnt_.resize(tokens_.size(), part.learnt ? 1 : 0);
    }
  }

  TokenCorpus corpus() && {
    return {describe(tokenizer_), std::move(tokens_), std::move(starts_), std::move(learnt_)};
  }

 private:
  void add(std::string_view text) {
    const std::vector<uint16_t> encoded = tokenizer_.encode(text);
    tokens_.insert(tokens_.end(), encoded.begin(), encoded.end());
  }
  void add_end() {
    const int32_t end_of_text = tokenizer_.end_of_text();
    if (end_of_text >= 0) tokens_.push_back(static_cast<uint16_t>(end_of_text));
  }

  const Tokenizer& tokenizer_;
  std::vector<uint16_t> tokens_;
  std::vector<int64_t> starts_;
  std::vector<uint8_t> learnt_;  // of prompts with completions
};

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

// The corpora of a file, of which a part is for validation: of a text its end, of JSON lines the
// last documents.
void append_text(const std::string& file, double validation_fraction, Collector& train,
                 Collector& validation) {
  Document document;
  open_documents({file}, {})->next(document);
  const std::string_view text = document.text;
  size_t cut = text.size();
  if (validation_fraction > 0) {
    try {
      cut = validation_start(document.text, validation_fraction);
    } catch (const Error& error) {
      throw error.at(file);
    }
    validation.append(text.substr(cut));
  }
  train.append(text.substr(0, cut));
}

void append(Collector& corpus, const Document& document) {
  if (document.parts.empty()) {
    corpus.append(document.text);
  } else {
    corpus.append(document.parts);
  }
}

void append_json_lines(const std::string& file, const SourceOptions& options,
                       double validation_fraction, Collector& train, Collector& validation) {
  const auto source = open_documents({file}, options);
  std::vector<Document> documents;
  for (Document document; source->next(document);) documents.push_back(std::move(document));
  const size_t count = documents.size();
  const auto of_validation =
      static_cast<size_t>(std::llround(static_cast<double>(count) * validation_fraction));
  if (validation_fraction > 0 && (of_validation == 0 || of_validation == count)) {
    throw input_error(file + ": too few documents to split (" + std::to_string(count) +
                      ", of which " + std::to_string(of_validation) + " would be for validation)" +
                      ". Give more or another data.validation_fraction");
  }
  for (size_t i = 0; i < count; ++i) {
    append(i < count - of_validation ? train : validation, documents[i]);
  }
}

void require_split(const std::vector<std::string>& files, double validation_fraction) {
  if (files.empty()) throw input_error("no text files given (an empty list). Name at least one");
  if (validation_fraction >= 0 && validation_fraction < 1) return;
  throw input_error("data.validation_fraction = " + std::to_string(validation_fraction) +
                    " (must be at least 0 and below 1). Set it to 0.1");
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
  require_split(files, validation_fraction);
  Collector train(tokenizer), validation(tokenizer);
  for (const std::string& file : files) {
    if (holds_json_lines(file)) {
      append_json_lines(file, {}, validation_fraction, train, validation);
    } else {
      append_text(file, validation_fraction, train, validation);
    }
  }
  return {std::move(train).corpus(), std::move(validation).corpus()};
}

TokenCorpus read_text(const std::vector<std::string>& files, const Tokenizer& tokenizer) {
  return read_text(files, tokenizer, 0).train;
}

SplitCorpus read_prompts(const std::vector<std::string>& files, const Tokenizer& tokenizer,
                         const ChatRoles& roles, double validation_fraction) {
  require_split(files, validation_fraction);
  SourceOptions options;
  options.prompts = roles;
  Collector train(tokenizer), validation(tokenizer);
  for (const std::string& file : files) {
    append_json_lines(file, options, validation_fraction, train, validation);
  }
  return {std::move(train).corpus(), std::move(validation).corpus()};
}

}  // namespace normlab
