// Weights that are a function of their names, so that golden files need not hold them: number() of
// make_placements.py.
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "models/parameter.h"

namespace normlab::test {

// 0.4·sin(k + 0.7e + 0.013e²), k = Σ (i + 1)·character i mod 997; around 1 where it is a factor.
inline std::vector<double> named_numbers(const Parameter& parameter) {
  int64_t key = 0;
  for (size_t i = 0; i < parameter.name.size(); ++i) {
    key += static_cast<int64_t>(i + 1) * parameter.name[i];
  }
  std::vector<double> numbers(static_cast<size_t>(parameter.value.elements()));
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto e = static_cast<double>(i);
    numbers[i] = 0.4 * std::sin(static_cast<double>(key % 997) + 0.7 * e + 0.013 * e * e) +
                 (parameter.start != 0 ? 1 : 0);
  }
  return numbers;
}

}  // namespace normlab::test
