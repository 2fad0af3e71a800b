// The emulated cuBLASLt: computes what it should, and refuses what the real one would.
#include <cublasLt.h>

#include <cmath>
#include <vector>

#include "catch.h"
#include "kernels/bfloat16.h"
#include "tests/emulated/runtime.h"
#include "tests/emulator/emulator.h"
#include "tests/emulator/library/product.h"

namespace normlab {
namespace {

// d (2,3) = op(a) · op(b) over k = 4, all in float and without gaps, unless a test changes it.
struct Call {
  Call() {
    REQUIRE(cublasLtCreate(&handle) == CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulPreferenceCreate(&preference);
  }
  ~Call() {
    cublasLtMatmulPreferenceDestroy(preference);
    cublasLtDestroy(handle);
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  struct Matrix {
    cudaDataType_t type = CUDA_R_32F;
    uint64_t rows, columns;
    int64_t leading_dimension;
  };
  Matrix a{CUDA_R_32F, 2, 4, 2}, b{CUDA_R_32F, 4, 3, 4}, d{CUDA_R_32F, 2, 3, 2};
  cublasComputeType_t compute_type = CUBLAS_COMPUTE_32F;
  int32_t a_operation = CUBLAS_OP_N, b_operation = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
  uint32_t a_alignment = 256;
  uint64_t granted_bytes = 1 << 20;
  float beta = 0;
  TestMemory a_memory{4096}, b_memory{4096}, d_memory{4096}, workspace{1 << 20};
  void* a_data = a_memory.data;
  void* bias_data = nullptr;
  size_t given_bytes = 1 << 20;
  TestStream stream;

  cublasStatus_t find() {
    const auto layout = [](const Matrix& matrix) {
      cublasLtMatrixLayout_t made = nullptr;
      cublasLtMatrixLayoutCreate(&made, matrix.type, matrix.rows, matrix.columns,
                                 matrix.leading_dimension);
      return made;
    };
    a_layout.reset(layout(a));
    b_layout.reset(layout(b));
    d_layout.reset(layout(d));
    cublasLtMatmulDesc_t made = nullptr;
    cublasLtMatmulDescCreate(&made, compute_type, CUDA_R_32F);
    operation.reset(made);
    cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSA, &a_operation, 4);
    cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSB, &b_operation, 4);
    cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, 4);
    const void* bias = bias_data;
    cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias));
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value)) ==
            CUBLAS_STATUS_SUCCESS);
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, granted_bytes);
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, schemes);
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, a_alignment);
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handle, made, a_layout.get(), b_layout.get(), d_layout.get(),
                                       d_layout.get(), preference, 1, &found, &count);
    CHECK((count == 1) == (status == CUBLAS_STATUS_SUCCESS));
    return status;
  }

  cublasStatus_t multiply() {
    const float alpha = 1;
    return cublasLtMatmul(handle, operation.get(), &alpha, a_data, a_layout.get(), b_memory.data,
                          b_layout.get(), &beta, d_memory.data, d_layout.get(), d_memory.data,
                          d_layout.get(), &found.algo, workspace.data, given_bytes, stream.handle);
  }

  void upload(const TestMemory& target, const std::vector<float>& values) const {
    cudaMemcpyAsync(target.data, values.data(), values.size() * 4, cudaMemcpyHostToDevice,
                    stream.handle);
  }
  std::vector<float> result(size_t count_of_floats) const {
    std::vector<float> values(count_of_floats);
    cudaMemcpyAsync(values.data(), d_memory.data, values.size() * 4, cudaMemcpyDeviceToHost,
                    stream.handle);
    cudaStreamSynchronize(stream.handle);
    return values;
  }

  struct Destroy {
    void operator()(cublasLtMatmulDesc_t made) const { cublasLtMatmulDescDestroy(made); }
    void operator()(cublasLtMatrixLayout_t made) const { cublasLtMatrixLayoutDestroy(made); }
  };
  cublasLtHandle_t handle = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  std::unique_ptr<cublasLtMatmulDescOpaque_t, Destroy> operation;
  std::unique_ptr<cublasLtMatrixLayoutOpaque_t, Destroy> a_layout, b_layout, d_layout;
  cublasLtMatmulHeuristicResult_t found{};
  int count = 0;
};

