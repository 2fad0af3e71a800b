// The house keeps its walls. First each rule is shown to fire on a small bad example and to be
// silent on a good one: a rule that cannot fail holds nothing. Then all of them are applied to the
// tree.
#include <algorithm>
#include <string>
#include <vector>

#include "catch.h"
#include "tests/house/rules.h"

using namespace normlab::house;

namespace {

const std::vector<SourceFile>& tree() {
  static const std::vector<SourceFile> files = source_tree(SOURCE_DIRECTORY);
  return files;
}

void check_tree(Rule rule) {
  for (const SourceFile& file : tree()) {
    for (const Violation& violation : rule(file)) FAIL_CHECK(message(violation));
  }
  // An empty tree would keep every rule.
  CHECK(std::ranges::count(tree(), "kernels/ops.h", &SourceFile::path) == 1);
}

// The lines of `content`, as a file at `path`, that break the rule.
std::vector<int> broken_lines(Rule rule, const std::string& path, const std::string& content) {
  std::vector<int> lines;
  for (const Violation& violation : rule(source_file(path, content)))
    lines.push_back(violation.line);
  return lines;
}

void check_breaks(Rule rule, const std::string& path, const std::string& line) {
  INFO(path << ": " << line);
  CHECK(broken_lines(rule, path, "// first line\n" + line + "\n") == std::vector<int>{2});
}

void check_keeps(Rule rule, const std::string& path, const std::string& line) {
  INFO(path << ": " << line);
  CHECK(broken_lines(rule, path, "// first line\n" + line + "\n").empty());
}

}  // namespace

TEST_CASE("source_file: comments and literals are not code and lines keep their numbers") {
  const SourceFile file = source_file("engine/a.cpp",
                                      "a /* b\nc */ d // e\n"
                                      "f(\"g\\\"h\", 'i', 1'000);\n"
                                      "R\"x(j\n\"k\" )\" l)x\" m\n");
  REQUIRE(file.text.size() == 5);
  CHECK(file.code[0] == "a     ");
  CHECK(file.code[1] == "     d     ");
  CHECK(file.code[2] == "f(      ,    , 1'000);");
  CHECK(file.code[3] == std::string(5, ' '));
  CHECK(file.code[4] == std::string(12, ' ') + "m");
  CHECK(file.text[4] == "\"k\" )\" l)x\" m");
}

TEST_CASE("message: a violation names file and line and rule") {
  CHECK(message({"engine/a.cpp", 12, "no shared_ptr"}) == "engine/a.cpp:12: no shared_ptr");
}

TEST_CASE("source_tree: every room with sources is read") {
  for (std::string room : {"kernels/", "models/", "data/", "engine/", "tests/"}) {
    INFO(room);
    CHECK(std::ranges::any_of(tree(),
                              [&](const SourceFile& file) { return file.path.starts_with(room); }));
  }
}

TEST_CASE("include_direction: fires on a wrong direction and on nothing else") {
  const Rule rule = include_direction;
  check_breaks(rule, "kernels/a.cpp", "#include \"models/model.h\"");
  check_breaks(rule, "kernels/cuda/a.cu", "#include \"engine/config.h\"");
  check_breaks(rule, "models/a.h", "#include \"data/token_stream.h\"");
  check_breaks(rule, "models/a.h", "  #  include <engine/config.h>");
  check_breaks(rule, "data/a.cpp", "#include \"kernels/ops.h\"");
  check_breaks(rule, "data/a.cpp", "#include \"models/config.h\"");
  check_breaks(rule, "engine/a.cpp", "#include \"tools/arguments.h\"");
  check_breaks(rule, "engine/a.cpp", "#include \"../kernels/ops.h\"");
  check_breaks(rule, "engine/a.cpp", "#include \"catch.h\"");
  check_breaks(rule, "tools/a.cpp", "#include \"tests/op_cases.h\"");
  check_breaks(rule, "tools/a.cpp", "#include \"benchmarks/kernels.h\"");

  check_keeps(rule, "kernels/cpu/a.cpp", "#include \"kernels/ops.h\"");
  check_keeps(rule, "models/a.cpp", "#include \"kernels/ops.h\"");
  check_keeps(rule, "data/a.cpp", "#include \"kernels/error.h\"");
  check_keeps(rule, "data/a.cpp", "#include \"kernels/random.h\"");
  check_keeps(rule, "engine/a.cpp", "#include \"data/token_stream.h\"");
  check_keeps(rule, "tools/a.cpp", "#include \"data/token_shards.h\"");
  check_keeps(rule, "tests/data/a.cpp", "#include \"catch.h\"");
  check_keeps(rule, "benchmarks/a.cpp", "#include \"tests/op_cases.h\"");
  check_keeps(rule, "kernels/a.cpp", "// #include \"models/model.h\"");
  check_keeps(rule, "kernels/a.cpp", "#include <vector>");
}

