// Reading files for the rules: the tree, and what of a file is code.
#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

#include "tests/house/rules.h"

namespace normlab::house {

namespace {

constexpr std::string_view rooms[] = {"kernels", "models", "data",      "engine",
                                      "tools",   "tests",  "benchmarks"};
constexpr std::string_view extensions[] = {".h", ".cuh", ".cpp", ".cu", ".py"};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

bool in_identifier(char character) {
  return std::isalnum(static_cast<unsigned char>(character)) != 0 || character == '_';
}

// The end of the literal that begins with a quote at `begin`; at the latest the end of its line.
size_t end_of_literal(const std::string& text, size_t begin) {
  size_t end = begin + 1;
  while (end < text.size() && text[end] != text[begin] && text[end] != '\n') {
    end += text[end] == '\\' ? 2 : 1;
  }
  return end + 1;
}

// The end of the comment or literal that begins at `begin`, or `begin` where none does.
size_t end_of_blank(const std::string& text, size_t begin) {
  const auto past = [&](std::string_view closing, size_t from) {
    const size_t at = text.find(closing, from);
    return at == std::string::npos ? text.size() : at + closing.size();
  };
  // Part of a name or of a number: 1'000 opens no literal.
  const bool continues = begin > 0 && in_identifier(text[begin - 1]);
  if (text.compare(begin, 2, "//") == 0) return std::min(text.find('\n', begin), text.size());
  if (text.compare(begin, 2, "/*") == 0) return past("*/", begin + 2);
  if (text.compare(begin, 2, "R\"") == 0 && !continues) {
    const size_t open = std::min(text.find('(', begin), text.size());
    std::string closing(1, ')');
    closing.append(text, begin + 2, open - begin - 2).append(1, '"');
    return past(closing, open);
  }
  if (text[begin] == '"' || (text[begin] == '\'' && !continues)) {
    return std::min(end_of_literal(text, begin), text.size());
  }
  return begin;
}

std::string code_of(std::string text) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = end_of_blank(text, begin);
    for (size_t i = begin; i < end; ++i) {
      if (text[i] != '\n') text[i] = ' ';
    }
    begin = std::max(end, begin + 1);
  }
  return text;
}

}  // namespace

SourceFile source_file(std::string path, std::string_view content) {
  const std::string text(content);
  return {std::move(path), lines_of(text), lines_of(code_of(text))};
}

std::vector<SourceFile> source_tree(const std::string& root) {
  namespace fs = std::filesystem;
  std::vector<SourceFile> files;
  for (std::string_view room : rooms) {
    if (!fs::is_directory(fs::path(root) / room)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(root) / room)) {
      const std::string extension = entry.path().extension().string();
      if (!entry.is_regular_file() || std::ranges::count(extensions, extension) == 0) continue;
      std::ifstream stream(entry.path(), std::ios::binary);
      const std::string content{std::istreambuf_iterator<char>(stream), {}};
      files.push_back(source_file(fs::relative(entry.path(), root).generic_string(), content));
    }
  }
  std::ranges::sort(files, {}, &SourceFile::path);
  return files;
}

std::string message(const Violation& violation) {
  return violation.path + ":" + std::to_string(violation.line) + ": " + violation.rule;
}

}  // namespace normlab::house
