// safetensors: what is written is read, types convert exactly.
#include "engine/safetensors.h"

#include <xxhash.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "catch.h"
#include "engine/stored_numbers.h"
#include "temporary_folder.h"

using namespace normlab;
using normlab::test::TemporaryFolder;

namespace {

template <typename T>
TensorToWrite tensor(const std::string& name, StoredType type, std::vector<int64_t> shape,
                     const std::vector<T>& values) {
  return {name, type, std::move(shape), [values](std::span<std::byte> out) {
            REQUIRE(out.size() == values.size() * sizeof(T));
            if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
          }};
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

template <typename Function>
std::string failure(Function function) {
  try {
    function();
  } catch (const Error& problem) {
    return problem.what();
  }
  return "";
}

std::vector<uint16_t> all_16_bits() {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  return bits;
}

// Sign, exponent and fraction by the definition of IEEE 754, in double: an independent witness.
double ieee(uint32_t bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = static_cast<int>(bits) & ((1 << fraction_bits) - 1);
  const double sign = (bits >> (exponent_bits + fraction_bits)) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp((1 << fraction_bits) + fraction, exponent - bias - fraction_bits);
}

void check_all(const std::vector<float>& values, int exponent_bits, int fraction_bits) {
  int wrong = 0;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const double expected = ieee(bits, exponent_bits, fraction_bits);
    const double value = values[bits];
    const bool same = std::isnan(expected)
                          ? std::isnan(value)
                          : value == expected && std::signbit(value) == std::signbit(expected);
    wrong += same ? 0 : 1;
  }
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("safetensors: what is written is read back, in any order, with scalars and empties") {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/a.safetensors";
  const std::vector<float> weights = {1.5f, -2, 3e-40f, 4, 5, 6};
  write_safetensors(path,
                    {tensor<float>("z.weight", StoredType::f32, {2, 3}, weights),
                     tensor<int64_t>("ids", StoredType::i64, {2}, {7, -9}),
                     tensor<float>("none", StoredType::f32, {0, 4}, {}),
                     tensor<double>("a", StoredType::f64, {}, {0.1})},
                    {{"step", "12"}, {"quoted \"é\"", "\n"}});
  SafetensorsFile file(path);
  CHECK(file.tensors().size() == 4);
  CHECK(file.tensors().at("z.weight").shape == std::vector<int64_t>{2, 3});
  CHECK(file.tensors().at("z.weight").elements() == 6);
  CHECK(file.tensors().at("a").elements() == 1);
  CHECK(file.read("z.weight") == weights);
  CHECK(file.read("a") == std::vector<float>{0.1f});
  CHECK(file.read("none").empty());
  CHECK(file.contains("ids"));
  CHECK_FALSE(file.contains("idz"));
  int64_t ids[2];
  REQUIRE(file.bytes("ids").size() == sizeof(ids));
  std::memcpy(ids, file.bytes("ids").data(), sizeof(ids));
  CHECK(ids[1] == -9);
  CHECK(file.metadata() == std::map<std::string, std::string>{
                               {"format", "pt"}, {"step", "12"}, {"quoted \"é\"", "\n"}});
}

TEST_CASE("safetensors: the header is padded with spaces to 8 bytes") {
  TemporaryFolder folder;
  for (const char* name : {"a", "ab", "abc", "abcd", "abcde", "abcdef", "abcdefg", "abcdefgh"}) {
    const std::string path = folder.path() + "/" + name;
    write_safetensors(path, {tensor<float>(name, StoredType::f32, {1}, {1})});
    const std::string bytes = content(path);
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    CHECK(length % 8 == 0);
    CHECK(bytes.size() == 8 + length + 4);
    const std::string header = bytes.substr(8, length);
    CHECK(header.substr(header.find_last_of('}') + 1).find_first_not_of(' ') == std::string::npos);
    CHECK(header.rfind("{\"__metadata__\":{\"format\":\"pt\"}", 0) == 0);
  }
}

TEST_CASE("safetensors: all 65536 halves and bfloats convert exactly") {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/a.safetensors";
  write_safetensors(path, {tensor("half", StoredType::f16, {65536}, all_16_bits()),
                           tensor("brain", StoredType::bf16, {256, 256}, all_16_bits())});
  SafetensorsFile file(path);
  check_all(file.read("half"), 5, 10);
  check_all(file.read("brain"), 8, 7);
}

TEST_CASE("safetensors: all halves and bfloats are written as they were read, others rounded") {
  for (const StoredType type : {StoredType::f16, StoredType::bf16}) {
    std::vector<float> numbers(65536);
    const std::vector<uint16_t> bits = all_16_bits();
    read_numbers(numbers, std::as_bytes(std::span(bits)), type);
    std::vector<uint16_t> back(bits.size());
    write_numbers(std::as_writable_bytes(std::span(back)), numbers, type);
    int wrong = 0;
    for (size_t i = 0; i < bits.size(); ++i) {
      wrong += back[i] == bits[i] || std::isnan(numbers[i]) ? 0 : 1;
      // Between a half and the next: to the nearer, and from the middle to the even one.
      const float next = i + 1 < bits.size() ? numbers[i + 1] : 0;
      if ((i & 0x7fff) + 1 >= 0x7c00 || !std::isfinite(next)) continue;
      const float middle = (numbers[i] + next) / 2;
      const float points[] = {std::nextafter(middle, numbers[i]), middle,
                              std::nextafter(middle, next)};
      uint16_t rounded[3];
      write_numbers(std::as_writable_bytes(std::span(rounded)), points, type);
      const uint16_t even = bits[i + (i % 2)];
      wrong += rounded[0] == bits[i] && rounded[1] == even && rounded[2] == bits[i + 1] ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
  const float beyond[] = {65519.996f, 65520, -1e30f, INFINITY, NAN, 2.98e-8f, 2.99e-8f};
  uint16_t halves[7];
  write_numbers(std::as_writable_bytes(std::span(halves)), beyond, StoredType::f16);
  CHECK(std::vector<uint16_t>(halves, halves + 7) ==
        std::vector<uint16_t>{0x7bff, 0x7c00, 0xfc00, 0x7c00, 0x7e00, 0, 1});
}

TEST_CASE("safetensors: parts of a tensor are read, and a disk that fails is no wrong input") {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/a.safetensors";
  write_safetensors(path, {tensor<float>("a", StoredType::f32, {2, 3}, {1, 2, 3, 4, 5, 6})});
  const SafetensorsFile file(path);
  std::vector<float> part(2);
  file.read(part, "a", 3);
  CHECK(part == std::vector<float>{4, 5});
  file.read(part, "a", 4);
  CHECK(part == std::vector<float>{5, 6});
  CHECK_THROWS_AS(file.read(part, "a", 5), Error);
  CHECK_THROWS_AS(file.read(part, "a", -1), Error);
  std::filesystem::resize_file(path, 20);
  try {
    file.read(part, "a", 4);
    FAIL("numbers that are gone were read");
  } catch (const Error& problem) {
    CHECK(problem.kind() == ErrorKind::failure);
    CHECK(std::string(problem.what()).find("it has become shorter") != std::string::npos);
  }
}

TEST_CASE("safetensors: the hash is XXH3 of the whole file") {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/a.safetensors";
  const uint64_t hash =
      write_safetensors(path, {tensor("x", StoredType::bf16, {65536}, all_16_bits()),
                               tensor("y", StoredType::f16, {65536}, all_16_bits())});
  const std::string bytes = content(path);
  CHECK(hash == XXH3_64bits(bytes.data(), bytes.size()));
  CHECK(hash == hash_file(path));
  std::ofstream(path, std::ios::app) << "x";
  CHECK(hash != hash_file(path));
}

TEST_CASE("safetensors: tensors are asked for one at a time, in the order given") {
  TemporaryFolder folder;
  std::vector<std::string> order;
  std::vector<TensorToWrite> tensors;
  for (const char* name : {"c", "a", "b"}) {
    tensors.push_back({name, StoredType::i32, {2}, [&order, name](std::span<std::byte> out) {
                         order.emplace_back(name);
                         std::memset(out.data(), name[0], out.size());
                       }});
  }
  const std::string path = folder.path() + "/a.safetensors";
  write_safetensors(path, tensors);
  CHECK(order == std::vector<std::string>{"c", "a", "b"});
  SafetensorsFile file(path);
  CHECK(file.tensors().at("c").begin == 0);
  CHECK(file.bytes("b")[0] == std::byte{'b'});
}

TEST_CASE("safetensors: what cannot be written names file and reason") {
  TemporaryFolder folder;
  const auto one = tensor<float>("a", StoredType::f32, {1}, {1});
  CHECK(failure([&] {
          write_safetensors(folder.path() + "/no/a", {one});
        }).find("/no/a: cannot be written (No such file or directory)") != std::string::npos);
  CHECK(failure([&] {
          write_safetensors(folder.path() + "/a", {one, one});
        }).find("tensor a would be written twice") != std::string::npos);
  if (std::filesystem::exists("/dev/full")) {
    CHECK(failure([&] { write_safetensors("/dev/full", {one}); }).find("No space left on device") !=
          std::string::npos);
  }
}

TEST_CASE("safetensors: a tensor that is missing or holds no floats is an error with its name") {
  TemporaryFolder folder;
  const std::string path = folder.path() + "/a.safetensors";
  write_safetensors(path, {tensor<int64_t>("ids", StoredType::i64, {1}, {7})});
  SafetensorsFile file(path);
  CHECK(failure([&] { file.read("wte"); }).find("a.safetensors: no tensor wte") !=
        std::string::npos);
  CHECK(failure([&] { file.read("ids"); }).find("tensor ids holds no floating-point") !=
        std::string::npos);
}
