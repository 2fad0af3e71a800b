// Which rows belong to special tokens.
#pragma once

#include "kernels/ops.h"

namespace normlab {

class SpecialRows {
 public:
  explicit SpecialRows(const SpecialTokens& special) : special_(special) {}
  bool operator()(int64_t row) const {
    const ConstTensor& tokens = special_.tokens;
    if (!tokens) return false;
    const int64_t token = row % tokens.columns();
    const int32_t id = tokens.as<int32_t>()[row / tokens.columns() * tokens.row_stride + token];
    return (special_.first && token == 0) || id == special_.id;
  }

 private:
  SpecialTokens special_;
};

}  // namespace normlab
