#include "tests/conformance/compare.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <sstream>

#include "kernels/error.h"

namespace normlab::conformance {
namespace {

std::string hexadecimal(uint32_t word) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", word);
  return text;
}

std::string agreement_text(const Line& line) {
  std::ostringstream text;
  switch (line.agreement) {
    case Agreement::bits:
      return "bits";
    case Agreement::ulps:
      text << "ulps:" << line.bound;
      return text.str();
    case Agreement::within:
      text << "within:" << line.bound;
      return text.str();
  }
  throw Error("unknown agreement");
}

void read_agreement(Line& line, const std::string& text) {
  const std::string word = text.substr(0, text.find(':'));
  if (word == "bits") {
    line.agreement = Agreement::bits;
  } else if (word == "ulps" || word == "within") {
    line.agreement = word == "ulps" ? Agreement::ulps : Agreement::within;
    line.bound = std::stod(text.substr(word.size() + 1));
  } else {
    throw Error("a dump has no agreement '" + text + "'");
  }
}

// Floats in their order: neighbours differ by 1, and −0 is 0.
int64_t rank_of(uint32_t word) {
  const int64_t magnitude = word & 0x7FFFFFFFu;
  return (word >> 31) != 0 ? -magnitude : magnitude;
}

bool agree(uint32_t found, uint32_t expected, const Line& line) {
  const float a = std::bit_cast<float>(found), b = std::bit_cast<float>(expected);
  switch (line.agreement) {
    case Agreement::bits:
      return found == expected;
    case Agreement::ulps:
      if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
      if (std::isinf(a) || std::isinf(b)) return a == b;
      return std::abs(static_cast<double>(rank_of(found) - rank_of(expected))) <= line.bound;
    case Agreement::within:
      return std::abs(static_cast<double>(a) - b) <= line.bound;
  }
  return false;
}

// "" where the words agree.
std::string difference(const Line& found, const Line& expected) {
  const std::string place = expected.verb + " " + expected.name + ": ";
  if (found.words.size() != expected.words.size()) {
    return place + std::to_string(found.words.size()) +
           " words (expected: " + std::to_string(expected.words.size()) + ")";
  }
  int64_t wrong = 0;
  size_t first = 0;
  for (size_t i = expected.words.size(); i-- > 0;) {
    if (agree(found.words[i], expected.words[i], expected)) continue;
    ++wrong;
    first = i;
  }
  if (wrong == 0) return "";
  return place + std::to_string(wrong) + " of " + std::to_string(expected.words.size()) +
         " words differ, the first at " + std::to_string(first) + ": " +
         hexadecimal(found.words[first]) + " (expected: " + hexadecimal(expected.words[first]) +
         ", " + agreement_text(expected) + ")";
}

}  // namespace

std::string to_text(const std::vector<Line>& lines) {
  std::string text;
  for (const Line& line : lines) {
    text += line.verb + " " + line.name + " " + agreement_text(line);
    for (const uint32_t word : line.words) text += " " + hexadecimal(word);
    text += "\n";
  }
  return text;
}

std::vector<Line> from_text(const std::string& text) {
  std::vector<Line> lines;
  std::istringstream stream(text);
  for (std::string row; std::getline(stream, row);) {
    if (row.empty() || row[0] == '#') continue;
    std::istringstream words(row);
    Line line;
    std::string agreement;
    if (!(words >> line.verb >> line.name >> agreement)) throw Error("a dump has no line " + row);
    read_agreement(line, agreement);
    for (std::string word; words >> word;) {
      line.words.push_back(static_cast<uint32_t>(std::stoul(word, nullptr, 16)));
    }
    lines.push_back(line);
  }
  return lines;
}

std::vector<std::string> differences(const std::vector<Line>& found,
                                     const std::vector<Line>& expected) {
  const auto find = [](const std::vector<Line>& lines, const Line& wanted) {
    return std::ranges::find_if(lines, [&](const Line& line) {
      return line.verb == wanted.verb && line.name == wanted.name;
    });
  };
  std::vector<std::string> messages;
  for (const Line& line : expected) {
    const auto match = find(found, line);
    if (match == found.end()) {
      messages.push_back(line.verb + " " + line.name + ": is missing");
      continue;
    }
    const std::string message = difference(*match, line);
    if (!message.empty()) messages.push_back(message);
  }
  for (const Line& line : found) {
    if (find(expected, line) == expected.end()) {
      messages.push_back(line.verb + " " + line.name + ": is not expected");
    }
  }
  return messages;
}

}  // namespace normlab::conformance
