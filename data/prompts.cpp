#include "data/prompts.h"

#include <string>

#include "kernels/error.h"

namespace normlab {
namespace {

using nlohmann::json;

constexpr const char* kShape =
    R"(Each line is {"prompt": text, "completion": text} or {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]})";

Error wrong_type(const std::string& what, const json& value, const char* wanted) {
  return input_error(what + " is " + value.type_name() + " (" + wanted + " is wanted). " + kShape);
}

const std::string& text_at(const json& object, const char* key, const std::string& of) {
  const auto found = object.find(key);
  if (found == object.end()) {
    throw input_error(of + "no key \"" + key + "\". " + kShape);
  }
  if (!found->is_string()) throw wrong_type(of + "\"" + key + "\"", *found, "a text");
  return found->get_ref<const std::string&>();
}

// Texts that are not learnt are joined, so that the tokenizer sees them as one.
class Parts {
 public:
  void prompt(const std::string& text) {
    if (parts_.empty() || parts_.back().learnt) parts_.emplace_back();
    parts_.back().text += text;
  }
  void learn(const std::string& text, const std::string& what) {
    if (text.empty()) {
      throw input_error(what + " is empty (there is nothing to learn). Leave the line out");
    }
    parts_.push_back({text, true});
  }
  // Without what no text to learn follows; empty where there is none.
  std::vector<DocumentPart> take() {
    if (!parts_.empty() && !parts_.back().learnt) parts_.pop_back();
    return std::move(parts_);
  }

 private:
  std::vector<DocumentPart> parts_;
};

std::vector<DocumentPart> read_chat(const json& messages, const ChatRoles& roles) {
  if (!messages.is_array()) throw wrong_type("\"messages\"", messages, "a list of turns");
  Parts parts;
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string turn = "turn " + std::to_string(i + 1) + ": ";
    const json& message = messages[i];
    if (!message.is_object()) throw wrong_type(turn + "it", message, "an object");
    const std::string& role = text_at(message, "role", turn);
    const std::string& content = text_at(message, "content", turn);
    if (role == "assistant") {
      parts.prompt(roles.assistant);
      parts.learn(content, turn + "the assistant's \"content\"");
    } else if (role == "user" || role == "system") {
      parts.prompt((role == "user" ? roles.user : roles.system) + content + "\n");
    } else {
      throw input_error(turn + "\"role\" is another than system, user and assistant. " + kShape);
    }
  }
  std::vector<DocumentPart> read = parts.take();
  if (read.empty()) {
    throw input_error(std::string("no turn is the assistant's (there is nothing to learn). ") +
                      kShape);
  }
  return read;
}

}  // namespace

std::vector<DocumentPart> read_parts(const json& object, const ChatRoles& roles) {
  if (!object.is_object()) throw wrong_type("the line", object, "an object");
  const auto messages = object.find("messages");
  if (messages != object.end()) return read_chat(*messages, roles);
  Parts parts;
  parts.prompt(text_at(object, "prompt", ""));
  parts.learn(text_at(object, "completion", ""), "\"completion\"");
  return parts.take();
}

}  // namespace normlab
