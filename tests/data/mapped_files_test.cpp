#include "data/mapped_files.h"

#include <filesystem>
#include <fstream>

#include "catch.h"
#include "data/input_file.h"
#include "temporary_directory.h"

using namespace normlab;
using namespace normlab::test;

namespace fs = std::filesystem;

TEST_CASE("mapped_files: those that changed underneath are known as long as they are mapped") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("data"), other = directory.file("other");
  write_bytes(path, "some bytes");
  write_bytes(other, "other bytes");
  {
    const Mapping mapping = InputFile(path).map();
    Mapping moved = InputFile(other).map();
    CHECK(files_changed_underneath().empty());
    std::ofstream(path, std::ios::app) << "more";
    CHECK(files_changed_underneath() == std::vector<std::string>{path});
    // Another file under the name, or none: what is mapped stays.
    fs::remove(other);
    CHECK(files_changed_underneath() == std::vector<std::string>{path});
    write_bytes(other, "another file's");
    CHECK(files_changed_underneath() == std::vector<std::string>{path});
    const Mapping last = std::move(moved);
    CHECK(last.bytes().size() == 11);
    CHECK(files_changed_underneath() == std::vector<std::string>{path});
  }
  CHECK(files_changed_underneath().empty());
}
