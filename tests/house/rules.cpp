#include "tests/house/rules.h"

#include <algorithm>
#include <cctype>

namespace normlab::house {

namespace {

constexpr size_t longest_file = 400;

// What a room may open, beside itself: rooms, or single headers of them.
struct Room {
  std::string_view name;
  std::vector<std::string_view> opens;
};
const std::vector<Room> rooms = {
    {"kernels", {}},
    {"models", {"kernels"}},
    // data stands alone, but shares the vocabulary of errors and of random numbers.
    {"data", {"kernels/error.h", "kernels/random.h"}},
    {"engine", {"kernels", "models", "data"}},
    {"tools", {"kernels", "models", "data", "engine"}},
    {"tests", {"kernels", "models", "data", "engine", "tools", "benchmarks"}},
    {"benchmarks", {"kernels", "models", "data", "engine", "tools", "tests"}},
};

// A third-party package: how the names of its headers begin, and of the files that may include it.
struct Package {
  std::string_view name;
  std::vector<std::string_view> headers;
  std::vector<std::string_view> files;
};
const std::vector<Package> packages = {
    // A witness of our products.
    {"Eigen", {"Eigen/", "eigen3/", "unsupported/Eigen/"}, {"tests/kernels/"}},
    {"OpenMP", {"omp.h"}, {"kernels/cpu/"}},
    {"CUDA",
     {"cuda.h", "cuda_runtime", "cuda_bf16", "cuda/", "cublas", "cudnn", "curand", "cub/",
      "thrust/", "cooperative_groups", "mma.h", "nvtx", "nvToolsExt"},
     {"kernels/cuda/", "tests/emulator/", "tests/emulated/", "tests/conformance/"}},
    // The emulator's NCCL is built on MPI.
    {"NCCL and MPI", {"nccl", "mpi.h"}, {"engine/communicator", "tests/emulator/"}},
    {"yaml-cpp", {"yaml-cpp/"}, {"engine/yaml_tree"}},
    // Tests recompute checksums, as a witness.
    {"xxhash", {"xxhash", "xxh3"}, {"data/", "engine/", "tests/data/", "tests/engine/"}},
    {"PCRE2", {"pcre2"}, {"data/"}},
    {"SentencePiece", {"sentencepiece"}, {"data/"}},
    // tests/data packs what data/ unpacks; tests/fuzz has archives of its own.
    {"zlib", {"zlib", "zconf"}, {"data/", "tests/data/", "tests/fuzz/corpus"}},
    {"zstd", {"zstd", "zdict"}, {"data/", "tests/data/"}},
    {"nlohmann-json", {"nlohmann/"}, {"data/", "engine/", "tools/", "tests/"}},
    {"CLI11", {"CLI/"}, {"tools/"}},
    {"Catch2", {"catch2/"}, {"tests/catch/"}},
};

bool begins_with_any(std::string_view text, const std::vector<std::string_view>& beginnings) {
  return std::ranges::any_of(beginnings,
                             [&](auto beginning) { return text.starts_with(beginning); });
}

bool is_header(const SourceFile& file) {
  return file.path.ends_with(".h") || file.path.ends_with(".cuh");
}

bool is_python(const SourceFile& file) { return file.path.ends_with(".py"); }

std::string_view first_folder(std::string_view path) { return path.substr(0, path.find('/')); }

// A line without its blanks, so that no rule depends on how it is spaced.
std::string squeezed(std::string_view line) {
  std::string text(line);
  std::erase_if(text, [](unsigned char character) { return std::isspace(character) != 0; });
  return text;
}

bool names_character(char character) {
  return std::isalnum(static_cast<unsigned char>(character)) != 0 || character == '_';
}

// What is included by line `index`, by quotes or angle brackets alike; empty where nothing is.
std::string_view included(const SourceFile& file, size_t index) {
  if (is_python(file) || !squeezed(file.code[index]).starts_with("#include")) return {};
  const std::string_view line = file.text[index];
  const size_t open = line.find_first_of("\"<");
  if (open == std::string_view::npos) return {};
  const size_t close = line.find_first_of("\">", open + 1);
  return line.substr(open + 1, close - open - 1);
}

// For every line that `breaks` (given its index) finds wrong, a violation of `rule`.
template <typename Breaks>
Violations violations(const SourceFile& file, const std::string& rule, const Breaks& breaks) {
  Violations found;
  for (size_t i = 0; i < file.code.size(); ++i) {
    if (breaks(i)) found.push_back({file.path, static_cast<int>(i + 1), rule});
  }
  return found;
}

bool may_open(const Room& room, std::string_view header) {
  if (first_folder(header) == room.name) return true;
  return std::ranges::any_of(room.opens, [&](std::string_view opened) {
    return header == opened || first_folder(header) == opened;
  });
}

// A sum whose order, and so whose rounding, depends on how threads are scheduled.
bool sums_in_any_order(std::string_view line) {
  for (std::string_view type : {"atomic<float>", "atomic<double>", "atomic_ref<float>",
                                "atomic_ref<double>", "atomicAdd_"}) {
    if (line.find(type) != std::string_view::npos) return true;
  }
  // Types are not to be seen in a line: counting up by a literal is all that atomicAdd may do.
  constexpr std::string_view add = "atomicAdd(";
  for (size_t at = line.find(add); at != std::string_view::npos; at = line.find(add, at + 1)) {
    const size_t comma = line.find(',', at);
    const std::string_view term = line.substr(std::min(comma, line.size() - 1) + 1);
    const std::string_view digits = term.substr(0, term.find_first_not_of("0123456789"));
    const std::string_view rest = term.substr(digits.size());
    if (digits.empty() || rest.starts_with('.') || rest.starts_with('e')) return true;
  }
  if (!line.starts_with("#pragmaomp")) return false;
  // Lanes of `omp simd` are added in a fixed order, threads of a team are not.
  return line.starts_with("#pragmaompatomic") ||
         (line.find("reduction(") != std::string_view::npos && !line.starts_with("#pragmaompsimd"));
}

}  // namespace

Violations include_direction(const SourceFile& file) {
  const auto room = std::ranges::find(rooms, first_folder(file.path), &Room::name);
  Violations found;
  for (size_t i = 0; i < file.code.size() && room != rooms.end(); ++i) {
    const std::string_view header = included(file, i);
    const bool of_a_room = std::ranges::count(rooms, first_folder(header), &Room::name) > 0;
    const bool of_tests = header == "catch.h" && room->name != "tests";
    if (header.starts_with("..") || of_tests || (of_a_room && !may_open(*room, header))) {
      std::string rule(room->name);
      rule.append(" may not include ").append(header);
      rule += " (kernels, models, engine, tools: each opens those before it)";
      found.push_back({file.path, static_cast<int>(i + 1), rule});
    }
  }
  return found;
}

Violations package_confinement(const SourceFile& file) {
  Violations found;
  for (const Package& package : packages) {
    if (begins_with_any(file.path, package.files)) continue;
    std::string rule(package.name);
    rule += " belongs in";
    for (std::string_view place : package.files) rule.append(" ").append(place).append("*");
    const Violations broken = violations(file, rule, [&](size_t i) {
      return begins_with_any(included(file, i), package.headers) ||
             (package.name == "OpenMP" && squeezed(file.code[i]).starts_with("#pragmaomp"));
    });
    found.insert(found.end(), broken.begin(), broken.end());
  }
  return found;
}

Violations file_length(const SourceFile& file) {
  if (file.text.size() <= longest_file) return {};
  return {{file.path, static_cast<int>(file.text.size()), "a file has at most 400 lines"}};
}

Violations shared_ownership(const SourceFile& file) {
  if (is_python(file)) return {};
  return violations(file, "no shared_ptr: one owner", [&](size_t i) {
    return file.code[i].find("shared_ptr") != std::string::npos ||
           file.code[i].find("make_shared") != std::string::npos;
  });
}

Violations kernel_launches(const SourceFile& file) {
  if (file.path == "kernels/cuda/launch.h" || is_python(file)) return {};
  return violations(file, "kernels are launched by launch() of kernels/cuda/launch.h",
                    [&](size_t i) { return file.code[i].find("<<<") != std::string::npos; });
}

Violations unordered_sums(const SourceFile& file) {
  if (is_python(file)) return {};
  return violations(file,
                    "no sum whose order depends on threads (registers, partials, fixed order)",
                    [&](size_t i) { return sums_in_any_order(squeezed(file.code[i])); });
}

Violations developer_paths(const SourceFile& file) {
  // In two pieces, because this file is searched too.
  const std::vector<std::string> paths = {
      "/wo"
      "rk/",
      "/ho"
      "me/",
      "/ro"
      "ot/"};
  return violations(file, "no path of a developer's machine", [&](size_t i) {
    return std::ranges::any_of(paths, [&](const std::string& path) {
      const size_t at = file.text[i].find(path);
      // Within a longer path (runs/work/) it is none.
      return at != std::string::npos &&
             (at == 0 || !(names_character(file.text[i][at - 1]) || file.text[i][at - 1] == '.'));
    });
  });
}

Violations pragma_once(const SourceFile& file) {
  const auto is_guard = [](const std::string& line) { return line == "#pragma once"; };
  if (!is_header(file) || std::ranges::any_of(file.code, is_guard)) return {};
  return {{file.path, 1, "a header has #pragma once"}};
}

Violations opening_comment(const SourceFile& file) {
  if (!is_header(file) || file.path.starts_with("tests/")) return {};
  if (!file.text.empty() && file.text[0].starts_with("//")) return {};
  return {{file.path, 1, "a header begins with a comment that says what it is"}};
}

Violations switch_default(const SourceFile& file) {
  if (!begins_with_any(file.path, {"kernels/", "models/", "data/", "engine/"})) return {};
  return violations(file, "no default in a switch: the compiler names the forgotten case",
                    [&](size_t i) {
                      const std::string line = squeezed(file.code[i]);
                      const size_t at = line.find("default:");
                      return at != std::string::npos && (at == 0 || !names_character(line[at - 1]));
                    });
}

Violations test_names(const SourceFile& file) {
  if (!file.path.starts_with("tests/")) return {};
  return violations(
      file, "a test's name has no unpaired bracket, semicolon or backslash", [&](size_t i) {
        if (file.code[i].find("TEST_CASE") == std::string::npos) return false;
        std::string name;
        for (size_t line = i; line < file.text.size(); ++line) {
          // Only within the literals: what of the text is blank in the code.
          for (size_t column = 0; column < file.text[line].size(); ++column) {
            if (file.code[line][column] == ' ') name += file.text[line][column];
          }
          if (file.code[line].find(')') != std::string::npos) break;
        }
        const bool paired = std::ranges::count(name, '[') == std::ranges::count(name, ']');
        return !paired || name.find_first_of(";\\") != std::string::npos;
      });
}

}  // namespace normlab::house
