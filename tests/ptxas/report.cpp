#include "tests/ptxas/report.h"

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <regex>
#include <sstream>
#include <stdexcept>

namespace normlab::ptxas {
namespace {

std::string demangled(const std::string& symbol) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(symbol.c_str(), nullptr, nullptr, &status), std::free);
  return status == 0 ? std::string(text.get()) : symbol;
}

// The number that follows `word` in `text`; `absent` where the word is not there.
int number_after(std::string_view text, std::string_view word, int absent) {
  const size_t at = text.find(word);
  if (at == std::string_view::npos) return absent;
  return std::atoi(std::string(text.substr(at + word.size(), 16)).c_str());
}

// Reads the lines that belong to the kernel which was begun last.
void read_line(FileReport& report, const std::string& line) {
  static const std::regex begin("Compiling entry function '(\\S+)' for '(\\w+)'");
  static const std::regex spill("(\\d+) bytes spill stores, (\\d+) bytes spill loads");
  static const std::regex registers("Used (\\d+) registers");
  static const std::regex advisory("\\(C75\\d\\d\\).*");
  std::smatch found;
  if (std::regex_search(line, found, advisory)) report.advisories.push_back(found[0]);
  if (std::regex_search(line, found, begin)) {
    report.kernels.push_back({found[1], kernel_name(found[1]), found[2]});
    return;
  }
  if (report.kernels.empty()) return;
  KernelReport& kernel = report.kernels.back();
  if (std::regex_search(line, found, spill)) {
    kernel.spilled_bytes = std::max(std::stoi(found[1]), std::stoi(found[2]));
  }
  if (std::regex_search(line, found, registers)) kernel.registers = std::stoi(found[1]);
}

}  // namespace

FileReport read_report(const std::string& file, const std::string& record) {
  FileReport report;
  report.file = file;
  std::istringstream lines(record);
  std::string word;
  if (!(lines >> word) || word != "object" || !std::getline(lines >> std::ws, report.object) ||
      !(lines >> word) || word != "seconds" || !(lines >> report.seconds)) {
    throw std::runtime_error(file + ": the record of its compilation is broken");
  }
  for (std::string line; std::getline(lines, line);) read_line(report, line);
  return report;
}

std::string kernel_name(const std::string& symbol) {
  // void normlab::(anonymous namespace)::norm<float, 4>(float*, int)
  std::string text = demangled(symbol);
  constexpr std::string_view unnamed = "(anonymous namespace)::";
  for (size_t at = text.find(unnamed); at != std::string::npos; at = text.find(unnamed)) {
    text.erase(at, unnamed.size());
  }
  size_t begin = 0;
  int depth = 0;  // within a template's arguments
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '<') ++depth;
    if (text[i] == '>') --depth;
    if (depth > 0) continue;
    if (text[i] == '(') return text.substr(begin, i - begin);
    if (text[i] == ' ' || text[i] == ':') begin = i + 1;
  }
  return text.substr(begin);
}

std::map<std::string, LaunchBounds> read_launch_bounds(std::string_view object) {
  std::map<std::string, LaunchBounds> bounds;
  constexpr std::string_view entry = ".entry ";
  for (size_t at = object.find(entry); at != std::string_view::npos; at = object.find(entry, at)) {
    at += entry.size();
    const std::string_view head = object.substr(at, object.find('{', at) - at);
    const std::string symbol(head.substr(0, head.find_first_of("( \n")));
    // A block of (x, y, z) threads: ".maxntid 256, 1, 1".
    LaunchBounds& kernel = bounds[symbol];
    const size_t extents = head.find(".maxntid ");
    if (extents == std::string_view::npos) continue;
    kernel.threads = 1;
    std::istringstream numbers(std::string(head.substr(extents + 9, 64)));
    char comma = ',';
    for (int extent = 1; comma == ',' && numbers >> extent;) {
      kernel.threads *= extent;
      comma = ' ';
      numbers >> comma;
    }
    kernel.blocks = number_after(head, ".minnctapersm ", 1);
  }
  return bounds;
}

}  // namespace normlab::ptxas
