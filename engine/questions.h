// Multiple-choice questions from a file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace normlab {

struct Question {
  std::string query;
  std::vector<std::string> choices;  // at least one
  int64_t gold = 0;                  // index of the right one
  std::string place;                 // "questions.jsonl:3", for messages
};

// From JSON lines {"query": text, "choices": [texts], "gold": number}, packed (.gz, .zst) or not,
// "-" for standard input; other keys are not looked at, blank lines left out. Throws an input Error
// that names file and line for what is malformed, and for a file without a question.
std::vector<Question> read_questions(const std::string& file);

}  // namespace normlab
