#include "engine/analysis/numbers.h"

#include "engine/weights.h"

namespace normlab {

std::vector<double> download_numbers(Ops& ops, ConstTensor tensor) {
  if (tensor.dtype == DType::f64) {
    std::vector<double> values(static_cast<size_t>(tensor.elements()));
    ops.download(values.data(), tensor);
    return values;
  }
  const std::vector<float> narrow = download_floats(ops, tensor);
  return {narrow.begin(), narrow.end()};
}

void upload_numbers(Ops& ops, Tensor tensor, const std::vector<double>& values) {
  if (tensor.dtype == DType::f64) {
    ops.upload(tensor, values.data());
    return;
  }
  upload_floats(ops, tensor, {values.begin(), values.end()});
}

}  // namespace normlab
