#include "engine/questions.h"

#include <array>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stop_token>

#include "data/byte_source.h"
#include "data/json_text.h"

namespace normlab {
namespace {

using nlohmann::json;

constexpr const char* kShape =
    R"(Each line is {"query": text, "choices": [texts], "gold": number of the right one, from 0})";

std::string read_all(const std::string& file) {
  const auto source = open_bytes(file, std::stop_token{});
  std::string text;
  std::vector<char> block(1 << 16);
  try {
    for (size_t count = 1; count > 0; text.append(block.data(), count)) {
      count = source->read(block);
    }
  } catch (const Error& error) {
    throw error.at(file);
  }
  return text;
}

json parse_line(const std::string& line) {
  try {
    return parse_json_text<json>(line);
  } catch (const json::exception& error) {
    const std::string reason = error.what();  // and then what it read, which may be long
    throw input_error("is not JSON (" + reason.substr(0, reason.find("; last read")) + "). " +
                      kShape);
  }
}

const json& value_of(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) {
    throw input_error(std::string("no key \"") + key + "\". " + kShape);
  }
  return *found;
}

Error wrong_type(const std::string& what, const json& value, const char* wanted) {
  return input_error(what + " is " + value.type_name() + " (" + wanted + " is wanted). " + kShape);
}

std::string text_of(const json& value, const std::string& what) {
  if (!value.is_string()) throw wrong_type(what, value, "a text");
  return value.get<std::string>();
}

Question parse_question(const std::string& line) {
  const json object = parse_line(line);
  if (!object.is_object()) throw wrong_type("the line", object, "an object");
  Question question;
  question.query = text_of(value_of(object, "query"), "\"query\"");
  const json& choices = value_of(object, "choices");
  if (!choices.is_array()) throw wrong_type("\"choices\"", choices, "a list of texts");
  for (const json& choice : choices) {
    question.choices.push_back(
        text_of(choice, "choice " + std::to_string(question.choices.size())));
  }
  if (choices.empty()) throw input_error(std::string("there are no choices. ") + kShape);
  const json& gold = value_of(object, "gold");
  if (!gold.is_number_integer()) throw wrong_type("\"gold\"", gold, "a whole number");
  // What lies beyond 64 bits with a sign lies outside too.
  const bool inside = gold.get<int64_t>() >= 0 && gold.get<uint64_t>() < choices.size();
  if (!inside) {
    throw input_error("\"gold\" is " + gold.dump() + " (the choices are 0 to " +
                      std::to_string(choices.size() - 1) + "). " + kShape);
  }
  question.gold = gold.get<int64_t>();
  return question;
}

}  // namespace

std::vector<Question> read_questions(const std::string& file) {
  std::istringstream lines(read_all(file));
  std::vector<Question> questions;
  std::string line;
  for (int64_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    const std::string place = file + ":" + std::to_string(number);
    try {
      questions.push_back(parse_question(line));
    } catch (const Error& error) {
      throw error.at(place);
    }
    questions.back().place = place;
  }
  if (questions.empty()) {
    throw input_error(file + ": holds no question. " + kShape);
  }
  return questions;
}

}  // namespace normlab
