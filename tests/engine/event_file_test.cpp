// Expected bytes: TensorBoard's own protocol buffers and record writer (tensorboard 2.21).
#include "engine/event_file.h"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <limits>

#include "catch.h"
#include "engine/files.h"
#include "event_records.h"
#include "kernels/error.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

std::vector<std::string> names_in(const TemporaryFolder& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool ends_in(const std::string& message, const std::string& hexadecimal) {
  return message.ends_with(bytes_of(hexadecimal));
}

}  // namespace

TEST_CASE("crc32c: the check value of Castagnoli's polynomial") {
  CHECK(crc32c("123456789") == 0xe3069283u);
  CHECK(crc32c("") == 0);
  CHECK(crc32c(bytes_of("18 00 00 00 00 00 00 00")) == 0x4a65bfe4u);
}

TEST_CASE("event file: the records of a version and of a scalar are TensorBoard's byte for byte") {
  CHECK(version_record(1700000000.0) ==
        bytes_of("18 00 00 00 00 00 00 00 a3 7f 4b 22 09 00 00 00 40 fc 54 d9 41 1a 0d 62 72 61 69 "
                 "6e 2e 45 76 65 6e 74 3a 32 ec ed 8f 9d"));
  CHECK(scalars_record(1700000001.5, 1, {{"loss", 2.5}}) ==
        bytes_of("1a 00 00 00 00 00 00 00 12 9b d8 2d 09 00 00 60 40 fc 54 d9 41 10 01 2a 0d 0a 0b "
                 "0a 04 6c 6f 73 73 15 00 00 20 40 2f 44 7d 1d"));
}

TEST_CASE("event file: the record of a session's start is TensorBoard's byte for byte") {
  CHECK(session_start_record(1700000002.25, 101) ==
        bytes_of("0f 00 00 00 00 00 00 00 6d 53 2b 09 09 00 00 90 40 fc 54 d9 41 10 65 3a 02 08 01 "
                 "f4 67 20 f7"));
}

TEST_CASE("event file: NaN and infinity and a step beyond 32 bits are TensorBoard's bytes") {
  const std::string expected =
      "57 00 00 00 00 00 00 00 e6 ba 94 8c 09 00 00 a0 40 fc 54 d9 41 10 80 80 80 80 20 2a 46 0a "
      "11 0a 0a 74 72 61 69 6e 2f 6c 6f 73 73 15 00 00 c0 7f 0a 15 0a 0e 76 61 6c 69 64 61 74 69 "
      "6f 6e 2f 6f 77 74 15 00 00 80 7f 0a 1a 0a 13 74 72 61 69 6e 2f 6c 65 61 72 6e 69 6e 67 5f "
      "72 61 74 65 15 6f 12 83 ba e8 ea 80 d9";
  CHECK(scalars_record(1700000002.5, int64_t{1} << 33,
                       {{"train/loss", std::numeric_limits<double>::quiet_NaN()},
                        {"validation/owt", std::numeric_limits<double>::infinity()},
                        {"train/learning_rate", -0.001}}) == bytes_of(expected));
}

TEST_CASE("event file: a length of two bytes") {
  const std::string record = scalars_record(1700000001.5, 1, {{std::string(200, 'n'), 1}});
  CHECK(messages_of(record).front().substr(11, 10) == bytes_of("2a d3 01 0a d0 01 0a c8 01 6e"));
}

TEST_CASE("event file: each process begins one that says where it goes on and sorts behind") {
  const TemporaryFolder folder;
  folder.write("events.out.tfevents.4000000000.normlab", "of a clock that was wrong");
  folder.write("events.out.tfevents.5000000000.another", "not ours");
  folder.write("metrics.jsonl", "");
  EventFile first(folder.path(), 0);
  first.sync();
  CHECK(names_in(folder).size() == 3);  // nothing before there is something to say
  first.write(1, {{"a", 1}});
  first.write(2, {{"a", 1}});
  first.sync();
  EventFile second(folder.path(), 1);
  second.write(2, {{"a", 2}});
  REQUIRE(names_in(folder) == std::vector<std::string>{"events.out.tfevents.4000000000.normlab",
                                                       "events.out.tfevents.5000000000.another",
                                                       "events.out.tfevents.5000000001.normlab",
                                                       "events.out.tfevents.5000000002.normlab",
                                                       "metrics.jsonl"});
  const auto earlier = messages_of(read_file(folder.path() + "/" + names_in(folder)[2]));
  const auto later = messages_of(read_file(folder.path() + "/" + names_in(folder)[3]));
  REQUIRE(earlier.size() == 4);
  REQUIRE(later.size() == 3);
  CHECK(ends_in(earlier[0], "3a 32"));                // …Event:2
  CHECK(ends_in(earlier[1], "10 01 3a 02 08 01"));    // from step 1 on
  CHECK(ends_in(later[1], "10 02 3a 02 08 01"));      // what was said of step 2 is void
  CHECK(ends_in(later[2], "61 15 00 00 00 40"));      // "a", 2
  CHECK(later[2].substr(9, 2) == bytes_of("10 02"));  // at step 2
}

TEST_CASE("event file: the name begins with the time") {
  const TemporaryFolder folder;
  const std::time_t before = std::time(nullptr);
  EventFile(folder.path(), 0).write(1, {{"a", 1}});
  const int64_t number = std::stoll(names_in(folder).front().substr(20, 10));
  CHECK(number >= before);
  CHECK(number <= std::time(nullptr));
}

TEST_CASE("event file: a folder that cannot be written to is an error that names the file") {
  const TemporaryFolder folder;
  const std::string gone = folder.path() + "/gone";
  std::filesystem::create_directory(gone);
  EventFile file(gone, 0);
  std::filesystem::remove(gone);
  std::string message;
  try {
    file.write(1, {{"a", 1}});
  } catch (const Error& error) {
    message = error.what();
  }
  CHECK(message.starts_with(gone + "/events.out.tfevents."));
}
