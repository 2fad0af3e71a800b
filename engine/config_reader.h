// Section: one map of a configuration, read key by key into plain variables.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "engine/config_names.h"
#include "engine/yaml_tree.h"
#include "kernels/error.h"

namespace normlab {

// What a floating-point value must be; `text` says it in the message.
struct NumberRule {
  bool (*holds)(double);
  const char* text;
};
inline constexpr NumberRule positive = {[](double x) { return x > 0; }, "must be > 0"};
// A float below 1.2e-38 loses digits, and below 1e-45 is 0.
inline constexpr NumberRule normal_float = {[](double x) { return x >= 1e-37; },
                                            "must be >= 1e-37, to be a number in single precision"};
inline constexpr NumberRule not_negative = {[](double x) { return x >= 0; }, "must be >= 0"};
inline constexpr NumberRule from_0_to_1 = {[](double x) { return x >= 0 && x <= 1; },
                                           "must be in [0, 1]"};
inline constexpr NumberRule from_0_below_1 = {[](double x) { return x >= 0 && x < 1; },
                                              "must be in [0, 1)"};
inline constexpr NumberRule above_0_to_1 = {[](double x) { return x > 0 && x <= 1; },
                                            "must be in (0, 1]"};

// Each reading function leaves its variable alone and returns false where the key is absent, and
// throws an input Error "place: section.key = value (why). what to do" where it is wrong.
class Section {
 public:
  // `path`: "" for the root. `node` may be null: a section that is not there. `place` is then the
  // place named for missing keys.
  Section(const YamlNode* node, std::string path, std::string place);

  Section section(const std::string& key) const;
  bool is_given() const { return node_ != nullptr; }
  bool has(const std::string& key) const { return find(key) != nullptr; }

  bool integer(const std::string& key, int64_t& value, int64_t least,
               int64_t most = std::numeric_limits<int64_t>::max()) const;
  bool number(const std::string& key, double& value, NumberRule rule) const;
  // A list of exactly as many numbers.
  bool numbers(const std::string& key, const std::vector<double*>& values, NumberRule rule) const;
  bool boolean(const std::string& key, bool& value) const;
  bool text(const std::string& key, std::string& value) const;  // not empty
  // A list of texts, or one text for a list of one.
  bool texts(const std::string& key, std::vector<std::string>& values) const;
  bool is_map(const std::string& key) const;
  // The keys of a map whose keys are free names (data.validation); empty where it is no map.
  std::vector<std::string> free_keys(const std::string& key) const;
  // Lists below such a map.
  std::vector<std::string> texts_of(const std::string& key, const std::string& name) const;
  // `planned`: words of the contract that the program cannot yet act on.
  template <typename Choice, size_t count>
  bool choice(const std::string& key, Choice& value,
              const std::array<ChoiceName<Choice>, count>& names,
              const std::vector<std::string>& planned = {}) const {
    std::vector<std::string> words;
    for (const ChoiceName<Choice>& entry : names) words.emplace_back(entry.name);
    std::optional<size_t> index = word(key, words, planned);
    if (index) value = names[*index].choice;
    return index.has_value();
  }

  void require(const std::string& key, const std::string& advice) const;
  // The Error for a key whose value does not go with another; `value` stands where it is a default.
  Error error(const std::string& key, const std::string& value, const std::string& why,
              const std::string& advice) const;

 private:
  const YamlNode* find(const std::string& key) const;
  std::string path_of(const std::string& key) const;
  std::optional<size_t> word(const std::string& key, const std::vector<std::string>& words,
                             const std::vector<std::string>& planned) const;

  const YamlNode* node_;
  std::string path_;
  std::string place_;
};

}  // namespace normlab
