#include "engine/nonfinite.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/numbers.h"

namespace normlab {
namespace {

constexpr int64_t kBlock = 1 << 18;  // numbers on the host at once

void add_row(Ops& ops, ConstTensor row, int64_t index, Nonfinite& found) {
  for (int64_t first = 0; first < row.columns(); first += kBlock) {
    const ConstTensor block = row.column_slice(first, std::min(kBlock, row.columns() - first));
    const std::vector<double> numbers = download_numbers(ops, block);
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (std::isfinite(numbers[i])) continue;
      if (found.count++ > 0) continue;
      found.row = index;
      found.column = first + static_cast<int64_t>(i);
      found.value = numbers[i];
    }
  }
}

// Parameters in the order in which a step meets them: first the weights, as the forward pass goes,
// then the gradients, as the backward pass does.
uint64_t first_of_own(const Model& model) {
  const auto& parameters = model.parameters();
  const uint64_t count = parameters.size();
  for (uint64_t i = 0; i < count; ++i) {
    if (find_nonfinite(model.ops(), parameters[i].value).count > 0) return i;
  }
  for (uint64_t i = 0; i < count; ++i) {
    if (find_nonfinite(model.ops(), parameters[count - 1 - i].gradient).count > 0) return count + i;
  }
  return std::numeric_limits<uint64_t>::max();
}

}  // namespace

Nonfinite find_nonfinite(Ops& ops, ConstTensor tensor) {
  Nonfinite found;
  if (!tensor || tensor.dtype == DType::i32) return found;
  if (!tensor.contiguous()) {
    for (int64_t row = 0; row < tensor.rows(); ++row) {
      add_row(ops, tensor.row_slice(row, 1), row, found);
    }
    return found;
  }
  // Few large transfers.
  add_row(ops, tensor.reshaped({1, tensor.elements()}), 0, found);
  if (found.count == 0) return found;
  found.row = found.column / tensor.columns();
  found.column %= tensor.columns();
  return found;
}

std::string first_nonfinite(const Model& model, Communicator& communicator) {
  const std::vector<uint64_t> of_ranks = communicator.gather(first_of_own(model));
  const auto first = std::min_element(of_ranks.begin(), of_ranks.end());
  const auto& parameters = model.parameters();
  std::string text;
  if (*first < parameters.size()) {
    text = "the weight " + parameters[*first].name;
  } else if (*first < 2 * parameters.size()) {
    text = "the gradient of " + parameters[2 * parameters.size() - 1 - *first].name;
  } else {
    return "the sum of the gradients' squares (each of them is)";
  }
  if (of_ranks.size() > 1) text += " on rank " + std::to_string(first - of_ranks.begin());
  return text;
}

}  // namespace normlab
