#include "data/tokenizer.h"
#include "tests/fuzz/format.h"

namespace normlab::fuzz {
namespace {

std::string fixture(const std::string& name) {
  return read_bytes(std::string(SOURCE_DIRECTORY) + "/tests/data/tokenizer/" + name);
}

// A text for every tokenizer to encode and to decode.
void use(const std::string& name) {
  const auto tokenizer = make_tokenizer(name);
  const std::string text =
      "The norm before the attention's 42 naïve   façades\n\n \xff\xc3 😀\t数字 a";
  tokenizer->decode(tokenizer->encode(text));
}

}  // namespace

Format gpt2_vocabulary_format(const std::string& folder) {
  write_bytes(folder + "/merges.txt", fixture("small/merges.txt"));
  Format format;
  format.files = {fixture("small/vocab.json")};
  format.tokens = {"\"<|endoftext|>\"",
                   "\"Ġ\"",
                   "\"Ġthe\"",
                   "Ġ",
                   "Ċ",
                   "null",
                   "{}",
                   "{",
                   "}",
                   "[",
                   "]",
                   ",",
                   ":",
                   "\"",
                   "-",
                   "\\u0120",
                   "\\ud800"};
  format.read = [folder](const std::string& bytes) {
    write_bytes(folder + "/vocab.json", bytes);
    use("gpt2:" + folder);
  };
  return format;
}

Format gpt2_merges_format(const std::string& folder) {
  write_bytes(folder + "/vocab.json", fixture("small/vocab.json"));
  Format format;
  format.files = {fixture("small/merges.txt")};
  format.tokens = {"#version: 0.2\n", "\n", "\r\n", " ", "Ġ t\n", "h e\n", "Ġ", "a b c\n"};
  format.read = [folder](const std::string& bytes) {
    write_bytes(folder + "/merges.txt", bytes);
    use("gpt2:" + folder);
  };
  return format;
}

Format gpt2_text_format(const std::string& folder) {
  write_bytes(folder + "/vocab.json", fixture("small/vocab.json"));
  write_bytes(folder + "/merges.txt", fixture("small/merges.txt"));
  Format format;
  format.files = {fixture("../torture.py"),
                  "it's   IT'S\r\n\r\n x<|endoftext|>y 1a2b \xF0\x9F\x98\x80",
                  std::string(3000, 'a'), std::string(2000, ' ') + "x"};
  format.tokens = {"'s",
                   "'ll",
                   " ",
                   "\n",
                   "\xE2\x80\x8D",
                   "\xEF\xBF\xBD",
                   "\xED\xA0\x80",
                   "\xF4\x90\x80\x80",
                   "\xC0\x80",
                   std::string(1, '\0'),
                   "\xE0\xA4\x95",
                   "\xF0\x9F\x98\x80"};
  // Reading the vocabulary takes much longer than encoding; the process of the reader makes it
  // once.
  format.read = [name = "gpt2:" + folder](const std::string& text) {
    static const auto tokenizer = make_tokenizer(name);
    tokenizer->decode(tokenizer->encode(text));
  };
  return format;
}

Format sentencepiece_model_format(const std::string& folder) {
  Format format;
  format.files = {fixture("unigram.model"), fixture("bpe.model"), fixture("normalised.model")};
  format.tokens = {"<unk>", "</s>", "▁", "\x0a", "\x12", "\xff\xff\xff\xff\x0f"};
  format.read = [path = folder + "/tokenizer.model"](const std::string& bytes) {
    write_bytes(path, bytes);
    use("sentencepiece:" + path);
  };
  return format;
}

}  // namespace normlab::fuzz
