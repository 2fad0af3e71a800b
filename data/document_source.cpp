#include "data/document_source.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "data/byte_source.h"
#include "data/json_lines.h"
#include "data/piece_reader.h"
#include "kernels/error.h"

namespace normlab {
namespace {

std::string place_of(const std::string& file) { return file == "-" ? "standard input" : file; }

bool is_json_lines(const std::string& file, const SourceOptions& options) {
  if (file == "-") return options.document_separator.empty();
  return holds_json_lines(file);
}

bool is_blank(const std::string& line) {
  return line.find_first_not_of(" \t\r\n") == std::string::npos;
}

// The documents of one file.
class FileDocuments {
 public:
  FileDocuments(const std::string& file, const SourceOptions& options)
      : file_(file),
        options_(options),
        json_lines_(is_json_lines(file, options)),
        pieces_(open_bytes(file, options.stop), json_lines_ ? "\n" : options.document_separator) {}

  bool next(Document& document) {
    try {
      if (json_lines_ ? next_line(document) : next_text(document)) return true;
    } catch (const Error& error) {
      const bool in_line = error.kind() == ErrorKind::input && json_lines_ && within_line_;
      throw error.at(place_of(file_) + (in_line ? ":" + std::to_string(pieces_read_) : ""));
    }
    if (documents_ == 0 && !options_.stop.stop_requested()) {
      throw input_error(place_of(file_) + ": empty (it holds no document). Leave it out");
    }
    return false;
  }
  int64_t bytes_read() const { return pieces_.bytes_read(); }

 private:
  bool next_line(Document& document) {
    within_line_ = false;
    do {
      if (!pieces_.next(line_)) return false;
      ++pieces_read_;
    } while (is_blank(line_));
    within_line_ = true;
    ++documents_;
    parse_json_line(document, line_, options_);
    return true;
  }

  bool next_text(Document& document) {
    do {
      if (!pieces_.next(document.text)) return false;
      if (pieces_read_++ > 0) drop_line_break(document.text);
    } while (document.text.empty());
    ++documents_;
    return true;
  }

  static void drop_line_break(std::string& text) {
    if (text.starts_with("\r\n")) text.erase(0, 2);
    if (text.starts_with('\n')) text.erase(0, 1);
  }

  std::string file_;
  const SourceOptions& options_;
  bool json_lines_;
  PieceReader pieces_;
  std::string line_;
  int64_t pieces_read_ = 0;  // of JSON lines: the line's number
  bool within_line_ = false;
  int64_t documents_ = 0;
};

class FilesSource final : public DocumentSource {
 public:
  FilesSource(const std::vector<std::string>& files, const SourceOptions& options)
      : files_(files), options_(options), bytes_total_(stored_bytes(files)) {}

  bool next(Document& document) override {
    while (current_ != nullptr || next_file_ < files_.size()) {
      if (current_ == nullptr) {
        current_ = std::make_unique<FileDocuments>(files_[next_file_++], options_);
      }
      if (current_->next(document)) return true;
      bytes_before_ += current_->bytes_read();
      current_.reset();
      if (options_.stop.stop_requested()) return false;
    }
    return false;
  }
  int64_t bytes_read() const override {
    return bytes_before_ + (current_ == nullptr ? 0 : current_->bytes_read());
  }
  int64_t bytes_total() const override { return bytes_total_; }

 private:
  std::vector<std::string> files_;
  SourceOptions options_;
  int64_t bytes_total_;
  size_t next_file_ = 0;
  std::unique_ptr<FileDocuments> current_;
  int64_t bytes_before_ = 0;  // of the files that are done
};

}  // namespace

bool holds_json_lines(const std::string& file) {
  std::string_view name = file;
  if (name.ends_with(".gz")) {
    name.remove_suffix(3);
  } else if (name.ends_with(".zst")) {
    name.remove_suffix(4);
  }
  return name.ends_with(".jsonl") || name.ends_with(".json");
}

std::unique_ptr<DocumentSource> open_documents(const std::vector<std::string>& files,
                                               const SourceOptions& options) {
  if (files.empty()) throw input_error("no text files given (an empty list). Name at least one");
  if (std::count(files.begin(), files.end(), "-") > 1) {
    throw input_error("- is named twice (standard input can be read once). Name it once");
  }
  for (const std::string& file : files) {
    if (is_json_lines(file, options)) continue;
    if (options.prompts) {
      throw input_error(place_of(file) + ": text (prompts are read from JSON lines only). Give " +
                        "files named .jsonl or .json");
    }
    if (options.ids_key.empty()) continue;
    throw input_error(place_of(file) + ": text (ids are read from JSON lines only). Give files " +
                      "named .jsonl or .json, or leave --ids-key out");
  }
  return std::make_unique<FilesSource>(files, options);
}

}  // namespace normlab
