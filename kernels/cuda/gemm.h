// Gemm: dense products on a GPU, by cuBLASLt. Its only user is linear.cu.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <map>
#include <memory>

#include "kernels/tensor.h"

namespace normlab {

enum class Transpose { no, yes };

// A row-major matrix as it lies in memory; `transpose` says how it enters the product.
struct Operand {
  ConstTensor matrix;
  Transpose transpose = Transpose::no;
};

// What of the target enters the result.
enum class Target { overwritten, accumulated };

class Gemm {
 public:
  Gemm();
  ~Gemm();
  Gemm(const Gemm&) = delete;
  Gemm& operator=(const Gemm&) = delete;

  // y (m,n) = op(a) (m,k) · op(b) (k,n) + bias (n; may be empty), or the same added to y, where no
  // bias may be. a, b, bias of one type, f32 or bf16; y of that type or f32. Sums in f32 (never
  // TF32); deterministic. Enqueues. Throws Error where cuBLASLt has no way for a shape.
  void operator()(Tensor y, const Operand& a, const Operand& b, ConstTensor bias, Target target,
                  cudaStream_t stream);

 private:
  struct Library;  // handle, workspace, plans
  std::unique_ptr<Library> library_;
};

}  // namespace normlab
