// Numbers of pure_bf16.json.
#pragma once

#include <string>
#include <vector>

#include "kernels/bfloat16.h"

namespace normlab::test {

// Four hexadecimal digits each.
inline std::vector<float> bf16_numbers(const std::string& digits) {
  std::vector<float> numbers;
  for (size_t i = 0; i < digits.size(); i += 4) {
    const unsigned long bits = std::stoul(digits.substr(i, 4), nullptr, 16);
    numbers.push_back(to_float({static_cast<uint16_t>(bits)}));
  }
  return numbers;
}

}  // namespace normlab::test
