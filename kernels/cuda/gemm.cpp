// cuBLASLt computes with column-major matrices. A row-major matrix is its transpose in that order,
// and yᵀ = op(b)ᵀ · op(a)ᵀ: so b goes in first and a second, each as it lies in memory, and the
// bias, which cuBLASLt adds along the rows of its result, falls along the columns of ours.
#include "kernels/cuda/gemm.h"

#include <cublasLt.h>

#include <algorithm>
#include <compare>
#include <optional>
#include <string>

#include "kernels/cuda/cuda_ops.h"

namespace normlab {
namespace {

// NVIDIA recommends 32 MiB for Hopper, 4 MiB before (cuBLAS, "cublasSetWorkspace"); one size keeps
// memory plans alike.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void check_cublas(cublasStatus_t status, const std::string& what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(what + " failed (cuBLASLt: " + cublasLtGetStatusString(status) + ")");
}

cudaDataType_t type_of(DType dtype) {
  check(dtype == DType::f32 || dtype == DType::bf16, "products of f32 or bf16");
  return dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

// The largest power of two that divides an address, up to what cuBLASLt asks for.
uint32_t alignment_of(const void* data) {
  constexpr uintptr_t kMost = 256;
  const auto address = reinterpret_cast<uintptr_t>(data) | kMost;
  return static_cast<uint32_t>(address & (~address + 1));
}

// The stride of a matrix of one row is nobody's business, but cuBLASLt looks at it.
int64_t leading_dimension(ConstTensor matrix) {
  return matrix.rows() > 1 ? matrix.row_stride : std::max(matrix.row_stride, matrix.columns());
}

// What cuBLASLt is told of a matrix.
struct MatrixKey {
  DType dtype;
  int64_t rows;
  int64_t columns;
  int64_t stride;
  uint32_t alignment;
  Transpose transpose;
  auto operator<=>(const MatrixKey&) const = default;
};

MatrixKey key_of(const Operand& operand) {
  const ConstTensor& matrix = operand.matrix;
  return {matrix.dtype,
          matrix.rows(),
          matrix.columns(),
          leading_dimension(matrix),
          alignment_of(matrix.data),
          operand.transpose};
}

// What a plan depends on.
struct PlanKey {
  MatrixKey y;
  MatrixKey a;
  MatrixKey b;
  std::optional<uint32_t> bias_alignment;  // none: no bias
  Target target;
  auto operator<=>(const PlanKey&) const = default;
};

std::string text_of(const MatrixKey& key) {
  return "(" + std::to_string(key.rows) + ", " + std::to_string(key.columns) + ") of stride " +
         std::to_string(key.stride) + (key.dtype == DType::f32 ? " in fp32" : " in bf16") +
         (key.transpose == Transpose::yes ? ", transposed" : "");
}

std::string text_of(const PlanKey& key) {
  return "product of " + text_of(key.a) + " and " + text_of(key.b) + " into " + text_of(key.y) +
         (key.bias_alignment ? " with a bias" : "");
}

// An object of cuBLASLt's, destroyed by its own function.
template <typename Handle>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, cublasStatus_t (*)(Handle)>;

Owned<cublasLtMatrixLayout_t> layout_of(const MatrixKey& key) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublas(
      cublasLtMatrixLayoutCreate(&layout, type_of(key.dtype), static_cast<uint64_t>(key.columns),
                                 static_cast<uint64_t>(key.rows), key.stride),
      "describing a matrix");
  return {layout, cublasLtMatrixLayoutDestroy};
}

template <typename Value>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute,
         const Value& value) {
  check_cublas(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)),
               "describing a product");
}
template <typename Value>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const Value& value) {
  check_cublas(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)),
               "describing what a product may use");
}

Owned<cublasLtMatmulDesc_t> operation_of(const PlanKey& key, const void* bias) {
  cublasLtMatmulDesc_t operation = nullptr;
  // CUBLAS_COMPUTE_32F never takes TF32 for fp32.
  check_cublas(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "describing a product");
  Owned<cublasLtMatmulDesc_t> owned(operation, cublasLtMatmulDescDestroy);
  const auto operation_on = [](Transpose transpose) -> int32_t {
    return transpose == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N;
  };
  set(operation, CUBLASLT_MATMUL_DESC_TRANSA, operation_on(key.b.transpose));
  set(operation, CUBLASLT_MATMUL_DESC_TRANSB, operation_on(key.a.transpose));
  if (key.bias_alignment) {
    // Its type is that of y, cuBLASLt's default.
    set(operation, CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t{CUBLASLT_EPILOGUE_BIAS});
    set(operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias);
  }
  return owned;
}

