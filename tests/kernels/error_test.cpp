#include "kernels/error.h"

#include "catch.h"

using namespace normlab;

TEST_CASE("Error: a message is one line whatever a file has put into it") {
  const std::string message = input_error("a.yaml:3: key \"\n\x1b[2J\t\x7f\"").at("x\r").what();
  CHECK(message == "x\\x0d: a.yaml:3: key \"\\x0a\\x1b[2J\\x09\\x7f\"");
  CHECK(one_line("σ = 1, \xff") == "σ = 1, \xff");
}
