// Documents from files of text, JSON lines, or rows of ids, compressed or not; streamed.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace normlab {

// A prompt, or what is to be learnt after one.
struct DocumentPart {
  std::string text;
  bool learnt = false;
};

struct Document {
  std::string text;
  std::vector<uint16_t> ids;  // in place of text, where rows that are tokenised already are read
  std::vector<DocumentPart>
      parts;  // in place of text, where prompts are read; ends with one to learn
};

// What stands before the turns of a chat, by role.
struct ChatRoles {
  std::string system;
  std::string user = "User:\n";
  std::string assistant = "Assistant:\n";
};

struct SourceOptions {
  std::string key = "text";    // of the text in a JSON line; a.b: b in the object a
  std::string ids_key;         // not "": of the ids in a JSON line; texts are not looked at
  int64_t vocabulary = 65536;  // ids lie below
  // Given: the lines are prompts with completions, or chats (data/prompts.h).
  std::optional<ChatRoles> prompts;
  std::string document_separator;  // of a text file; "": it is one document
  std::stop_token stop;            // ends the waiting for a pipe: next() is false then
};

// Files one after another; memory is that of the longest document. A name tells the kind: *.jsonl
// and *.json hold a JSON object a line, all others are text; .gz and .zst behind it are unpacked.
// "-" is standard input: JSON lines, or text where there is a document_separator. A byte order mark
// at the beginning is dropped, and blank lines of JSON lines; of text between separators a line
// break right behind a separator, and what is then empty.
class DocumentSource {
 public:
  virtual ~DocumentSource() = default;
  // False at the end. Throws an input Error that names file and line (of JSON lines) for what is
  // malformed, lacks the key, or ends too early (truncated gzip, zstd), and for a file without a
  // document.
  virtual bool next(Document& document) = 0;
  // Of the files as they are stored: for progress. bytes_total is 0 where it is unknown (a pipe).
  virtual int64_t bytes_read() const = 0;
  virtual int64_t bytes_total() const = 0;
};

// Throws an input Error for files that are missing, empty or not to be read, and for ids or prompts
// asked of files of text.
std::unique_ptr<DocumentSource> open_documents(const std::vector<std::string>& files,
                                               const SourceOptions& options);

// Whether a file's name says that it holds JSON lines, packed or not.
bool holds_json_lines(const std::string& file);

}  // namespace normlab
