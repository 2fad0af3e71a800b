// The harness sees what it is there to see: a reader that fails in every way.
#include "tests/fuzz/harness.h"

#include <csignal>
#include <fstream>
#include <set>
#include <stdexcept>

#include "catch.h"
#include "kernels/error.h"
#include "tests/engine/temporary_folder.h"
#include "tests/fuzz/corpus.h"
#include "tests/fuzz/mutator.h"

using namespace normlab;
using namespace normlab::fuzz;

namespace {

Format failing(const std::function<void()>& fail) {
  Format format;
  format.name = "failing";
  format.files = {"sound"};
  format.read = [fail](const std::string& file) {
    if (file.find('!') != std::string::npos) fail();
    if (file != "sound") throw input_error("not sound");
  };
  format.tokens = {"!"};
  return format;
}

std::string failure_of(const std::function<void()>& fail, double seconds_per_file = 60) {
  Limits limits;
  limits.files = 500;
  limits.seconds_per_file = seconds_per_file;
  limits.memory_bytes = int64_t{256} << 20;
  limits.failures = 1;
  const Report report = fuzz::fuzz(failing(fail), limits);
  if (report.failures.size() != 1) return "no failure";
  // The file that did it, and no other.
  CHECK(report.failures[0].file.find('!') != std::string::npos);
  CHECK(report.failures[0].file ==
        Mutator({"sound"}, {"!"}).file(limits.seed, report.failures[0].number));
  return report.failures[0].reason;
}

}  // namespace

TEST_CASE("fuzz: every way of failing is seen and the file that did it is told") {
  CHECK(failure_of([] { raise(SIGKILL); }) == "killed by signal 9");
  CHECK(failure_of([] { _exit(7); }) == "ended with 7");
  CHECK(failure_of([] { throw std::out_of_range("place"); }) == "not an Error: place");
  CHECK(failure_of([] { throw 1; }) == "not an exception of the standard library");
  CHECK(failure_of([] { throw Error("a defect"); }) == "not an input error: a defect");
  CHECK(failure_of(
            [] {
              for (volatile int turn = 0; turn == 0;) {
              }
            },
            0.5) == "took more than 0.500000 s");
  CHECK(failure_of([] {
          std::vector<std::string> kept;
          while (true) kept.emplace_back(1 << 20, 'x');
        }) == "took more than 256 MiB");
}

TEST_CASE("fuzz: a reader that keeps to the rules has no failure and all files are read") {
  Limits limits;
  limits.files = 1000;
  const Report report = fuzz::fuzz(failing([] { throw input_error("a token"); }), limits);
  CHECK(report.failures.empty());
  CHECK(report.files == 1000);
  CHECK(report.accepted < 200);
}

TEST_CASE("fuzz: after a failure it goes on with the next file") {
  Limits limits;
  limits.files = 300;
  limits.failures = 3;
  const Report report = fuzz::fuzz(failing([] { _exit(1); }), limits);
  REQUIRE(report.failures.size() == 3);
  CHECK(report.failures[0].number < report.failures[1].number);
  CHECK(report.failures[1].number < report.failures[2].number);
}

TEST_CASE("mutator: files are a function of seed and number and of bounded length") {
  const std::vector<std::string> sound = {"{\"key\": 12345}", std::string(300, 'x')};
  Mutator one(sound, {"token"}), other(sound, {"token"});
  std::set<std::string> files;
  for (uint64_t number = 0; number < 1000; ++number) {
    const std::string file = one.file(5, number);
    CHECK(file.size() <= 2 * 300 + 1024);
    files.insert(file);
  }
  CHECK(files.size() > 800);
  CHECK(one.file(5, 0) == sound[0]);
  CHECK(one.file(6, 1) == sound[1]);
  CHECK(one.file(5, 7) == other.file(5, 7));
  CHECK(one.file(5, 7) != other.file(6, 7));
}

TEST_CASE("corpus: files of every byte come back from an archive, and a damaged one is refused") {
  const test::TemporaryFolder folder;
  const std::string archive = folder.path() + "/corpus.gz";
  CHECK(read_corpus(archive).empty());
  std::string bytes(256, '\0');
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i);
  const std::vector<std::string> files = {"", "12\n", bytes, std::string(100'000, 'x')};
  write_corpus(archive, files);
  CHECK(read_corpus(archive) == files);
  write_corpus(archive, {});
  CHECK(read_corpus(archive).empty());
  for (const char* const damaged : {"5\ncut", "5", "x\n", "1x\na", "99999999999999999999\n"}) {
    std::ofstream(archive) << damaged;  // zlib reads what is not compressed as it is
    CHECK_THROWS_WITH(read_corpus(archive), archive + " is damaged");
  }
  write_corpus(archive, files);
  std::filesystem::resize_file(archive, std::filesystem::file_size(archive) - 4);
  CHECK_THROWS_WITH(read_corpus(archive), archive + " is damaged");
}
