#include "engine/rendezvous.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <thread>
#include <vector>

#include "catch.h"
#include "tests/engine/temporary_folder.h"

namespace normlab {
namespace {

constexpr size_t kBytes = 128;
using Bytes = std::vector<std::byte>;

JobPlace place_of(int rank, int ranks) {
  JobPlace place;
  place.rank = rank;
  place.ranks = ranks;
  return place;
}

// What bytes each rank of a job, a thread, has in the end; or what error.
struct Outcome {
  Bytes bytes;
  std::string error;
  ErrorKind kind = ErrorKind::failure;
};
using Broadcast = std::function<void(const JobPlace& place, std::span<std::byte> bytes)>;
std::vector<Outcome> outcomes(int ranks, const std::vector<int>& present, const Broadcast& run) {
  std::vector<Outcome> all(static_cast<size_t>(ranks));
  std::vector<std::thread> threads;
  for (const int rank : present) {
    threads.emplace_back([&, rank] {
      Outcome& own = all[static_cast<size_t>(rank)];
      own.bytes.assign(kBytes, static_cast<std::byte>(rank + 1));
      try {
        run(place_of(rank, ranks), own.bytes);
      } catch (const Error& error) {
        own.error = error.what();
        own.kind = error.kind();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return all;
}

void check_all_have_the_first(const std::vector<Outcome>& all) {
  for (const Outcome& one : all) {
    CHECK(one.error == "");
    CHECK(one.bytes == Bytes(kBytes, std::byte{1}));
  }
}

void check_contains(const std::string& text, const std::string& part) {
  INFO(text);
  INFO(part);
  CHECK(text.find(part) != std::string::npos);
}

// A socket that listens on a port nobody else has.
class Listener {
 public:
  Listener() : descriptor_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in where{};
    where.sin_family = AF_INET;
    socklen_t size = sizeof(where);
    REQUIRE(bind(descriptor_, reinterpret_cast<sockaddr*>(&where), size) == 0);
    REQUIRE(listen(descriptor_, 8) == 0);
    getsockname(descriptor_, reinterpret_cast<sockaddr*>(&where), &size);
    port_ = ntohs(where.sin_port);
  }
  ~Listener() { close(descriptor_); }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  int port() const { return port_; }

 private:
  int descriptor_;
  int port_ = 0;
};

int free_port() { return Listener().port(); }

void say_something_else(int port) {
  const int descriptor = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_port = htons(static_cast<uint16_t>(port));
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(descriptor, reinterpret_cast<sockaddr*>(&where), sizeof(where)) == 0) {
    const std::string words(100, 'x');
    // No CHECK: other threads may be in one.
    [[maybe_unused]] const ssize_t sent =
        send(descriptor, words.data(), words.size(), MSG_NOSIGNAL);
  }
  close(descriptor);
}

Broadcast by_tcp(int port, double timeout_seconds) {
  return [=](const JobPlace& place, std::span<std::byte> bytes) {
    broadcast_by_tcp(place, {"localhost", port}, timeout_seconds, bytes);
  };
}

Broadcast by_file(const std::string& directory, double timeout_seconds) {
  return [=](const JobPlace& place, std::span<std::byte> bytes) {
    broadcast_by_file(place, directory, timeout_seconds, bytes);
  };
}

Environment environment_of(const std::map<std::string, std::string>& variables) {
  return [variables](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  };
}

std::string error_of_find(const std::map<std::string, std::string>& variables) {
  try {
    find_broadcast(place_of(0, 2), "somewhere", 1, environment_of(variables));
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::input);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("rendezvous by TCP: all ranks have the first one's bytes, whoever comes first") {
  const int port = free_port();
  check_all_have_the_first(outcomes(4, {0, 1, 2, 3}, by_tcp(port, 20)));
  // At once again; and the first rank last.
  check_all_have_the_first(
      outcomes(3, {0, 1, 2}, [&](const JobPlace& place, std::span<std::byte> bytes) {
        if (place.rank == 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
        by_tcp(port, 20)(place, bytes);
      }));
  check_all_have_the_first(outcomes(1, {0}, by_tcp(port, 20)));
}

TEST_CASE("rendezvous by TCP: ranks that do not come are named") {
  const auto all = outcomes(4, {0, 2}, by_tcp(free_port(), 1));
  CHECK(all[0].kind == ErrorKind::communication);
  check_contains(all[0].error, "rank 1, 3 did not come to port");
  check_contains(all[0].error, "within 1s (parallel.timeout_seconds; MASTER_ADDR = localhost");
  CHECK(all[2].bytes == Bytes(kBytes, std::byte{1}));
}

TEST_CASE("rendezvous by TCP: a first rank that does not answer is named, and why") {
  const auto alone = outcomes(2, {1}, by_tcp(free_port(), 0.5));
  CHECK(alone[1].kind == ErrorKind::communication);
  check_contains(alone[1].error, "did not answer: Connection refused within");
  // Somebody who listens and says nothing.
  const Listener other;
  const auto misled = outcomes(2, {1}, by_tcp(other.port(), 0.5));
  check_contains(misled[1].error, "did not answer: somebody else listens there within");
  const auto unknown = outcomes(2, {1}, [](const JobPlace& place, std::span<std::byte> bytes) {
    broadcast_by_tcp(place, {"no-such-host.invalid", 1}, 0.1, bytes);
  });
  check_contains(unknown[1].error, "no-such-host.invalid:1 did not answer: its name is not known");
}

TEST_CASE("rendezvous by TCP: a port that another program has is an input error") {
  const Listener other;
  const auto all = outcomes(2, {0}, by_tcp(other.port(), 1));
  CHECK(all[0].kind == ErrorKind::input);
  check_contains(all[0].error, "MASTER_PORT = " + std::to_string(other.port()) +
                                   " (the first rank cannot listen there: ");
}

TEST_CASE("rendezvous by TCP: strangers and ranks of another job are let go") {
  const int port = free_port();
  const auto all = outcomes(3, {0, 1, 2}, [&](const JobPlace& place, std::span<std::byte> bytes) {
    if (place.rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(400));
    if (place.rank < 2) return by_tcp(port, 20)(place_of(place.rank, 2), bytes);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    say_something_else(port);
    // Says that it is one of three.
    by_tcp(port, 0.2)(place, bytes);
  });
  CHECK(all[0].error == "");
  CHECK(all[1].bytes == Bytes(kBytes, std::byte{1}));
  CHECK(all[2].kind == ErrorKind::communication);
  check_contains(all[2].error, "is the first of 2 ranks, and this is one of 3");
}

TEST_CASE("rendezvous by file: all ranks have the first one's bytes, and nothing is left") {
  const test::TemporaryFolder folder;
  const std::string directory = folder.path() + "/new/rendezvous";
  for (int turn = 0; turn < 3; ++turn) {
    check_all_have_the_first(outcomes(4, {0, 1, 2, 3}, by_file(directory, 20)));
    CHECK_FALSE(std::filesystem::exists(directory));
  }
  check_all_have_the_first(
      outcomes(3, {0, 1, 2}, [&](const JobPlace& place, std::span<std::byte> bytes) {
        if (place.rank == 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
        by_file(directory, 20)(place, bytes);
      }));
}

TEST_CASE("rendezvous by file: what an earlier job has left is taken by nobody") {
  const test::TemporaryFolder folder;
  const std::string directory = folder.path();
  // A job whose last rank never came leaves its answer and its requests.
  const auto before = outcomes(3, {0, 1}, by_file(directory, 0.5));
  CHECK(before[0].kind == ErrorKind::communication);
  check_contains(before[0].error, "not all ranks have come (rank 2) within 1s");
  CHECK(before[1].error == "");
  REQUIRE(std::filesystem::exists(directory + "/answer"));
  REQUIRE(std::filesystem::exists(directory + "/request-1"));
  // Alone, the other ranks of the next job do not take it.
  const auto alone = outcomes(3, {1, 2}, by_file(directory, 0.5));
  check_contains(alone[1].error, "the first rank has not answered within");
  CHECK(alone[1].bytes == Bytes(kBytes, std::byte{2}));
  std::ofstream(directory + "/request-2") << "what\nis this\n";
  // The first rank finds the old requests before the new ones.
  check_all_have_the_first(
      outcomes(3, {0, 1, 2}, [&](const JobPlace& place, std::span<std::byte> bytes) {
        std::this_thread::sleep_for(std::chrono::milliseconds(200 * place.rank));
        by_file(directory, 20)(place, bytes);
      }));
}

TEST_CASE("rendezvous: MASTER_ADDR and MASTER_PORT choose TCP, or else a file") {
  const test::TemporaryFolder folder;
  const std::string directory = folder.path() + "/by_file";
  const std::string port = std::to_string(free_port());
  const auto by = [&](const std::map<std::string, std::string>& variables) -> Broadcast {
    return [=](const JobPlace& place, std::span<std::byte> bytes) {
      find_broadcast(place, directory, 0.3, environment_of(variables))(bytes);
    };
  };
  const std::map<std::string, std::string> tcp = {{"MASTER_ADDR", "127.0.0.1"},
                                                  {"MASTER_PORT", port}};
  check_all_have_the_first(outcomes(2, {0, 1}, by(tcp)));
  check_contains(outcomes(2, {1}, by(tcp))[1].error, "127.0.0.1:" + port + " did not answer");
  auto agent = tcp;
  agent["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  check_contains(outcomes(2, {1}, by(agent))[1].error, "by_file: the first rank has not answered");
  agent["TORCHELASTIC_USE_AGENT_STORE"] = "False";
  check_contains(outcomes(2, {1}, by(agent))[1].error, "did not answer");
  check_contains(outcomes(2, {1}, by({}))[1].error, "by_file: the first rank has not answered");
  check_contains(error_of_find({{"MASTER_ADDR", "localhost"}}), "MASTER_PORT is not set");
  check_contains(error_of_find({{"MASTER_PORT", "1"}}), "MASTER_ADDR is not set");
  for (const char* wrong : {"0", "65536", "x", "1x", ""}) {
    check_contains(error_of_find({{"MASTER_ADDR", "localhost"}, {"MASTER_PORT", wrong}}),
                   "must be a port, from 1 to 65535");
  }
}

}  // namespace normlab
