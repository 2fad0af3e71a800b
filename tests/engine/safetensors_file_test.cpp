// Files that others made: what is valid loads, what is damaged says how and never crashes.
#include <algorithm>
#include <cstring>

#include "catch.h"
#include "engine/safetensors_header.h"
#include "temporary_folder.h"

using namespace normlab;
using normlab::test::TemporaryFolder;

namespace {

std::string with_length(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + data;
}

// "" where the bytes load and every tensor can be touched; the message of the input Error.
std::string complaint(const TemporaryFolder& folder, const std::string& bytes) {
  const std::string path = folder.write("a.safetensors", bytes);
  try {
    SafetensorsFile file(path);
    for (const auto& [name, tensor] : file.tensors()) {
      const std::span<const std::byte> bytes = file.bytes(name);
      if (std::count(bytes.begin(), bytes.end(), std::byte{0}) < 0) return "never: touches all";
      try {
        file.read(name);
      } catch (const Error& problem) {
        if (problem.kind() != ErrorKind::input) return "WRONG KIND";
      }
    }
  } catch (const Error& problem) {
    if (problem.kind() != ErrorKind::input) return std::string("WRONG KIND: ") + problem.what();
    return problem.what();
  }
  return "";
}

// The same without a file system, thousands of times: here every tensor must lie in the data.
std::string memory_complaint(const std::string& bytes) {
  try {
    const SafetensorsHeader header = parse_safetensors_header("a", std::as_bytes(std::span(bytes)));
    const int64_t data_bytes = static_cast<int64_t>(bytes.size()) - header.data_begin;
    for (const auto& [name, tensor] : header.tensors) {
      if (tensor.begin < 0 || tensor.begin > tensor.end || tensor.end > data_bytes) {
        return "WRONG: a tensor outside the file";
      }
      const bool sized = tensor.type != StoredType::other;
      if (sized && tensor.elements() * size_of(tensor.type) != tensor.end - tensor.begin) {
        return "WRONG: a tensor whose shape is not its bytes";
      }
    }
  } catch (const Error& problem) {
    return problem.kind() == ErrorKind::input ? problem.what() : "WRONG KIND";
  }
  return "";
}

std::string header_complaint(const std::string& header, const std::string& data = "12345678") {
  TemporaryFolder folder;
  return complaint(folder, with_length(header, data));
}

bool contains(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

std::string entry(const std::string& shape, const std::string& offsets,
                  const std::string& dtype = "F32") {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

}  // namespace

TEST_CASE("safetensors: files of other writers load") {
  const std::string a = R"({"a":)" + entry("[2]", "[0,8]");
  CHECK(header_complaint(a + "}") == "");
  CHECK(header_complaint(a + "}     ") == "");
  CHECK(header_complaint(a + R"(,"__metadata__":{}})") == "");
  CHECK(header_complaint(a + R"(,"__metadata__":{"format":"np","x":"y"}})") == "");
  CHECK(header_complaint(R"({"a":)" + entry("[1]", "[4,8]") + R"(,"b":)" + entry("[1]", "[0,4]") +
                         "}") == "");
  CHECK(header_complaint(R"({"mask":)" + entry("[1,8]", "[0,8]", "BOOL") + "}") == "");
  CHECK(header_complaint("{}", "") == "");
  CHECK(header_complaint(R"({"a":)" + entry("[0,4611686018427387904]", "[8,8]") + R"(,"b":)" +
                         entry("[2]", "[0,8]") + "}") == "");
}

TEST_CASE("safetensors: a tensor of a type nobody computes with keeps its bytes") {
  TemporaryFolder folder;
  const std::string path =
      folder.write("a", with_length(R"({"mask":)" + entry("[8]", "[0,8]", "U8") + "}", "12345678"));
  SafetensorsFile file(path);
  CHECK(file.tensors().at("mask").type == StoredType::other);
  CHECK(file.bytes("mask").size() == 8);
  CHECK_THROWS_AS(file.read("mask"), Error);
}

TEST_CASE("safetensors: a damaged header says what is wrong and where") {
  contains(header_complaint(R"({"a":)" + entry("[2]", "[0,8]") + R"(,"a":)" +
                            entry("[2]", "[0,8]") + "}"),
           "its header has \"a\" twice");
  contains(
      header_complaint(R"({"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}})"),
      "\"dtype\" twice");
  contains(header_complaint(R"({"a":)" + entry("[3]", "[0,8]") + "}"),
           "tensor \"a\": 8 bytes where its shape and dtype need 12");
  contains(header_complaint(R"({"a":)" + entry("[-2]", "[0,8]") + "}"), "no natural number");
  contains(header_complaint(R"({"a":)" + entry("[2.0]", "[0,8]") + "}"), "no natural number");
  contains(header_complaint(R"({"a":)" + entry("[9223372036854775808]", "[0,8]") + "}"),
           "no natural number");
  contains(header_complaint(R"({"a":)" + entry("[4294967296,4294967296,2]", "[0,8]") + "}"),
           "a shape beyond 64 bits");
  contains(header_complaint(R"({"a":)" + entry("[4]", "[0,16]") + "}"), "is the file cut short?");
  contains(header_complaint(R"({"a":)" + entry("[2]", "[8,0]") + "}"), "data_offsets");
  contains(header_complaint(R"({"a":)" + entry("[2]", "[-8,0]") + "}"), "data_offsets");
  contains(header_complaint(R"({"a":)" + entry("[2]", "[0,8,9]") + "}"), "data_offsets");
  contains(header_complaint(R"({"a":)" + entry("[2]", "[0,8]", "F33") + "}"), "no known dtype");
  contains(header_complaint(R"({"a":3})"), "tensor \"a\": no object");
  contains(header_complaint(R"({"a":)" + entry("{}", "[0,8]") + "}"), "no shape");
  contains(header_complaint(R"({"__metadata__":{"x":3}})", ""), "\"x\" is no text");
  contains(header_complaint(R"({"__metadata__":"x"})", ""), "__metadata__ is no object");
  contains(header_complaint(R"({"a":[[[[[[]]]]]]})"), "nests too deeply");
  contains(header_complaint(std::string(1'000'000, '{')), "safetensors file");
  contains(header_complaint("{\"a\":" + std::string(1'000'000, '[')), "nests too deeply");
  contains(header_complaint("[]"), "no JSON object");
  contains(header_complaint(""), "no JSON object");
  contains(header_complaint("{} x"), "not JSON");
  contains(header_complaint(std::string("{}\0", 3)), "not JSON");
  contains(header_complaint("{\"\xff\xfe\":1}"), "not JSON in UTF-8");
}

