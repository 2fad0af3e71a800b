// JSON from files that others wrote.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "kernels/error.h"

namespace normlab {

// Parses as Json::parse does, and throws an input Error (without a place) for what nests deeper
// than any file of ours or of Hugging Face's: copying, comparing and writing a value takes stack
// for every level of it.
template <typename Json>
Json parse_json_text(const std::string& text) {
  constexpr int deepest = 64;
  return Json::parse(text, [](int depth, typename Json::parse_event_t, const Json&) {
    if (depth > deepest) {
      throw input_error("is not JSON that is meant (it nests deeper than " +
                        std::to_string(deepest) + " levels). Copy or make the file anew");
    }
    return true;
  });
}

}  // namespace normlab
