#include "data/manifest.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {

Format manifest_format(const std::string& folder) {
  Manifest manifest;
  manifest.tokenizer = "gpt2:.";
  manifest.tokenizer_hash = 0x0123456789abcdef;
  manifest.vocabulary = 50257;
  manifest.end_of_text = 50256;
  manifest.shards = {{"train-00000.bin", 100, 7, 1, 0}, {"val-00000.bin", 10, 1, ~0ull, 0}};
  Format format;
  const auto text_of = [&] {
    write_manifest(folder, manifest);
    return read_bytes(folder + "/manifest.json");
  };
  format.files.push_back(text_of());
  manifest.rows = RowLayout{5, 50256};
  manifest.shards = {{"train-00000.bin", 100, 20, 1, 2}};
  format.files.push_back(text_of());
  const std::string sound = format.files.front();
  format.files.push_back(std::string(sound).insert(
      sound.find('{') + 1, "\"more\": " + std::string(20000, '[') + std::string(20000, ']') + ","));
  format.tokens = {"\"tokenizer\"",
                   "\"shards\"",
                   "\"file\"",
                   "\"tokens\"",
                   "\"documents\"",
                   "\"rows\"",
                   "\"length\"",
                   "\"pad\"",
                   "null",
                   "true",
                   "{",
                   "}",
                   "[",
                   "]",
                   ",",
                   ":",
                   "\"",
                   "-",
                   "../",
                   "\\u0000",
                   "sentencepiece:",
                   "bytes",
                   "gpt2:",
                   "ffffffffffffffff"};
  format.read = [folder](const std::string& bytes) {
    write_bytes(folder + "/manifest.json", bytes);
    const auto read = read_manifest(folder);
    if (!read) return;
    tokenizer_of(*read, folder);
    read->tokens();
    read->documents();
  };
  return format;
}

}  // namespace normlab::fuzz