TEST_CASE("safetensors: tensors must tile the file without gap, overlap or rest") {
  const std::string first = R"({"a":)" + entry("[1]", "[0,4]");
  contains(header_complaint(first + "}"), "4 bytes belong to no tensor");
  contains(header_complaint(first + R"(,"b":)" + entry("[1]", "[0,4]") + "}"), "begins at byte 0");
  contains(header_complaint(first + R"(,"b":)" + entry("[1]", "[5,9]") + "}", "123456789"),
           "\"b\" begins at byte 5 of the data, not at 4");
}

TEST_CASE("safetensors: a file that is short, missing or no file says so") {
  TemporaryFolder folder;
  contains(complaint(folder, ""), "0 bytes");
  contains(complaint(folder, "1234567"), "7 bytes");
  contains(complaint(folder, std::string(8, '\xff')), "a header of 18446744073709551615 bytes");
  contains(complaint(folder, with_length("{}", "").substr(0, 9)), "a header of 2 bytes");
  try {
    SafetensorsFile file(folder.path() + "/none");
    FAIL("opened a file that is not there");
  } catch (const Error& problem) {
    CHECK(problem.kind() == ErrorKind::input);
    contains(problem.what(), "/none: cannot be opened (No such file or directory)");
  }
  CHECK_THROWS_AS(SafetensorsFile(folder.path()), Error);
}

TEST_CASE("safetensors: a file with changed or missing bytes loads or is refused") {
  TemporaryFolder folder;
  const std::string valid =
      with_length(R"({"__metadata__":{"format":"pt"},"a":)" + entry("[2,1]", "[0,8]") + R"(,"b":)" +
                      entry("[3]", "[8,14]", "BF16") + "}  ",
                  "12345678abcdef");
  REQUIRE(memory_complaint(valid) == "");
  uint64_t state = 7;
  auto random = [&state](size_t bound) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % bound;
  };
  int refused = 0;
  const std::string likely = "{}[],:\"0123456789-.eE \\";
  for (int trial = 0; trial < 5000; ++trial) {
    std::string mutant = valid;
    if (trial % 4 == 0) mutant.resize(8 + random(mutant.size() - 8));
    for (size_t change = random(3) + (trial % 4 == 0 ? 0 : 1); change > 0; --change) {
      mutant[random(mutant.size())] =
          random(2) == 0 ? likely[random(likely.size())] : static_cast<char>(random(256));
    }
    const std::string message = memory_complaint(mutant);
    if (message.rfind("WRONG", 0) == 0) FAIL(message);
    if (trial % 100 == 0) CHECK(complaint(folder, mutant).empty() == message.empty());
    refused += message.empty() ? 0 : 1;
  }
  CHECK(refused > 2500);
  CHECK(refused < 5000);  // changed data bytes are still a valid file
}

TEST_CASE("safetensors: every cut of a valid file is refused") {
  TemporaryFolder folder;
  const std::string valid = with_length(R"({"a":)" + entry("[2]", "[0,8]") + "}", "12345678");
  for (size_t size = 0; size < valid.size(); ++size) {
    INFO(size);
    CHECK(complaint(folder, valid.substr(0, size)).find("safetensors file") != std::string::npos);
  }
}
