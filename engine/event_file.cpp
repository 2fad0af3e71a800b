#include "engine/event_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <utility>

#include "engine/files.h"
#include "kernels/error.h"

namespace normlab {
namespace {

namespace fs = std::filesystem;

// TensorBoard looks for "tfevents" and reads the files of a folder in the order of their names.
constexpr std::string_view kNameBegin = "events.out.tfevents.";

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}

std::string little_endian(uint64_t value, int bytes) {
  std::string out;
  for (int byte = 0; byte < bytes; ++byte) out += static_cast<char>(value >> (8 * byte));
  return out;
}

std::string masked_crc(std::string_view bytes) {
  return little_endian(std::rotr(crc32c(bytes), 15) + 0xa282ead8u, 4);
}

std::string record(const std::string& message) {
  const std::string length = little_endian(message.size(), 8);
  return length + masked_crc(length) + message + masked_crc(message);
}

// Protocol buffers: a field is a key (number and kind) and a value.
enum class FieldKind { variable = 0, eight_bytes = 1, counted = 2, four_bytes = 5 };

std::string variable_integer(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

std::string key(int number, FieldKind kind) {
  return variable_integer(static_cast<uint64_t>(number << 3 | static_cast<int>(kind)));
}

std::string integer_field(int number, int64_t value) {
  return key(number, FieldKind::variable) + variable_integer(static_cast<uint64_t>(value));
}

std::string double_field(int number, double value) {
  return key(number, FieldKind::eight_bytes) + little_endian(std::bit_cast<uint64_t>(value), 8);
}

std::string float_field(int number, float value) {
  return key(number, FieldKind::four_bytes) + little_endian(std::bit_cast<uint32_t>(value), 4);
}

std::string counted_field(int number, const std::string& content) {
  return key(number, FieldKind::counted) + variable_integer(content.size()) + content;
}

// Fields of Event, SessionLog, Summary and Summary.Value in TensorFlow's event.proto and
// summary.proto.
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
constexpr int kSessionStatus = 1, kSessionStart = 1;
constexpr int kSummaryValue = 1, kValueTag = 1, kValueSimple = 2;

double wall_seconds_now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// The number in the name of an event file; 0 of any other.
int64_t number_in(const std::string& name) {
  int64_t number = 0;
  if (name.starts_with(kNameBegin)) {
    std::from_chars(name.data() + kNameBegin.size(), name.data() + name.size(), number);
  }
  return number;
}

// The seconds since 1970, as TensorFlow's files have them; but behind every file that is there,
// whatever the clock says.
std::string next_name(const std::string& directory) {
  auto number = static_cast<int64_t>(wall_seconds_now());
  std::error_code unreadable;  // then it cannot be written to either, and that is said
  for (const auto& entry : fs::directory_iterator(directory, unreadable)) {
    number = std::max(number, number_in(entry.path().filename().string()) + 1);
  }
  std::string digits = std::to_string(number);
  digits.insert(0, 10 - std::min<size_t>(digits.size(), 10), '0');
  return std::string(kNameBegin) + digits + ".normlab";
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> table = crc_table();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xff];
  return ~crc;
}

std::string version_record(double wall_seconds) {
  return record(double_field(kWallTime, wall_seconds) +
                counted_field(kFileVersion, "brain.Event:2"));
}

std::string session_start_record(double wall_seconds, int64_t step) {
  return record(double_field(kWallTime, wall_seconds) + integer_field(kStep, step) +
                counted_field(kSessionLog, integer_field(kSessionStatus, kSessionStart)));
}

std::string scalars_record(double wall_seconds, int64_t step, const std::vector<Scalar>& scalars) {
  std::string summary;
  for (const Scalar& scalar : scalars) {
    summary += counted_field(kSummaryValue,
                             counted_field(kValueTag, scalar.tag) +
                                 float_field(kValueSimple, static_cast<float>(scalar.value)));
  }
  return record(double_field(kWallTime, wall_seconds) + integer_field(kStep, step) +
                counted_field(kSummary, summary));
}

EventFile::EventFile(std::string directory, int64_t step)
    : directory_(std::move(directory)), step_(step) {}

void EventFile::open() {
  path_ = directory_ + "/" + next_name(directory_);
  file_.open(path_, std::ios::binary);
  append(version_record(wall_seconds_now()));
  append(session_start_record(wall_seconds_now(), step_ + 1));
}

void EventFile::append(const std::string& record) {
  file_ << record << std::flush;
  if (file_) return;
  throw Error(path_ + ": cannot be written (" + std::strerror(errno) +
              "). See to its disk and permissions, and run the same command again");
}

void EventFile::write(int64_t step, const std::vector<Scalar>& scalars) {
  if (path_.empty()) open();
  append(scalars_record(wall_seconds_now(), step, scalars));
}

void EventFile::sync() const {
  if (!path_.empty()) sync_file(path_);
}

}  // namespace normlab
