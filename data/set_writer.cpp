#include "data/set_writer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "data/output_file.h"
#include "kernels/error.h"
#include "kernels/random.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

// Independent 64 bits for each document.
uint64_t draw(uint64_t seed, int64_t number) {
  return mix(mix(seed) ^ static_cast<uint64_t>(number));
}

// In [0, 1).
double uniform(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

// In [0, count). Off by a part in 2^64 / count, which no one can see.
int64_t below(uint64_t bits, int64_t count) {
  return static_cast<int64_t>(bits % static_cast<uint64_t>(count));
}

std::optional<RowLayout> row_layout(const SetOptions& options, const Tokenizer& tokenizer) {
  if (options.row_length == 0) return std::nullopt;
  return RowLayout{options.row_length, std::max(tokenizer.end_of_text(), 0)};
}

void check_options(const SetOptions& options) {
  if (!(options.validation_fraction >= 0 && options.validation_fraction <= 1)) {
    throw input_error("--validation-fraction " + std::to_string(options.validation_fraction) +
                      " (it is from 0 to 1). Take 0.01");
  }
  if (options.validation_fraction > 0 && options.validation_documents > 0) {
    throw input_error(
        "--validation-fraction and --validation-documents together (either decides "
        "alone). Leave one out");
  }
}

void copy_file(const std::string& from, const std::string& to) {
  std::ifstream stream(from, std::ios::binary);
  if (!stream) throw input_error(from + ": cannot be read any more. Run again");
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  OutputFile output(to);
  output.write(bytes.data(), bytes.size());
  output.finish();
}

}  // namespace

SetWriter::SetWriter(std::string directory, const SetOptions& options, const Tokenizer& tokenizer)
    : directory_(std::move(directory)),
      options_(options),
      tokenizer_(tokenizer),
      rows_(row_layout(options, tokenizer)),
      train_(directory_, "train", options.shard_tokens, rows_),
      validation_(directory_, "val", options.shard_tokens, rows_) {
  check_options(options);
}

void SetWriter::add(std::vector<uint16_t> document) {
  const int64_t number = documents_++;
  const int32_t end_of_text = tokenizer_.end_of_text();
  const bool has_end = options_.end == DocumentEnd::end_of_text && end_of_text >= 0;
  if (document.empty() && (rows_ || !has_end)) {
    ++empty_documents_;
    return;
  }
  if (has_end) document.push_back(static_cast<uint16_t>(end_of_text));
  if (options_.validation_documents > 0) {
    reserve({number, std::move(document)});
  } else if (uniform(draw(options_.seed, number)) < options_.validation_fraction) {
    validation_.add(document);
  } else {
    train_.add(document);
  }
}

// Algorithm R (Vitter 1985, "Random sampling with a reservoir"): after n documents each of them is
// reserved with the same probability. What is put out goes to training.
void SetWriter::reserve(Reserved document) {
  const int64_t seen = static_cast<int64_t>(reserved_.size()) + train_.documents() + 1;
  if (seen <= options_.validation_documents) {
    reserved_.push_back(std::move(document));
    return;
  }
  const int64_t place = below(draw(options_.seed, document.number), seen);
  if (place < options_.validation_documents) {
    std::swap(reserved_[static_cast<size_t>(place)], document);
  }
  train_.add(document.tokens);
}

// Returns the tokenizer's name as seen from the set's directory.
std::string SetWriter::copy_tokenizer() const {
  const std::vector<std::string> files = tokenizer_.files();
  const std::string name = tokenizer_.name();
  const std::string kind = name.substr(0, name.find(':'));
  if (kind == "sentencepiece") {
    // Under the name that others look for, whatever its own.
    copy_file(files.front(), directory_ + "/tokenizer.model");
    return "sentencepiece:tokenizer.model";
  }
  for (const std::string& file : files) {
    copy_file(file, directory_ + "/" + fs::path(file).filename().string());
  }
  return files.empty() ? name : kind + ":.";
}

Manifest SetWriter::finish() {
  std::ranges::sort(reserved_, {}, &Reserved::number);
  for (const Reserved& document : reserved_) validation_.add(document.tokens);
  reserved_.clear();
  const bool validates = options_.validation_fraction > 0 || options_.validation_documents > 0;
  const bool trains = options_.validation_fraction < 1;
  if ((trains && train_.documents() == 0) || (validates && validation_.documents() == 0)) {
    throw input_error("of " + std::to_string(documents_) + " documents " +
                      std::to_string(validation_.documents()) + " are for validation and " +
                      std::to_string(train_.documents()) +
                      " for training (each needs one). Give more, or another part of them");
  }
  Manifest manifest;
  manifest.tokenizer = copy_tokenizer();
  manifest.tokenizer_hash = tokenizer_.hash();
  manifest.vocabulary = tokenizer_.vocabulary();
  manifest.end_of_text = tokenizer_.end_of_text();
  manifest.rows = rows_;
  manifest.shards = train_.finish();
  for (ManifestShard& shard : validation_.finish()) manifest.shards.push_back(std::move(shard));
  write_manifest(directory_, manifest);
  return manifest;
}

}  // namespace normlab
