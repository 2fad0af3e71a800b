// The comparison of dumps can fail, and no verb of device.h is left out of the committed one. (That
// the emulator still gives the committed dump is a test of its own: CMakeLists.txt.)
#include <fstream>
#include <iterator>
#include <regex>
#include <set>

#include "catch.h"
#include "kernels/error.h"
#include "tests/conformance/compare.h"

using namespace normlab;
using namespace normlab::conformance;

namespace {

std::string content(const std::string& path) {
  std::ifstream file(std::string(SOURCE_DIRECTORY) + "/" + path);
  REQUIRE(file);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The functions that a device header declares, but for constructors and operators.
std::set<std::string> verbs_of(const std::string& header) {
  static const std::regex declaration("__device__ __forceinline__ [\\w:<>]+ ([a-z]\\w*)\\(");
  std::set<std::string> verbs;
  for (std::sregex_iterator match(header.begin(), header.end(), declaration), end; match != end;
       ++match) {
    verbs.insert((*match)[1]);
  }
  return verbs;
}

std::set<std::string> verbs_of(const std::vector<Line>& lines) {
  std::set<std::string> verbs;
  for (const Line& line : lines) {
    for (size_t begin = 0; begin < line.verb.size();) {
      const size_t end = std::min(line.verb.find('+', begin), line.verb.size());
      verbs.insert(line.verb.substr(begin, end - begin));
      begin = end + 1;
    }
  }
  return verbs;
}

Line line_of(Agreement agreement, double bound, std::vector<uint32_t> words) {
  return {"verb", "case", agreement, bound, std::move(words)};
}

bool agree(const Line& expected, std::vector<uint32_t> words) {
  return differences({line_of(expected.agreement, expected.bound, std::move(words))}, {expected})
      .empty();
}

}  // namespace

TEST_CASE("conformance: every verb of device.h is in the committed dump") {
  const std::set<std::string> dumped =
      verbs_of(from_text(content("tests/conformance/expected.txt")));
  std::set<std::string> declared = verbs_of(content("kernels/cuda/device.h"));
  CHECK(declared.size() > 10);
  CHECK(declared.erase("address") == 1);  // what other verbs of device.h give to PTX
  for (const std::string& verb : declared) {
    INFO(verb << " has no line in tests/conformance/expected.txt");
    CHECK(dumped.contains(verb));
  }
}

TEST_CASE("conformance: the search for verbs finds functions and nothing else") {
  const std::set<std::string> verbs = verbs_of(
      "__device__ __forceinline__ float first(float x) {\n"
      "template <typename T>\n__device__ __forceinline__ T second(T value,\n"
      "  __device__ __forceinline__ SharedArray<T> third(int64_t size) {\n"
      "  __device__ __forceinline__ explicit SharedArray(T* data) : data_(data) {}\n"
      "  __device__ __forceinline__ T& operator[](int64_t index) const {\n");
  CHECK(verbs == std::set<std::string>{"first", "second", "third"});
}

TEST_CASE("conformance: a dump is read as it was written") {
  const std::vector<Line> lines = {{"a+b", "x", Agreement::bits, 0, {0, 0xFFFFFFFF}},
                                   {"c", "y,z=1", Agreement::ulps, 3, {0x3F800000}},
                                   {"d", "y", Agreement::within, 0x1p-15, {1}}};
  CHECK(to_text(lines).starts_with("a+b x bits 00000000 ffffffff\nc y,z=1 ulps:3 3f800000\n"));
  CHECK(differences(from_text("# comment\n\n" + to_text(lines)), lines).empty());
  CHECK(from_text(to_text(lines))[2].bound == Approx(0x1p-15).epsilon(1e-5));
  CHECK(verbs_of(lines) == std::set<std::string>{"a", "b", "c", "d"});
  CHECK_THROWS_AS(from_text("verb case"), Error);
  CHECK_THROWS_AS(from_text("verb case nearly 00000000"), Error);
}

TEST_CASE("differences: bits are equal or they are not") {
  const Line expected = line_of(Agreement::bits, 0, {0, 5});
  CHECK(agree(expected, {0, 5}));
  CHECK_FALSE(agree(expected, {0x80000000, 5}));
  CHECK_FALSE(agree(expected, {0}));
  CHECK(differences({line_of(Agreement::bits, 0, {7, 6})}, {expected}) ==
        std::vector<std::string>{"verb case: 2 of 2 words differ, the first at 0: 00000007 "
                                 "(expected: 00000000, bits)"});
}

TEST_CASE("differences: units in the last place, across zero too, and NaN equals NaN") {
  const Line one = line_of(Agreement::ulps, 2, {0x3F800000});
  CHECK(agree(one, {0x3F800002}));
  CHECK(agree(one, {0x3F7FFFFE}));
  CHECK_FALSE(agree(one, {0x3F800003}));
  CHECK_FALSE(agree(one, {0xBF800000}));
  CHECK_FALSE(agree(one, {0x7FC00000}));
  CHECK(agree(line_of(Agreement::ulps, 2, {0x80000001}), {0x00000001}));
  CHECK(agree(line_of(Agreement::ulps, 0, {0x7FC00000}), {0x7FFFFFFF}));
  CHECK_FALSE(agree(line_of(Agreement::ulps, 2, {0x7F7FFFFF}), {0x7F800000}));
}

TEST_CASE("differences: within an absolute bound") {
  const Line one = line_of(Agreement::within, 0x1p-22, {0x3F800000});
  CHECK(agree(one, {0x3F800002}));
  CHECK_FALSE(agree(one, {0x3F800003}));
  CHECK_FALSE(agree(one, {0x7FC00000}));
}

TEST_CASE("differences: a line that is missing and one too many") {
  const Line line = line_of(Agreement::bits, 0, {1});
  Line other = line;
  other.name = "other";
  CHECK(differences({line}, {line, other}) == std::vector<std::string>{"verb other: is missing"});
  CHECK(differences({line, other}, {line}) ==
        std::vector<std::string>{"verb other: is not expected"});
}
