#include "engine/nonfinite_watch.h"

#include <algorithm>
#include <cmath>

#include "kernels/numbers.h"

namespace normlab {
namespace {

// Whether a view begins within a tensor that is contiguous.
bool begins_in(ConstTensor view, ConstTensor whole) {
  return view && whole && view.data >= whole.data &&
         view.data < whole.data + whole.elements() * size_of(whole.dtype);
}

}  // namespace

void NonfiniteWatch::set_step_state(const StepState& state) {
  first_sequence_ = state.first_sequence;
  ObservedOps::set_step_state(state);
}

void NonfiniteWatch::embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                                       ConstTensor position_table, int64_t first_position) {
  batch_ = tokens.rows();
  tokens_ = tokens.columns();
  chunk_rows_ = 0;
  ObservedOps::embedding_forward(x, tokens, token_table, position_table, first_position);
}

std::string NonfiniteWatch::parameter_of(const ObservedVerb& verb) const {
  for (const Parameter& parameter : model_->parameters()) {
    for (const ConstTensor input : verb.inputs) {
      if (begins_in(input, parameter.value)) return parameter.name;
    }
    for (const Tensor output : verb.outputs) {
      if (begins_in(output, parameter.gradient)) return parameter.name;
    }
  }
  return "";
}

void NonfiniteWatch::find_owner(Finding& finding, ConstTensor tensor) const {
  const Nonfinite& numbers = finding.numbers;
  const ConstTensor number = tensor.row_slice(numbers.row, 1).column_slice(numbers.column, 1);
  for (const Parameter& parameter : model_->parameters()) {
    const bool is_gradient = begins_in(number, parameter.gradient);
    if (!is_gradient && !begins_in(number, parameter.value)) continue;
    finding.of = is_gradient ? Finding::Of::gradient : Finding::Of::weight;
    finding.parameter = parameter.name;
  }
}

void NonfiniteWatch::follow_head(const ObservedVerb& verb) {
  const Tensor input = model_->final_activation();
  for (const ConstTensor tensor : verb.inputs) {
    if (!begins_in(tensor, input) || tensor.rows() >= input.rows()) continue;
    chunk_begin_ = (tensor.data - input.data) / (input.row_stride * size_of(input.dtype));
    chunk_rows_ = tensor.rows();
  }
}

void NonfiniteWatch::place(Finding& finding, ConstTensor tensor) const {
  finding.first_sequence = first_sequence_;
  finding.last_sequence = first_sequence_ + batch_;
  if (finding.of != Finding::Of::rows || batch_ == 0) return;
  const int64_t rows = batch_ * tokens_;
  int64_t row = finding.numbers.row;
  const bool of_chunk = tensor.rows() != rows && tensor.rows() == chunk_rows_;
  if (of_chunk) row += chunk_begin_;
  int64_t sequence = 0;
  if (of_chunk || tensor.rows() == rows) {
    sequence = row / tokens_;
    finding.token = row % tokens_;
  } else if (tensor.rows() % batch_ == 0) {
    sequence = row / (tensor.rows() / batch_);
  } else {
    return;
  }
  finding.first_sequence += sequence;
  finding.last_sequence = finding.first_sequence + 1;
}

double NonfiniteWatch::largest_of(const ObservedVerb& verb) {
  double largest = 0;
  for (const ConstTensor tensor : verb.inputs) {
    if (!tensor || tensor.dtype == DType::i32) continue;
    for (int64_t row = 0; row < tensor.rows(); ++row) {
      for (const double number : download_numbers(ops(), tensor.row_slice(row, 1))) {
        if (std::isfinite(number)) largest = std::max(largest, std::fabs(number));
      }
    }
  }
  return largest;
}

void NonfiniteWatch::observe(const ObservedVerb& verb, const std::function<void()>& run) {
  if (model_ == nullptr || finding_) return run();
  follow_head(verb);
  run();
  const std::string parameter = parameter_of(verb);
  for (const Tensor output : verb.outputs) {
    const Nonfinite numbers = find_nonfinite(ops(), output);
    if (numbers.count == 0) continue;
    Finding finding;
    finding.verb = verb.name;
    finding.numbers = numbers;
    finding.rows = output.rows();
    finding.columns = output.columns();
    finding.parameter = parameter;
    find_owner(finding, output);
    finding.after = last_parameter_;
    finding.largest_input = largest_of(verb);
    place(finding, output);
    finding_ = finding;
    return;
  }
  if (!parameter.empty()) last_parameter_ = parameter;
}

}  // namespace normlab
