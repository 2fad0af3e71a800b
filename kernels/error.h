// The one exception of the program, and the one check of a contract.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>

namespace normlab {

// Who can help, and so which exit code main() gives (tools/main.h).
enum class ErrorKind {
  input,          // the command line, the configuration or an input file is wrong
  failure,        // anything else that goes wrong at run time
  diverged,       // the loss diverged or stayed non-finite
  communication,  // another rank failed
  stopped,        // a signal asked for it; the same command goes on
};

// The text with its control characters written as "\x0a": what a damaged file puts into a message
// must not break the line or command the terminal.
inline std::string one_line(const std::string& text) {
  constexpr char digits[] = "0123456789abcdef";
  std::string line;
  for (const char letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    if (code >= 0x20 && code != 0x7f) {
      line += letter;
    } else {
      line += {'\\', 'x', digits[code / 16], digits[code % 16]};
    }
  }
  return line;
}

// Worded "<problem> (<why>). <what to do>". The thrower knows the fact; whoever knows the place
// (a file, a line, a step) catches, adds it with `at`, and throws again.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message)
      : std::runtime_error(one_line(message)), kind_(kind) {}
  explicit Error(const std::string& message) : Error(ErrorKind::failure, message) {}

  ErrorKind kind() const { return kind_; }
  // The same error with "place: " before its message.
  Error at(const std::string& place) const { return {kind_, place + ": " + what()}; }

 private:
  ErrorKind kind_;
};

inline Error input_error(const std::string& message) { return {ErrorKind::input, message}; }

// Throws an Error that names the caller's file and line where a contract between two rooms is
// broken: a mistake of ours, never of the user's.
inline void check(bool holds, const char* contract,
                  std::source_location place = std::source_location::current()) {
  if (!holds) {
    throw Error(std::string(contract) + " does not hold (" + place.file_name() + ":" +
                std::to_string(place.line()) + "). This is a defect of normlab; please report it");
  }
}

}  // namespace normlab
