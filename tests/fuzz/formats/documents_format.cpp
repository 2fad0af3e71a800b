#include "data/document_source.h"
#include "tests/data/packed.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {
namespace {

const std::string kLines =
    "\xEF\xBB\xBF{\"text\": \"One day.\\nAnother, \\u00e4 \\ud83d\\ude00.\", \"ids\": [1, 2, "
    "65535]}\n"
    "{\"meta\": {\"text\": \"inner\"}, \"text\": \"\", \"ids\": []}\r\n"
    "\n"
    "{\"text\": \"the last\", \"ids\": [0], \"more\": [null, true, 1.5e3, {\"a\": []}]}";

std::vector<std::string> tokens_of_json() {
  return {"\"text\"", "\"ids\"", "\"meta\"", "null", "true", "{",       "}",
          "[",        "]",       ",",        ":",    "\"",   "\\ud800", "\\u0000",
          "\n",       "\r\n",    "-1",       "1e99", "\\",   "\xff",    "\xEF\xBB\xBF"};
}

void read_all(const std::string& path, const SourceOptions& options) {
  const auto source = open_documents({path}, options);
  Document document;
  while (source->next(document)) {
  }
}

Format documents(const std::string& path, const std::vector<std::string>& files,
                 const std::vector<SourceOptions>& ways) {
  Format format;
  format.files = files;
  format.tokens = tokens_of_json();
  // One way a file, so that an Error of one does not keep it from the others.
  format.read = [path, ways](const std::string& bytes) {
    write_bytes(path, bytes);
    read_all(path, ways[bytes.size() % ways.size()]);
  };
  return format;
}

SourceOptions way(const std::string& key, const std::string& ids_key,
                  const std::string& separator) {
  SourceOptions options;
  options.key = key;
  options.ids_key = ids_key;
  options.document_separator = separator;
  return options;
}

std::vector<SourceOptions> ways_of_lines() {
  return {way("text", "", ""), way("meta.text", "", ""), way("text", "ids", "")};
}

std::string nested_line() {
  return "{\"more\": " + std::string(20000, '[') + std::string(20000, ']') + ", \"text\": \"a\"}\n";
}

// Long enough for blocks of every kind.
std::string many_lines() {
  std::string lines;
  for (int line = 0; line < 200; ++line) {
    lines += "{\"text\": \"line " + std::to_string(line * line) + "\", \"ids\": [1, 2]}\n";
  }
  return lines;
}

}  // namespace

Format json_lines_format(const std::string& folder) {
  return documents(folder + "/a.jsonl", {kLines, kLines, kLines, nested_line()}, ways_of_lines());
}

Format gzip_format(const std::string& folder) {
  return documents(folder + "/a.jsonl.gz",
                   {test::gzip_of(kLines), test::gzip_of(many_lines()),
                    test::gzip_of(kLines + "\n") + test::gzip_of(kLines),
                    test::gzip_of(std::string(1 << 20, '\n') + kLines)},
                   ways_of_lines());
}

Format zstd_format(const std::string& folder) {
  return documents(folder + "/a.jsonl.zst",
                   {test::zstd_of(kLines), test::zstd_of(many_lines()),
                    test::zstd_of(kLines + "\n") + test::zstd_of(kLines),
                    test::zstd_by_hand("{\"text\": \"by hand\"}\n"),
                    test::zstd_of(std::string(1 << 20, '\n') + kLines)},
                   ways_of_lines());
}

Format text_format(const std::string& folder) {
  const std::string separator = "<|endoftext|>";
  Format format = documents(
      folder + "/a.txt", {"one" + separator + "\ntwo\r\n" + separator + separator + "three", "a\n"},
      {way("", "", separator), way("", "", "")});
  format.tokens = {separator, "<|", "|>", "\n", "\xEF\xBB\xBF", "\xff"};
  return format;
}

}  // namespace normlab::fuzz
