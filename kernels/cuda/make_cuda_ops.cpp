// Which CUDA device there is, and the operations on it.
#include <cmath>

#include "kernels/bf16_gradients_ops.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/pure_bf16.h"
#include "kernels/cuda_ops.h"

namespace normlab {
namespace {

int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

// A launcher may show each process a GPU of its own; then that is the one, whatever its number.
void choose_device(int gpu) {
  const int count = device_count();
  if (count > 1 && gpu >= count) {
    throw input_error("run.device = cuda, GPU " + std::to_string(gpu) +
                      " counted from 0 (there are " + std::to_string(count) +
                      "). Start as many ranks on each machine as it has GPUs");
  }
  check_cuda(cudaSetDevice(count > 1 ? gpu : 0), "choosing the CUDA device");
}

// The levels of kernels/cpu/pure_bf16.h.
std::unique_ptr<Ops> make_pure_bf16(Precision precision) {
  auto cuda = std::make_unique<CudaOps<BFloat16>>(Masters::none);
  if (precision == Precision::pure_bf16_weights) return cuda;
  CudaOps<BFloat16>& device = *cuda;
  const auto add_rounded = [&device](Tensor sum, ConstTensor more) {
    device.add_rounded(sum, more);
  };
  if (precision == Precision::pure_bf16_gradients) {
    return std::make_unique<Bf16GradientsOps>(std::move(cuda), add_rounded);
  }
  return std::make_unique<Bf16GradientsOps>(std::make_unique<CudaBf16ForwardOps>(std::move(cuda)),
                                            add_rounded);
}

}  // namespace

std::unique_ptr<Ops> make_cuda_ops(Precision precision, int gpu) {
  if (!cuda_available()) {
    throw input_error("run.device = cuda (" + cuda_status() + "). Use device: cpu or auto");
  }
  choose_device(gpu);
  switch (precision) {
    case Precision::fp32:
      return std::make_unique<CudaOps<float>>();
    case Precision::bf16:
      return std::make_unique<CudaOps<BFloat16>>();
    case Precision::pure_bf16_weights:
    case Precision::pure_bf16_gradients:
    case Precision::pure_bf16_forward:
      return make_pure_bf16(precision);
    case Precision::fp64:
      break;
  }
  throw input_error(
      "run.precision is double, with device: cuda (double is for checks, on the CPU). Use another, "
      "or "
      "run.device: cpu");
}

bool cuda_available() { return device_count() > 0; }

std::string cuda_status() {
  int driver = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return "no CUDA driver on this machine";
  }
  int count = 0;
  const cudaError_t counted = cudaGetDeviceCount(&count);
  if (counted != cudaSuccess) return cudaGetErrorString(counted);
  if (count == 0) return "no CUDA device on this machine";
  int device = 0;
  cudaDeviceProp properties;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) status = cudaGetDeviceProperties(&properties, device);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  constexpr double kGibibyte = 1 << 30;
  return std::string(properties.name) + ", compute capability " + std::to_string(properties.major) +
         "." + std::to_string(properties.minor) + ", " +
         std::to_string(std::lround(static_cast<double>(properties.totalGlobalMem) / kGibibyte)) +
         " GiB";
}

}  // namespace normlab
