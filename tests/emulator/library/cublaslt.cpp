// cuBLASLt on the emulated device: checks what it is told, and knows only what the real one has
// (cuBLAS 13.0, "cublasLtMatmul()", the tables of supported types). Its heuristic gives one
// algorithm, which holds to what the preference claimed.
#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tests/emulator/emulator.h"
#include "tests/emulator/library/device.h"
#include "tests/emulator/library/product.h"

using normlab::emulator::ColumnMajor;
using normlab::emulator::device;
using normlab::emulator::Product;
using normlab::emulator::SumOrder;

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque_t {
  cublasComputeType_t compute_type;
  cudaDataType_t scale_type;
  cublasOperation_t a_operation = CUBLAS_OP_N;
  cublasOperation_t b_operation = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
};
struct cublasLtMatrixLayoutOpaque_t {
  ColumnMajor matrix;
};
struct cublasLtMatmulPreferenceOpaque_t {
  uint64_t workspace_bytes = 0;
  uint32_t reduction_schemes = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t a_alignment = 256, b_alignment = 256, c_alignment = 256, d_alignment = 256;
};

namespace {

// What a cublasLtMatmulAlgo_t holds here: what it was made for.
struct Algorithm {
  uint64_t shape;  // of all that was described
  uint32_t a_alignment, b_alignment, c_alignment, d_alignment;
  uint64_t bias_alignment;
  uint64_t workspace_bytes;
  SumOrder order;
};
static_assert(sizeof(Algorithm) <= sizeof(cublasLtMatmulAlgo_t));
// Taken by an algorithm that may split the sum, where it is granted.
constexpr uint64_t kSplitBytes = 64 << 10;

struct Layouts {
  ColumnMajor a, b, c, d;
};

uint64_t alignment_of(const void* data) {
  const uint64_t address = reinterpret_cast<uintptr_t>(data) | 256;
  return address & (~address + 1);
}

// Whether the descriptions fit each other and could be of matrices in memory.
bool is_possible(const cublasLtMatmulDescOpaque_t& operation, const Layouts& layouts) {
  for (const ColumnMajor& matrix : {layouts.a, layouts.b, layouts.c, layouts.d}) {
    if (matrix.rows == 0 || matrix.columns == 0) return false;
    if (matrix.leading_dimension < static_cast<int64_t>(matrix.rows)) return false;
  }
  const bool a_transposed = operation.a_operation == CUBLAS_OP_T;
  const bool b_transposed = operation.b_operation == CUBLAS_OP_T;
  const ColumnMajor& a = layouts.a;
  const ColumnMajor& b = layouts.b;
  const uint64_t m = a_transposed ? a.columns : a.rows;
  const uint64_t n = b_transposed ? b.rows : b.columns;
  const uint64_t k = a_transposed ? a.rows : a.columns;
  return (b_transposed ? b.columns : b.rows) == k && layouts.d.rows == m &&
         layouts.d.columns == n && layouts.c.rows == m && layouts.c.columns == n;
}

// The rows of the manual's tables that our sources could use.
bool is_supported(const cublasLtMatmulDescOpaque_t& operation, const Layouts& layouts) {
  if (operation.compute_type != CUBLAS_COMPUTE_32F || operation.scale_type != CUDA_R_32F) {
    return false;
  }
  const cudaDataType_t in = layouts.a.type, out = layouts.d.type;
  if (layouts.b.type != in || layouts.c.type != out) return false;
  return out == CUDA_R_32F || in == CUDA_R_16BF;
}

uint64_t fingerprint(const cublasLtMatmulDescOpaque_t& operation, const Layouts& layouts) {
  uint64_t hash = 0;
  const auto add = [&hash](uint64_t value) { hash = (hash ^ value) * 0x100000001B3; };
  for (const ColumnMajor& matrix : {layouts.a, layouts.b, layouts.c, layouts.d}) {
    add(matrix.type);
    add(matrix.rows);
    add(matrix.columns);
    add(static_cast<uint64_t>(matrix.leading_dimension));
  }
  add(operation.a_operation);
  add(operation.b_operation);
  add(operation.epilogue);
  return hash;
}

// Copies an attribute whose size must be its type's.
template <typename Target, typename Stored>
cublasStatus_t assign(Target& target, const void* value, size_t bytes) {
  if (value == nullptr || bytes != sizeof(Stored)) return CUBLAS_STATUS_INVALID_VALUE;
  Stored stored;
  std::memcpy(&stored, value, sizeof(stored));
  target = static_cast<Target>(stored);
  return CUBLAS_STATUS_SUCCESS;
}

void require_device_memory(const char* name, const void* data, uint64_t bytes) {
  if (device().memory().contains(data, bytes)) return;
  throw normlab::emulator::Failure(std::string("cublasLtMatmul: ") + name + " is not " +
                                   std::to_string(bytes) + " bytes of device memory");
}

}  // namespace

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "unknown status";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation,
                                        cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
  *operation = new cublasLtMatmulDescOpaque_t{compute_type, scale_type};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return assign<cublasOperation_t, int32_t>(operation->a_operation, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return assign<cublasOperation_t, int32_t>(operation->b_operation, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return assign<cublasLtEpilogue_t, uint32_t>(operation->epilogue, value, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return assign<const void*, const void*>(operation->bias, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns,
                                          int64_t leading_dimension) {
  *layout = new cublasLtMatrixLayoutOpaque_t{{type, rows, columns, leading_dimension}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque_t;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return assign<uint64_t, uint64_t>(preference->workspace_bytes, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return assign<uint32_t, uint32_t>(preference->reduction_schemes, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
      return assign<uint32_t, uint32_t>(preference->a_alignment, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
      return assign<uint32_t, uint32_t>(preference->b_alignment, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
      return assign<uint32_t, uint32_t>(preference->c_alignment, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return assign<uint32_t, uint32_t>(preference->d_alignment, value, bytes);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  *found = 0;
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested <= 0) return CUBLAS_STATUS_INVALID_VALUE;
  const Layouts layouts{a->matrix, b->matrix, c->matrix, d->matrix};
  if (!is_possible(*operation, layouts)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_supported(*operation, layouts)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto fits = [](uint32_t alignment, const ColumnMajor& matrix) {
    return alignment % matrix.element_bytes() == 0 && alignment > 0;
  };
  if (!fits(preference->a_alignment, layouts.a) || !fits(preference->b_alignment, layouts.b) ||
      !fits(preference->c_alignment, layouts.c) || !fits(preference->d_alignment, layouts.d)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  // Parts that are added in place or rounded to the output's type come in any order here.
  constexpr uint32_t kUnordered =
      CUBLASLT_REDUCTION_SCHEME_INPLACE | CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE;
  const bool unordered = (preference->reduction_schemes & kUnordered) != 0;
  const Algorithm algorithm{fingerprint(*operation, layouts),
                            preference->a_alignment,
                            preference->b_alignment,
                            preference->c_alignment,
                            preference->d_alignment,
                            alignment_of(operation->bias),
                            std::min(kSplitBytes, preference->workspace_bytes),
                            unordered ? SumOrder::as_they_come : SumOrder::fixed};
  results[0] = {};
  std::memcpy(&results[0].algo, &algorithm, sizeof(algorithm));
  results[0].workspaceSize = algorithm.workspace_bytes;
  results[0].state = CUBLAS_STATUS_SUCCESS;
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t* algo,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Layouts layouts{a_layout->matrix, b_layout->matrix, c_layout->matrix, d_layout->matrix};
  if (!is_possible(*operation, layouts)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_supported(*operation, layouts)) return CUBLAS_STATUS_NOT_SUPPORTED;
  Algorithm algorithm{};
  std::memcpy(&algorithm, algo, sizeof(algorithm));
  const bool biased = operation->epilogue == CUBLASLT_EPILOGUE_BIAS;
  const auto aligned = [](const void* data, uint64_t alignment) {
    return alignment_of(data) >= std::min<uint64_t>(alignment, 256);
  };
  if (algorithm.shape != fingerprint(*operation, layouts) ||
      workspace_bytes < algorithm.workspace_bytes || !aligned(workspace, 256) ||
      !aligned(a, algorithm.a_alignment) || !aligned(b, algorithm.b_alignment) ||
      !aligned(c, algorithm.c_alignment) || !aligned(d, algorithm.d_alignment) ||
      (biased &&
       (operation->bias == nullptr || !aligned(operation->bias, algorithm.bias_alignment)))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  require_device_memory("a", a, layouts.a.bytes());
  require_device_memory("b", b, layouts.b.bytes());
  require_device_memory("c", c, layouts.c.bytes());
  require_device_memory("d", d, layouts.d.bytes());
  require_device_memory("the workspace", workspace, workspace_bytes);
  if (biased) {
    require_device_memory("the bias", operation->bias, layouts.d.rows * layouts.d.element_bytes());
  }
  const Product product{layouts.a,
                        layouts.b,
                        layouts.c,
                        layouts.d,
                        operation->a_operation,
                        operation->b_operation,
                        a,
                        b,
                        c,
                        d,
                        biased ? operation->bias : nullptr,
                        *static_cast<const float*>(alpha),
                        *static_cast<const float*>(beta),
                        algorithm.order};
  const uint64_t used_bytes = algorithm.workspace_bytes;
  stream->enqueue("cublasLtMatmul", {a, b, c, d, workspace}, [=] {
    product.run();
    // Whatever it left there.
    std::memset(workspace, 0xFF, used_bytes);
  });
  return CUBLAS_STATUS_SUCCESS;
}
