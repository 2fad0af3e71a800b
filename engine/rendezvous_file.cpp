// A rank writes its request: a number of its own. The first rank writes the answer: a number of its
// own, each rank's request, the bytes. Who finds his request in the answer takes the bytes and
// writes the answer's number as his request; the first rank goes when all have. Every file is
// renamed into place, so that nobody reads half of it.
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>
#include <vector>

#include "engine/files.h"
#include "engine/log.h"
#include "engine/rendezvous.h"
#include "engine/stop_request.h"

namespace normlab {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kLook{20};

std::string random_number() {
  std::random_device device;
  std::ostringstream text;
  for (int i = 0; i < 4; ++i) text << std::hex << device() << (i < 3 ? "-" : "");
  return text.str();
}

// "" where there is none, or not yet.
std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string first_line(const std::string& path) {
  const std::string all = content(path);
  return all.substr(0, all.find('\n'));
}

// The first rank may take the directory away as soon as it sees the file: nothing comes after.
void replace(const std::string& path, const std::string& text) {
  const std::string beside = path + ".partial";
  std::ofstream file(beside, std::ios::binary | std::ios::trunc);
  file << text;
  file.close();
  if (!file || std::rename(beside.c_str(), path.c_str()) != 0) {
    throw Error(path + ": cannot be written (" + std::strerror(errno) +
                "). See to its disk and permissions, or choose another run.directory");
  }
}

class FileRendezvous {
 public:
  FileRendezvous(const JobPlace& place, const std::string& directory, double timeout_seconds)
      : place_(place),
        directory_(directory),
        timeout_seconds_(timeout_seconds),
        end_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(timeout_seconds))),
        number_(random_number()) {}

  void give(std::span<const std::byte> bytes) {
    std::vector<std::string> answered;
    while (true) {
      std::vector<std::string> requests;
      std::string missing;
      for (int rank = 1; rank < place_.ranks; ++rank) {
        requests.push_back(first_line(request_path(rank)));
        if (requests.back() != number_) missing += (missing.empty() ? "" : ", ") + text(rank);
      }
      if (missing.empty()) break;
      if (requests != answered) replace(answer_path(), answer(requests, bytes));
      answered = requests;
      pause("not all ranks have come (rank " + missing + ")");
    }
    std::error_code ignored;
    std::filesystem::remove(answer_path(), ignored);
    for (int rank = 1; rank < place_.ranks; ++rank) {
      std::filesystem::remove(request_path(rank), ignored);
    }
    std::filesystem::remove(directory_, ignored);
  }

  void take(std::span<std::byte> bytes) {
    replace(request_path(place_.rank), number_);
    std::string whose;
    while (!read_answer(bytes, whose)) pause("the first rank has not answered");
    replace(request_path(place_.rank), whose);
  }

 private:
  static std::string text(int rank) { return std::to_string(rank); }
  std::string request_path(int rank) const { return directory_ + "/request-" + text(rank); }
  std::string answer_path() const { return directory_ + "/answer"; }

  // Number, requests in the order of ranks, "." and the bytes; lines but for the last.
  std::string answer(const std::vector<std::string>& requests,
                     std::span<const std::byte> bytes) const {
    std::string all = number_ + "\n";
    for (const std::string& request : requests) all += request + "\n";
    all += ".\n";
    return all.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  bool read_answer(std::span<std::byte> bytes, std::string& whose) const {
    const std::string all = content(answer_path());
    const size_t header = all.find("\n.\n");
    if (header == std::string::npos || all.size() - header - 3 != bytes.size()) return false;
    std::istringstream lines(all.substr(0, header));
    std::string request;
    std::getline(lines, whose);
    for (int rank = 1; rank <= place_.rank; ++rank) std::getline(lines, request);
    if (request != number_) return false;
    const auto* first = reinterpret_cast<const std::byte*>(all.data()) + header + 3;
    std::copy(first, first + bytes.size(), bytes.begin());
    return true;
  }

  void pause(const std::string& why) const {
    stop_where_requested("the ranks meet in " + directory_ + ": " + why);
    if (Clock::now() > end_) {
      throw Error(ErrorKind::communication,
                  directory_ + ": " + why + " within " + duration_text(timeout_seconds_) +
                      ", parallel.timeout_seconds. See that every rank was started, and that all "
                      "see this directory");
    }
    std::this_thread::sleep_for(kLook);
  }

  JobPlace place_;
  std::string directory_;
  double timeout_seconds_;
  Clock::time_point end_;
  std::string number_;
};

}  // namespace

void broadcast_by_file(const JobPlace& place, const std::string& directory, double timeout_seconds,
                       std::span<std::byte> bytes) {
  if (place.ranks == 1) return;
  require_writable_directory(directory);
  FileRendezvous rendezvous(place, directory, timeout_seconds);
  if (place.rank == 0) {
    rendezvous.give(bytes);
  } else {
    rendezvous.take(bytes);
  }
}

}  // namespace normlab
