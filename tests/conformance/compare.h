// What the verbs of kernels/cuda/device.h gave on known input, as lines of text, and the comparison
// of two devices' lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace normlab::conformance {

// How far two devices may be apart. An instruction that PTX defines to the bit must give those
// bits.
enum class Agreement {
  bits,    // equal words
  ulps,    // floats, at most `bound` units in the last place apart; NaN equals NaN
  within,  // floats, at most `bound` apart
};

// "verb case bits 0123abcd …": what each thread, in order, received.
struct Line {
  std::string verb;  // or several that only work together: a+b
  std::string name;  // of the case, without blanks
  Agreement agreement = Agreement::bits;
  double bound = 0;
  std::vector<uint32_t> words;
};

std::string to_text(const std::vector<Line>& lines);

// Throws Error where `text` is no such dump. Lines that begin with # are comments.
std::vector<Line> from_text(const std::string& text);

// What `found` has otherwise than `expected`, one message for each line that differs, is missing or
// is one too many. Empty: they agree.
std::vector<std::string> differences(const std::vector<Line>& found,
                                     const std::vector<Line>& expected);

}  // namespace normlab::conformance
