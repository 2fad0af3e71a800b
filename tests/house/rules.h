// The rules of the house that a search for text can hold: who includes whom, and conventions of
// style. Each rule takes one file and names what breaks it; house_test.cpp applies them all to the
// tree.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace normlab::house {

struct SourceFile {
  std::string path;               // from the root of the checkout
  std::vector<std::string> text;  // the lines as they stand
  std::vector<std::string> code;  // the same, comments and literals blanked
};

struct Violation {
  std::string path;
  int line;  // counted from 1
  std::string rule;
};
using Violations = std::vector<Violation>;
using Rule = Violations (*)(const SourceFile&);

SourceFile source_file(std::string path, std::string_view content);

// Every .h, .cuh, .cpp, .cu and .py of the rooms under `root`, in the order of their paths.
std::vector<SourceFile> source_tree(const std::string& root);

// "path:line: rule", as compilers write it, so that editors find the place.
std::string message(const Violation& violation);

// Design, section 1.
Violations include_direction(const SourceFile& file);
Violations package_confinement(const SourceFile& file);
// Design, section 4.
Violations file_length(const SourceFile& file);
Violations shared_ownership(const SourceFile& file);
Violations kernel_launches(const SourceFile& file);
Violations unordered_sums(const SourceFile& file);
Violations developer_paths(const SourceFile& file);
Violations pragma_once(const SourceFile& file);
Violations opening_comment(const SourceFile& file);
Violations switch_default(const SourceFile& file);
// What CMake's lists can carry: of an unpaired bracket they make one entry of all tests that
// follow.
Violations test_names(const SourceFile& file);

}  // namespace normlab::house