TEST_CASE("package_confinement: fires on every package outside its place") {
  const Rule rule = package_confinement;
  const std::vector<std::pair<std::string, std::string>> places = {
      {"<Eigen/Core>", "tests/kernels/a.cpp"},
      {"<omp.h>", "kernels/cpu/a.h"},
      {"<cuda_runtime.h>", "kernels/cuda/a.cu"},
      {"<cuda/ptx>", "kernels/cuda/a.cuh"},
      {"<cuda_runtime.h>", "tests/emulator/a.cpp"},
      {"<cublasLt.h>", "kernels/cuda/a.cpp"},
      {"<cudnn.h>", "kernels/cuda/a.cpp"},
      {"<nccl.h>", "engine/communicator_nccl.cpp"},
      {"<mpi.h>", "engine/communicator_mpi.cpp"},
      {"<yaml-cpp/yaml.h>", "engine/yaml_tree.cpp"},
      {"<xxhash.h>", "data/a.cpp"},
      {"<xxhash.h>", "engine/a.cpp"},
      {"<pcre2.h>", "data/a.cpp"},
      {"<sentencepiece_processor.h>", "data/a.cpp"},
      {"<zlib.h>", "data/a.cpp"},
      {"<zstd.h>", "data/a.cpp"},
      {"<zlib.h>", "tests/data/a.cpp"},
      {"<zstd.h>", "tests/data/a.cpp"},
      {"<nlohmann/json.hpp>", "tools/a.cpp"},
      {"<nlohmann/json.hpp>", "tests/engine/a.cpp"},
      {"<CLI/CLI.hpp>", "tools/a.cpp"},
      {"<catch2/catch_all.hpp>", "tests/catch/v3/catch.h"},
  };
  for (const auto& [header, place] : places) {
    check_keeps(rule, place, "#include " + header);
    check_breaks(rule, "models/a.cpp", "#include " + header);
    check_breaks(rule, "kernels/a.h", "#include " + header);
  }
  check_breaks(rule, "engine/config.cpp", "#include \"yaml-cpp/yaml.h\"");
  check_breaks(rule, "tests/engine/a.cpp", "#include <catch2/catch.hpp>");
  check_breaks(rule, "models/a.cpp", "#pragma omp parallel for");
  check_keeps(rule, "kernels/cpu/a.cpp", "#pragma omp parallel for");
  check_keeps(rule, "models/a.cpp", "#include \"kernels/cuda_ops.h\"");
}

TEST_CASE("file_length: fires from 401 lines on") {
  std::string content;
  for (int line = 0; line < 400; ++line) content += "\n";
  CHECK(broken_lines(file_length, "data/a.py", content).empty());
  CHECK(broken_lines(file_length, "data/a.py", content + "\n") == std::vector<int>{401});
}

