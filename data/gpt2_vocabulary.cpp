#include "data/gpt2_vocabulary.h"

#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>
#include <unordered_map>

#include "data/gpt2_byte_characters.h"
#include "data/gpt2_vocabulary_json.h"
#include "kernels/error.h"

namespace normlab {
namespace {

constexpr std::string_view kEndOfText = "<|endoftext|>";

std::string read_file(const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!std::filesystem::is_regular_file(file) || !stream) {
    throw input_error(file +
                      ": no such file (gpt2:DIR needs DIR/vocab.json and DIR/merges.txt). "
                      "Name the folder of a GPT-2 tokenizer");
  }
  std::string content{std::istreambuf_iterator<char>(stream), {}};
  if (stream.bad()) throw Error(file + ": reading failed. Look after the disk");
  return content;
}

// The ids as indices. Throws where one is missing or is there twice.
std::vector<const Gpt2Entry*> by_id(const std::vector<Gpt2Entry>& entries,
                                    const std::string& file) {
  std::vector<const Gpt2Entry*> ordered(entries.size());
  for (const Gpt2Entry& entry : entries) {
    const std::string place = file + ":" + std::to_string(entry.line) + ": ";
    const std::string token = "token " + quoted_token(entry.token);
    if (entry.id >= entries.size()) {
      throw input_error(place + token + " has the id " + std::to_string(entry.id) + " (" +
                        std::to_string(entries.size()) +
                        " tokens have the ids from 0 on, without a gap). Use the vocabulary as "
                        "its tokenizer was trained");
    }
    if (ordered[entry.id] != nullptr) {
      throw input_error(place + token + " has the id " + std::to_string(entry.id) + " (so has " +
                        quoted_token(ordered[entry.id]->token) +
                        "). Use the vocabulary as its tokenizer was trained");
    }
    ordered[entry.id] = &entry;
  }
  return ordered;
}

using Ids = std::unordered_map<std::string_view, uint16_t>;

void find_bytes(Gpt2Vocabulary& vocabulary, const Ids& ids, const std::string& file) {
  for (size_t byte = 0; byte < vocabulary.byte_tokens.size(); ++byte) {
    const std::string character = character_of_byte(static_cast<unsigned char>(byte));
    const auto found = ids.find(character);
    if (found == ids.end()) {
      throw input_error(file + ":1: byte " + std::to_string(byte) + " has no token (it would be " +
                        quoted_token(character) +
                        "; a byte-level BPE has one for each byte). Use the vocab.json of one");
    }
    vocabulary.byte_tokens[byte] = found->second;
  }
}

// The lines of merges.txt, which it is to outlive.
class MergeReader {
 public:
  MergeReader(const std::string& file, const Ids& ids) : file_(file), ids_(ids) {}

  void read(std::string_view content, std::vector<Gpt2Vocabulary::Merge>& merges) {
    while (!content.empty()) {
      const size_t end = std::min(content.find('\n'), content.size());
      std::string_view line = content.substr(0, end);
      content.remove_prefix(std::min(end + 1, content.size()));
      if (line.ends_with('\r')) line.remove_suffix(1);
      ++line_;
      if (line_ == 1 && line.starts_with("#version")) continue;
      const bool rest_is_empty = content.find_first_not_of("\r\n") == std::string_view::npos;
      if (line.empty() && rest_is_empty) break;
      merges.push_back(merge(line));
    }
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    throw input_error(file_ + ":" + std::to_string(line_) + ": " + problem +
                      ". Use vocab.json and merges.txt of the same tokenizer");
  }

  uint16_t id(const std::string& token, const std::string& what) const {
    const auto found = ids_.find(token);
    if (found == ids_.end()) refuse(what + quoted_token(token) + " is not in vocab.json");
    return found->second;
  }

  Gpt2Vocabulary::Merge merge(std::string_view line) {
    const size_t blank = line.find(' ');
    if (blank == std::string_view::npos || blank == 0 || blank + 1 == line.size() ||
        line.find(' ', blank + 1) != std::string_view::npos) {
      refuse(quoted_token(line) + " is no merge (two tokens with one blank between)");
    }
    const std::string left(line.substr(0, blank));
    const std::string right(line.substr(blank + 1));
    const Gpt2Vocabulary::Merge merge{id(left, "token "), id(right, "token "),
                                      id(left + right, "the merge's result ")};
    const uint32_t pair = static_cast<uint32_t>(merge.left) << 16 | merge.right;
    const auto [first, is_new] = lines_.emplace(pair, line_);
    if (!is_new) {
      refuse("the merge " + quoted_token(line) + " is there twice (line " +
             std::to_string(first->second) + " has it already)");
    }
    return merge;
  }

  const std::string& file_;
  const Ids& ids_;
  int64_t line_ = 0;
  std::unordered_map<uint32_t, int64_t> lines_;  // by pair
};

}  // namespace

Gpt2Vocabulary read_gpt2_vocabulary(const std::string& vocabulary_file,
                                    const std::string& merges_file) {
  const std::vector<Gpt2Entry> entries =
      parse_gpt2_vocabulary(read_file(vocabulary_file), vocabulary_file);
  Gpt2Vocabulary vocabulary;
  Ids ids;
  for (const Gpt2Entry* entry : by_id(entries, vocabulary_file)) {
    const auto id = static_cast<uint16_t>(entry->id);
    ids.emplace(entry->token, id);
    vocabulary.tokens.push_back(bytes_of_characters(entry->token));
    if (entry->token == kEndOfText) vocabulary.end_of_text = id;
  }
  find_bytes(vocabulary, ids, vocabulary_file);
  const std::string content = read_file(merges_file);
  MergeReader(merges_file, ids).read(content, vocabulary.merges);
  return vocabulary;
}

uint64_t hash_of(const Gpt2Vocabulary& vocabulary) {
  // The tokens of bytes and end of text follow from these.
  std::string all = "gpt2";
  const auto add = [&](uint64_t number) {
    for (int byte = 0; byte < 8; ++byte) all += static_cast<char>(number >> (8 * byte) & 0xFF);
  };
  add(vocabulary.tokens.size());
  for (const std::string& token : vocabulary.tokens) {
    add(token.size());
    all += token;
  }
  for (const auto& merge : vocabulary.merges) {
    add(merge.left);
    add(merge.right);
    add(merge.result);
  }
  return XXH3_64bits(all.data(), all.size());
}

}  // namespace normlab