Owned<cublasLtMatmulPreference_t> preference_of(const PlanKey& key) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_cublas(cublasLtMatmulPreferenceCreate(&preference), "describing what a product may use");
  Owned<cublasLtMatmulPreference_t> owned(preference, cublasLtMatmulPreferenceDestroy);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  // A sum that is cut into parts must be put together in a fixed order and in fp32: in one piece,
  // or by a kernel of its own that adds the parts. "In place", parts are added in the order in
  // which they come, and in the output's type; "output type" rounds them to it.
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.y.alignment);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.y.alignment);
  return owned;
}

struct Plan {
  Owned<cublasLtMatmulDesc_t> operation;
  Owned<cublasLtMatrixLayout_t> y, a, b;
  cublasLtMatmulAlgo_t algorithm;
};

Plan make_plan(cublasLtHandle_t handle, const PlanKey& key, const void* bias) {
  Plan plan{operation_of(key, bias), layout_of(key.y), layout_of(key.a), layout_of(key.b), {}};
  const auto preference = preference_of(key);
  cublasLtMatmulHeuristicResult_t result{};
  int found = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, plan.operation.get(), plan.b.get(), plan.a.get(), plan.y.get(), plan.y.get(),
      preference.get(), 1, &result, &found);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && found == 0)) {
    throw Error(text_of(key) +
                ": cuBLASLt has no way to compute it. Use device: cpu, or a model whose widths are "
                "multiples of 8");
  }
  check_cublas(status, text_of(key));
  plan.algorithm = result.algo;
  return plan;
}

}  // namespace

struct Gemm::Library {
  cublasLtHandle_t handle = nullptr;
  void* workspace = nullptr;
  std::map<PlanKey, Plan> plans;
};

Gemm::Gemm() : library_(std::make_unique<Library>()) {
  check_cublas(cublasLtCreate(&library_->handle), "starting cuBLASLt");
  check_cuda(cudaMalloc(&library_->workspace, kWorkspaceBytes),
             "allocating 32 MiB of GPU memory for products");
}

Gemm::~Gemm() {
  cudaFree(library_->workspace);
  library_->plans.clear();
  cublasLtDestroy(library_->handle);
}

void Gemm::operator()(Tensor y, const Operand& a, const Operand& b, ConstTensor bias, Target target,
                      cudaStream_t stream) {
  const auto rows = [](const Operand& operand) {
    return operand.transpose == Transpose::yes ? operand.matrix.columns() : operand.matrix.rows();
  };
  const auto columns = [](const Operand& operand) {
    return operand.transpose == Transpose::yes ? operand.matrix.rows() : operand.matrix.columns();
  };
  check(y.rows() == rows(a) && y.columns() == columns(b) && columns(a) == rows(b),
        "a product of y (m,n) = a (m,k) · b (k,n)");
  check(a.matrix.dtype == b.matrix.dtype, "both factors of a product have one type");
  check(!bias || (target == Target::overwritten && bias.elements() == y.columns() &&
                  bias.dtype == y.dtype && bias.contiguous()),
        "a bias (n) of y's type, where y is overwritten");
  if (y.elements() == 0) return;
  check(columns(a) > 0, "a product over at least one element");
  const PlanKey key{key_of({y}), key_of(a), key_of(b),
                    bias ? std::optional(alignment_of(bias.data)) : std::nullopt, target};
  auto found = library_->plans.find(key);
  if (found == library_->plans.end()) {
    found = library_->plans.emplace(key, make_plan(library_->handle, key, bias.data)).first;
  }
  const Plan& plan = found->second;
  if (bias) set(plan.operation.get(), CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.data);
  const float one = 1;
  const float of_old = target == Target::accumulated ? 1 : 0;
  check_cublas(
      cublasLtMatmul(library_->handle, plan.operation.get(), &one, b.matrix.data, plan.b.get(),
                     a.matrix.data, plan.a.get(), &of_old, y.data, plan.y.get(), y.data,
                     plan.y.get(), &plan.algorithm, library_->workspace, kWorkspaceBytes, stream),
      text_of(key));
}

}  // namespace normlab
