// How rows of attention are made, for the table of operators and for tests that want more of them.
#pragma once

#include "tests/op_cases.h"

namespace normlab {

// Where q, k and v lie: side by side in one tensor "qkv", or q in "q", k and v in "kv".
enum class AttentionLayout { packed, apart };

struct AttentionSetting {
  AttentionShape shape;
  double dropout = 0;
  AttentionLayout layout = AttentionLayout::packed;
  Fill fill = {};

  std::string queries() const { return layout == AttentionLayout::packed ? "qkv" : "q"; }
  std::string keys() const { return layout == AttentionLayout::packed ? "qkv" : "kv"; }
  int64_t key_column() const {
    return layout == AttentionLayout::packed ? shape.heads * shape.head_size : 0;
  }
  int64_t value_column() const { return key_column() + shape.kv_heads * shape.head_size; }
  bool differentiates() const { return shape.query_tokens == shape.key_tokens; }
};

// Forward, and backward where there are as many keys as queries. Rows have paddings that are no
// whole vectors.
OpCase attention_case(const std::string& name, double bound, const AttentionSetting& setting);

}  // namespace normlab