TEST_CASE("conventions: each fires on its bad example and on nothing else") {
  check_breaks(shared_ownership, "engine/a.h", "std::shared_ptr<int> x;");
  check_breaks(shared_ownership, "engine/a.h", "auto x = std::make_shared<int>(1);");
  check_keeps(shared_ownership, "engine/a.h", "// no shared_ptr");

  check_breaks(kernel_launches, "kernels/cuda/norm.cu", "norm<<<blocks, threads>>>(x);");
  check_keeps(kernel_launches, "kernels/cuda/launch.h", "kernel<<<blocks, threads>>>(x);");

  check_breaks(developer_paths, "tools/a.py",
               "path = \"/wo"
               "rk/corpus\"");
  check_breaks(developer_paths, "engine/a.cpp",
               "open(\"/ho"
               "me/jane/x\");");
  check_keeps(developer_paths, "engine/a.cpp",
              "open(\"runs/wo"
              "rk/x\");");

  check_keeps(pragma_once, "models/a.h", "#pragma once");
  check_keeps(pragma_once, "models/a.cpp", "int x;");
  CHECK(broken_lines(pragma_once, "models/a.h", "// #pragma once\n") == std::vector<int>{1});
  CHECK(broken_lines(pragma_once, "tests/a.cuh", "#ifndef A\n") == std::vector<int>{1});

  check_keeps(opening_comment, "models/a.h", "#pragma once");
  CHECK(broken_lines(opening_comment, "models/a.h", "#pragma once\n") == std::vector<int>{1});
  CHECK(broken_lines(opening_comment, "models/a.h", "") == std::vector<int>{1});

  check_breaks(switch_default, "models/a.cpp", "    default:");
  check_breaks(switch_default, "engine/a.cpp", "  default : return 1;");
  check_keeps(switch_default, "engine/a.h", "Error(const Error&) = default;");
  check_keeps(switch_default, "engine/a.h", "// default: 3");
}

TEST_CASE("test_names: fires on names that CMake would tear apart or glue together") {
  check_breaks(test_names, "tests/models/a.cpp", "TEST_CASE(\"validate: x lies in [0, 1)\") {");
  check_breaks(test_names, "tests/models/a.cpp", "TEST_CASE(\n    \"a; b\") {");
  check_keeps(test_names, "tests/models/a.cpp",
              "TEST_CASE(\"x lies in [0, 1]\", \"[tag]\") { y[0]; }");
  check_keeps(test_names, "models/a.cpp", "call(\"TEST_CASE [\");");
}

TEST_CASE("unordered_sums: fires on sums whose order depends on threads") {
  const Rule rule = unordered_sums;
  check_breaks(rule, "kernels/cpu/a.cpp", "std::atomic<float> sum;");
  check_breaks(rule, "kernels/cpu/a.cpp", "std::atomic_ref< double >(x) += 1;");
  check_breaks(rule, "kernels/cuda/a.cu", "atomicAdd(&sum[i], value);");
  check_breaks(rule, "kernels/cuda/a.cu", "atomicAdd(&sum[i], 1.0f);");
  check_breaks(rule, "kernels/cuda/a.cu", "n = atomicAdd(&n, 1); atomicAdd(sum, x);");
  check_breaks(rule, "kernels/cpu/a.cpp", "#pragma omp parallel for reduction(+ : sum)");
  check_breaks(rule, "kernels/cpu/a.cpp", "#pragma omp atomic");

  check_keeps(rule, "kernels/cuda/a.cu", "const unsigned ticket = atomicAdd(&finished, 1u);");
  check_keeps(rule, "kernels/cpu/a.cpp", "#pragma omp simd reduction(+ : sum)");
  check_keeps(rule, "engine/a.cpp", "std::atomic<int64_t> steps;");
}

TEST_CASE("house: a room includes only rooms before it") { check_tree(include_direction); }
TEST_CASE("house: packages stay in their places") { check_tree(package_confinement); }
TEST_CASE("house: files are short") { check_tree(file_length); }
TEST_CASE("house: nothing is owned twice") { check_tree(shared_ownership); }
TEST_CASE("house: one place launches kernels") { check_tree(kernel_launches); }
TEST_CASE("house: every sum has a fixed order") { check_tree(unordered_sums); }
TEST_CASE("house: no path of a developer's machine") { check_tree(developer_paths); }
TEST_CASE("house: every header is included once") { check_tree(pragma_once); }
TEST_CASE("house: every header begins by saying what it is") { check_tree(opening_comment); }
TEST_CASE("house: every switch names its cases") { check_tree(switch_default); }
TEST_CASE("house: CMake can carry the names of tests") { check_tree(test_names); }
