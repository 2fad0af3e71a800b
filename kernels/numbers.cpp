#include "kernels/numbers.h"

#include <algorithm>

#include "kernels/bfloat16.h"

namespace normlab {
namespace {

template <typename Stored>
std::vector<Stored> download_as(Ops& ops, ConstTensor tensor) {
  std::vector<Stored> values(static_cast<size_t>(tensor.elements()));
  ops.download(values.data(), tensor);
  return values;
}

}  // namespace

std::vector<double> download_numbers(Ops& ops, ConstTensor tensor) {
  switch (tensor.dtype) {
    case DType::f64:
      return download_as<double>(ops, tensor);
    case DType::f32: {
      const std::vector<float> stored = download_as<float>(ops, tensor);
      return {stored.begin(), stored.end()};
    }
    case DType::bf16: {
      const std::vector<BFloat16> stored = download_as<BFloat16>(ops, tensor);
      std::vector<double> values(stored.size());
      std::transform(stored.begin(), stored.end(), values.begin(), to_float);
      return values;
    }
    case DType::i32:
      break;
  }
  throw Error("numbers of a tensor of a type that holds none");
}

void upload_numbers(Ops& ops, Tensor tensor, const std::vector<double>& values) {
  const auto upload = [&](const auto& stored) { ops.upload(tensor, stored.data()); };
  switch (tensor.dtype) {
    case DType::f64:
      return upload(values);
    case DType::f32:
      return upload(std::vector<float>(values.begin(), values.end()));
    case DType::bf16: {
      std::vector<BFloat16> stored(values.size());
      // By way of float, as masters are rounded.
      std::transform(values.begin(), values.end(), stored.begin(),
                     [](double value) { return round_to_bfloat16(static_cast<float>(value)); });
      return upload(stored);
    }
    case DType::i32:
      break;
  }
  throw Error("numbers for a tensor of a type that holds none");
}

}  // namespace normlab