const std::vector<float> kA = {1, 5, 2, 6, 3, 7, 4, 8};  // (1 2 3 4; 5 6 7 8), by columns
const std::vector<float> kB = {1, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1, 1};

}  // namespace

TEST_CASE("emulated cuBLASLt: multiplies by columns, late, and adds bias and target") {
  Call call;
  TestMemory bias(8);
  call.upload(call.a_memory, kA);
  call.upload(call.b_memory, kB);
  REQUIRE(call.find() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(call.multiply() == CUBLAS_STATUS_SUCCESS);
  CHECK(call.result(6) == std::vector<float>{1, 5, 6, 14, 10, 26});
  call.upload(bias, {100, 200});
  call.epilogue = CUBLASLT_EPILOGUE_BIAS;
  call.bias_data = bias.data;
  call.beta = 1;
  REQUIRE(call.find() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(call.multiply() == CUBLAS_STATUS_SUCCESS);
  // In the order of the stream, and not before.
  call.upload(call.a_memory, std::vector<float>(8));
  CHECK(call.result(6) == std::vector<float>{102, 210, 112, 228, 120, 252});
}

TEST_CASE("emulated cuBLASLt: transposes either factor and steps over gaps") {
  Call call;
  call.a_operation = call.b_operation = CUBLAS_OP_T;
  call.a = {CUDA_R_32F, 4, 2, 5};
  call.b = {CUDA_R_32F, 3, 4, 3};
  call.d.leading_dimension = 3;
  call.upload(call.a_memory, {1, 2, 3, 4, -1, 5, 6, 7, 8});
  call.upload(call.b_memory, {1, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1});
  call.upload(call.d_memory, std::vector<float>(8, 9));
  REQUIRE(call.find() == CUBLAS_STATUS_SUCCESS);
  REQUIRE(call.multiply() == CUBLAS_STATUS_SUCCESS);
  CHECK(call.result(8) == std::vector<float>{1, 5, 9, 6, 14, 9, 10, 26});
}

TEST_CASE("emulated cuBLASLt: bf16 is rounded once, to nearest and ties to even") {
  const auto rounded = [](double sum) {
    const float factor = 1;
    // As sums of two products, which float could not hold.
    const std::vector<float> left = {static_cast<float>(sum),
                                     static_cast<float>(sum - double{static_cast<float>(sum)})};
    const std::vector<float> ones = {factor, factor};
    BFloat16 result;
    const emulator::Product product{{CUDA_R_32F, 1, 2, 1},
                                    {CUDA_R_32F, 2, 1, 2},
                                    {CUDA_R_16BF, 1, 1, 1},
                                    {CUDA_R_16BF, 1, 1, 1},
                                    CUBLAS_OP_N,
                                    CUBLAS_OP_N,
                                    left.data(),
                                    ones.data(),
                                    nullptr,
                                    &result,
                                    nullptr,
                                    1,
                                    0,
                                    emulator::SumOrder::fixed};
    product.run();
    return to_float(result);
  };
  CHECK(rounded(1.0) == 1.0f);
  CHECK(rounded(1.0 + 1.0 / 256) == 1.0f);               // a tie
  CHECK(rounded(1.0 + 3.0 / 256) == 1.0f + 4.0f / 256);  // a tie
  CHECK(rounded(1.0 + 1.0 / 256 + std::ldexp(1, -40)) == 1.0f + 1.0f / 128);
  CHECK(rounded(1.0 + 3.0 / 256 - std::ldexp(1, -40)) == 1.0f + 1.0f / 128);
  CHECK(rounded(-1.0 - 1.0 / 256 - std::ldexp(1, -40)) == -1.0f - 1.0f / 128);
}

TEST_CASE("emulated cuBLASLt: finds nothing for what does not fit") {
  const auto refused = [](auto change, cublasStatus_t expected) {
    Call call;
    change(call);
    CHECK(call.find() == expected);
  };
  refused([](Call&) {}, CUBLAS_STATUS_SUCCESS);
  refused([](Call& call) { call.a.leading_dimension = 1; }, CUBLAS_STATUS_INVALID_VALUE);
  refused([](Call& call) { call.b.rows = 5; }, CUBLAS_STATUS_INVALID_VALUE);
  refused([](Call& call) { call.d.columns = 4; }, CUBLAS_STATUS_INVALID_VALUE);
  refused([](Call& call) { call.a_operation = CUBLAS_OP_T; }, CUBLAS_STATUS_INVALID_VALUE);
  refused([](Call& call) { call.a.type = CUDA_R_16BF; }, CUBLAS_STATUS_NOT_SUPPORTED);
  refused([](Call& call) { call.d.type = CUDA_R_16BF; }, CUBLAS_STATUS_NOT_SUPPORTED);
  refused([](Call& call) { call.compute_type = CUBLAS_COMPUTE_32F_FAST_TF32; },
          CUBLAS_STATUS_NOT_SUPPORTED);
  refused([](Call& call) { call.a.type = call.b.type = CUDA_R_16BF; }, CUBLAS_STATUS_SUCCESS);
  refused([](Call& call) { call.a.type = call.b.type = call.d.type = CUDA_R_16BF; },
          CUBLAS_STATUS_SUCCESS);
  refused([](Call& call) { call.a_alignment = 2; }, CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_CASE("emulated cuBLASLt: an algorithm is held to what was claimed for it") {
  const auto refused = [](auto change) {
    Call call;
    REQUIRE(call.find() == CUBLAS_STATUS_SUCCESS);
    change(call);
    return call.multiply() == CUBLAS_STATUS_INVALID_VALUE;
  };
  CHECK_FALSE(refused([](Call&) {}));
  CHECK(refused([](Call& call) { call.a_data = call.a_memory.floats() + 1; }));
  CHECK(refused([](Call& call) { call.given_bytes = 1024; }));
  CHECK(refused([](Call& call) { call.found.algo = {}; }));
  CHECK(refused([](Call& call) {
    call.epilogue = CUBLASLT_EPILOGUE_BIAS;
    CHECK(call.find() == CUBLAS_STATUS_SUCCESS);
  }));
  // An algorithm of another shape.
  CHECK(refused([](Call& call) {
    const cublasLtMatmulAlgo_t before = call.found.algo;
    call.a.leading_dimension = 4;
    CHECK(call.find() == CUBLAS_STATUS_SUCCESS);
    call.found.algo = before;
  }));
}

TEST_CASE("emulated cuBLASLt: names a matrix that is not in the device's memory") {
  Call call;
  const auto text = [&call] {
    try {
      call.multiply();
    } catch (const emulator::Failure& failure) {
      return std::string(failure.what());
    }
    return std::string();
  };
  call.b = {CUDA_R_32F, 4, 3, 1000};
  REQUIRE(call.find() == CUBLAS_STATUS_SUCCESS);
  CHECK(text() == "cublasLtMatmul: b is not 8016 bytes of device memory");
  TestPinned pinned(4096);
  call.b = {CUDA_R_32F, 4, 3, 4};
  call.a_alignment = 4;
  REQUIRE(call.find() == CUBLAS_STATUS_SUCCESS);
  call.a_data = pinned.data;
  CHECK(text() == "cublasLtMatmul: a is not 32 bytes of device memory");
}

TEST_CASE("emulated cuBLASLt: sums that may be cut in any way are") {
  const auto twice = [](uint32_t schemes) {
    Call call;
    call.schemes = schemes;
    call.upload(call.a_memory, {1e8f, 1e8f, 1, 1, -1e8f, -1e8f, 1, 1});
    call.upload(call.b_memory, std::vector<float>(12, 1));
    REQUIRE(call.find() == CUBLAS_STATUS_SUCCESS);
    REQUIRE(call.multiply() == CUBLAS_STATUS_SUCCESS);
    const std::vector<float> first = call.result(6);
    REQUIRE(call.multiply() == CUBLAS_STATUS_SUCCESS);
    return std::pair(first, call.result(6));
  };
  const auto fixed = twice(CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  CHECK(fixed.first == fixed.second);
  CHECK(fixed.first[0] == 2);
  const auto free = twice(CUBLASLT_REDUCTION_SCHEME_MASK);
  CHECK(free.first != free.second);
}

}  // namespace normlab
