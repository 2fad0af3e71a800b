// Helper of the Hugging Face name maps.
#pragma once

#include <string>
#include <vector>

#include "models/parameter.h"

namespace normlab {

// Collects the slices of one configuration's parameters.
class NameMap {
 public:
  explicit NameMap(const ModelConfig& config) : parameters_(parameter_list(config)) {}

  // A whole parameter; vectors have shape (n) in files.
  void whole(const std::string& file_name, const std::string& name) {
    const Parameter& whole = parameter(name);
    if (whole.rule == InitRule::normal) {  // a matrix
      rows(file_name, name, 0, whole.value.rows());
    } else {
      elements(file_name, name, 0, whole.value.columns());
    }
  }
  // The same, of a parameter that some configurations lack.
  void whole_if_any(const std::string& file_name, const std::string& name) {
    if (find_parameter_or_none(parameters_, name) >= 0) whole(file_name, name);
  }
  // [in, out] in the file.
  void turned(const std::string& file_name, const std::string& name) {
    const Shape shape = parameter(name).value.shape;
    slices_.push_back({file_name, find_parameter(parameters_, name), 0, shape.rows(),
                       Shape{shape.columns(), shape.rows()}, true});
  }
  // Some rows of a matrix.
  void rows(const std::string& file_name, const std::string& name, int64_t first, int64_t count) {
    slices_.push_back({file_name, find_parameter(parameters_, name), first, count,
                       Shape{count, parameter(name).value.columns()}, false});
  }
  // Some elements of a vector.
  void elements(const std::string& file_name, const std::string& name, int64_t first,
                int64_t count) {
    slices_.push_back(
        {file_name, find_parameter(parameters_, name), first, count, Shape{count}, false});
  }
  std::vector<NamedSlice> take() { return std::move(slices_); }

 private:
  const Parameter& parameter(const std::string& name) const {
    return parameters_[static_cast<size_t>(find_parameter(parameters_, name))];
  }

  std::vector<Parameter> parameters_;
  std::vector<NamedSlice> slices_;
};

// Row of a table of published sizes.
struct PublishedSize {
  const char* name;
  int64_t width, feed_forward, heads, layers, vocabulary, context;
};

}  // namespace normlab
