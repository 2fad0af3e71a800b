#include "data/gpt2_vocabulary_json.h"

#include <iterator>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "data/gpt2_byte_characters.h"
#include "kernels/error.h"

namespace normlab {
namespace {

constexpr size_t kMostTokens = 65536;  // tokens are stored as uint16

// Reads characters and counts the lines that were begun.
class LineCounter {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  LineCounter(const char* at, int64_t* line) : at_(at), line_(line) {}
  reference operator*() const { return *at_; }
  LineCounter& operator++() {
    if (*at_ == '\n') ++*line_;
    ++at_;
    return *this;
  }
  LineCounter operator++(int) {
    const LineCounter before = *this;
    ++*this;
    return before;
  }
  bool operator==(const LineCounter& other) const { return at_ == other.at_; }
  bool operator!=(const LineCounter& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  int64_t* line_;
};

// Takes one flat object in; throws at the first thing that is something else.
class EntryReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  EntryReader(const std::string& file, const int64_t& line) : file_(file), line_(line) {}

  std::vector<Gpt2Entry> take() { return std::move(entries_); }

  bool start_object(std::size_t) override {
    if (in_object_) refuse_value("an object");
    in_object_ = true;
    return true;
  }
  bool key(string_t& token) override {
    if (entries_.size() == kMostTokens) {
      refuse("a vocabulary beyond 65536 tokens (ids are stored in 16 bits)", "Use a smaller one");
    }
    const auto [first, is_new] = lines_.emplace(token, line_);
    if (!is_new) {
      refuse("token " + quoted_token(token) + " is there twice (line " +
                 std::to_string(first->second) + " has it already)",
             kRemedy);
    }
    entries_.push_back({token, 0, line_});
    return true;
  }
  bool number_unsigned(number_unsigned_t id) override {
    if (!in_object_ || id >= kMostTokens) refuse_value(std::to_string(id));
    entries_.back().id = static_cast<uint32_t>(id);
    return true;
  }
  bool end_object() override { return true; }
  bool null() override { return refuse_value("null"); }
  bool boolean(bool) override { return refuse_value("true or false"); }
  bool number_integer(number_integer_t id) override { return refuse_value(std::to_string(id)); }
  bool number_float(number_float_t, const string_t& text) override { return refuse_value(text); }
  bool string(string_t& text) override { return refuse_value(quoted_token(text)); }
  bool binary(binary_t&) override { return refuse_value("binary data"); }
  bool start_array(std::size_t) override { return refuse_value("an array"); }
  bool end_array() override { return true; }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    refuse("not JSON from byte " + std::to_string(position) + " of the file on", kRemedy);
  }

 private:
  static constexpr const char* kRemedy = "Use the vocab.json of a GPT-2 tokenizer";

  [[noreturn]] void refuse(const std::string& problem, const std::string& remedy) const {
    throw input_error(file_ + ":" + std::to_string(line_) + ": " + problem + ". " + remedy);
  }
  bool refuse_value(const std::string& value) const {
    if (!in_object_) refuse(value + " in place of an object of tokens and their ids", kRemedy);
    refuse("token " + quoted_token(entries_.back().token) + " has " + value +
               " for its id (a whole number from 0 to 65535)",
           kRemedy);
  }

  const std::string& file_;
  const int64_t& line_;
  bool in_object_ = false;
  std::vector<Gpt2Entry> entries_;
  std::unordered_map<std::string, int64_t> lines_;  // by token
};

}  // namespace

std::vector<Gpt2Entry> parse_gpt2_vocabulary(const std::string& content, const std::string& file) {
  int64_t line = 1;
  EntryReader reader(file, line);
  nlohmann::json::sax_parse(LineCounter(content.data(), &line),
                            LineCounter(content.data() + content.size(), &line), &reader);
  return reader.take();
}

}  // namespace normlab
