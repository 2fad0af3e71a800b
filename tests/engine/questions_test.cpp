#include "engine/questions.h"

#include "catch.h"
#include "kernels/error.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

constexpr const char* kGood = R"({"query": "q", "choices": ["a", "b"], "gold": 1})";

// What is said of a file's second line, after its place.
std::string refusal(const TemporaryFolder& folder, const std::string& line) {
  const std::string file = folder.write("q.jsonl", std::string(kGood) + "\n" + line + "\n");
  try {
    read_questions(file);
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(error.kind() == ErrorKind::input);
    REQUIRE(message.starts_with(file + ":2: "));
    return message.substr(file.size() + 4);
  }
  return "no error";
}

}  // namespace

TEST_CASE("questions: text, choices and the right one, line by line, other keys left alone") {
  const TemporaryFolder folder;
  const std::string file = folder.write(
      "q.jsonl", "\xEF\xBB\xBF" + std::string(kGood) + "\r\n\n  \n" +
                     R"({"gold": 0, "id": [7], "choices": ["\u00e9 \n"], "query": ""})");
  const std::vector<Question> questions = read_questions(file);
  REQUIRE(questions.size() == 2);
  CHECK(questions[0].query == "q");
  CHECK(questions[0].choices == std::vector<std::string>{"a", "b"});
  CHECK(questions[0].gold == 1);
  CHECK(questions[0].place == file + ":1");
  CHECK(questions[1].query.empty());
  CHECK(questions[1].choices == std::vector<std::string>{"\u00e9 \n"});
  CHECK(questions[1].place == file + ":4");
}

TEST_CASE("questions: what is wrong with a line is said with its number") {
  const TemporaryFolder folder;
  for (const auto& [line, problem] : std::vector<std::pair<std::string, std::string>>{
           {"{", "is not JSON ("},
           {"\"\xff\"", "is not JSON ("},
           {"[1]", "the line is array (an object is wanted). Each line is {\"query\": text, "},
           {R"({"choices": ["a"], "gold": 0})", "no key \"query\". "},
           {R"({"query": "q", "gold": 0})", "no key \"choices\". "},
           {R"({"query": "q", "choices": ["a"]})", "no key \"gold\". "},
           {R"({"query": 1, "choices": ["a"], "gold": 0})", "\"query\" is number (a text is"},
           {R"({"query": "q", "choices": "a", "gold": 0})", "\"choices\" is string (a list"},
           {R"({"query": "q", "choices": ["a", null], "gold": 0})", "choice 1 is null (a text"},
           {R"({"query": "q", "choices": [], "gold": 0})", "there are no choices. "},
           {R"({"query": "q", "choices": ["a"], "gold": "0"})", "\"gold\" is string (a whole"},
           {R"({"query": "q", "choices": ["a"], "gold": true})", "\"gold\" is boolean (a whole"},
           {R"({"query": "q", "choices": ["a"], "gold": 0.5})", "\"gold\" is number (a whole"},
           {R"({"query": "q", "choices": ["a"], "gold": 1})",
            "\"gold\" is 1 (the choices are 0 to"},
           {R"({"query": "q", "choices": ["a"], "gold": -1})", "\"gold\" is -1 (the choices are"},
           {R"({"query": "q", "choices": ["a"], "gold": 9223372036854775808})",
            "\"gold\" is 922"}}) {
    const std::string said = refusal(folder, line);
    INFO(line);
    INFO(said);
    CHECK(said.starts_with(problem));
  }
}

TEST_CASE("questions: a file without one, or that is not there") {
  const TemporaryFolder folder;
  const std::string blank = folder.write("blank.jsonl", "\n \n");
  CHECK_THROWS_WITH(read_questions(blank),
                    Catch::Matchers::StartsWith(blank + ": holds no question"));
  CHECK_THROWS_AS(read_questions(folder.path() + "/none.jsonl"), Error);
}
