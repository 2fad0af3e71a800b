#include "data/gpt2_bpe.h"

#include <mutex>
#include <span>

#include "data/gpt2_merger.h"
#include "data/gpt2_vocabulary.h"
#include "data/gpt2_word_cache.h"
#include "data/gpt2_words.h"
#include "data/utf8.h"
#include "kernels/error.h"

namespace normlab {
namespace {

// What one call of encode() works in.
struct Workspace {
  Gpt2Words::Scratch match;
  Gpt2Merger::Scratch merge;
  Gpt2WordCache cache;
};

class Gpt2Tokenizer final : public Tokenizer {
 public:
  explicit Gpt2Tokenizer(const std::string& directory)
      : directory_(directory),
        vocabulary_(read_gpt2_vocabulary(files()[0], files()[1])),
        hash_(hash_of(vocabulary_)),
        merger_(vocabulary_) {}

  std::vector<uint16_t> encode(std::string_view text) const override {
    std::string replaced;
    if (well_formed_bytes(text) < text.size()) {
      replaced = with_replacements(text);
      text = replaced;
    }
    std::vector<uint16_t> tokens;
    tokens.reserve(text.size() / 3 + 1);
    std::unique_ptr<Workspace> workspace = take_workspace();
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = words_.word_end(text, begin, workspace->match);
      append(tokens, text.substr(begin, end - begin), *workspace);
      begin = end;
    }
    give_back(std::move(workspace));
    return tokens;
  }

  std::string decode(const std::vector<uint16_t>& tokens) const override {
    std::string text;
    for (const uint16_t token : tokens) {
      if (token >= vocabulary_.tokens.size()) {
        throw input_error("token " + std::to_string(token) + " is not in the vocabulary (" +
                          name() + " has " + std::to_string(vocabulary()) +
                          " tokens). Use the tokenizer the tokens come from");
      }
      if (token != vocabulary_.end_of_text) text += vocabulary_.tokens[token];
    }
    return text;
  }

  int64_t vocabulary() const override { return static_cast<int64_t>(vocabulary_.tokens.size()); }
  int32_t end_of_text() const override { return vocabulary_.end_of_text; }
  std::string name() const override { return "gpt2:" + directory_; }
  uint64_t hash() const override { return hash_; }
  std::vector<std::string> files() const override {
    return {directory_ + "/vocab.json", directory_ + "/merges.txt"};
  }

 private:
  void append(std::vector<uint16_t>& tokens, std::string_view word, Workspace& workspace) const {
    const std::span<const uint16_t> known = workspace.cache.find(word);
    if (!known.empty()) {
      tokens.insert(tokens.end(), known.begin(), known.end());
      return;
    }
    const size_t before = tokens.size();
    merger_.merge(tokens, word, workspace.merge);
    workspace.cache.keep(word, std::span(tokens).subspan(before));
  }

  // One that no other call is using, with the words of earlier calls in its cache.
  std::unique_ptr<Workspace> take_workspace() const {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Workspace>(Workspace{words_.scratch(), {}, {}});
    std::unique_ptr<Workspace> workspace = std::move(free_.back());
    free_.pop_back();
    return workspace;
  }

  void give_back(std::unique_ptr<Workspace> workspace) const {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(workspace));
  }

  std::string directory_;
  Gpt2Vocabulary vocabulary_;
  uint64_t hash_;
  Gpt2Words words_;
  Gpt2Merger merger_;
  mutable std::mutex mutex_;  // of free_
  mutable std::vector<std::unique_ptr<Workspace>> free_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_gpt2_tokenizer(const std::string& directory) {
  return std::make_unique<Gpt2Tokenizer>(directory);
}

}  // namespace normlab
