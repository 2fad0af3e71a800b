// NonfiniteWatch: another Ops, which remembers the first verb that writes a number that is not
// finite.
#pragma once

#include <optional>
#include <string>

#include "engine/nonfinite.h"
#include "kernels/observed_ops.h"

namespace normlab {

class NonfiniteWatch final : public ObservedOps {
 public:
  struct Finding {
    std::string verb;       // "linear_forward"
    std::string parameter;  // that it reads, or whose gradient or value it writes; "": none
    std::string after;      // where it has none: that of the verb before which had one
    enum class Of { rows, gradient, weight } of = Of::rows;  // sequences', or the parameter's
    int64_t rows = 0, columns = 0;                           // of the tensor that it wrote
    Nonfinite numbers;
    double largest_input = 0;  // in magnitude, over all that the verb reads
    // Sequences [first, last) of the step, counted in the global batch, that the numbers can be of,
    // and the token within one, where there is only one (−1: not known).
    int64_t first_sequence = 0, last_sequence = 0;
    int64_t token = -1;
  };

  using ObservedOps::ObservedOps;
  // From now on every verb is looked at; the model is this Ops's.
  void look_at(const Model& model) { model_ = &model; }
  const std::optional<Finding>& finding() const { return finding_; }

  void set_step_state(const StepState& state) override;
  void embedding_forward(Tensor x, ConstTensor tokens, ConstTensor token_table,
                         ConstTensor position_table, int64_t first_position) override;

 private:
  void observe(const ObservedVerb& verb, const std::function<void()>& run) override;
  std::string parameter_of(const ObservedVerb& verb) const;
  // Names the parameter whose gradient or value has the number, if one has.
  void find_owner(Finding& finding, ConstTensor tensor) const;
  void place(Finding& finding, ConstTensor tensor) const;
  // The head goes through the rows of a pass in chunks.
  void follow_head(const ObservedVerb& verb);
  double largest_of(const ObservedVerb& verb);

  const Model* model_ = nullptr;
  std::optional<Finding> finding_;
  std::string last_parameter_;
  int64_t first_sequence_ = 0;  // of the pass
  int64_t batch_ = 0, tokens_ = 0;
  int64_t chunk_begin_ = 0, chunk_rows_ = 0;
};

}  // namespace normlab
