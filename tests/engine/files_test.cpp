#include "engine/files.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "catch.h"
#include "temporary_folder.h"

using namespace normlab;
using namespace normlab::test;

namespace {

template <typename Action>
std::string complaint_of(const Action& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("write_file_atomically: replaces the whole and leaves nothing beside") {
  const TemporaryFolder folder;
  const std::string path = folder.write("a", "a longer content");
  write_file_atomically(path, std::string_view("x\0y", 3));
  CHECK(read_file(path) == std::string("x\0y", 3));
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
  write_file_atomically(path, "");
  CHECK(read_file(path).empty());
}

TEST_CASE("files: what cannot be written or read names the path and the reason") {
  const TemporaryFolder folder;
  const std::string missing = folder.path() + "/none/a";
  for (const std::string& message : {complaint_of([&] { write_file_atomically(missing, "x"); }),
                                     complaint_of([&] { write_file_synced(missing, "x"); }),
                                     complaint_of([&] { read_file(missing); })}) {
    CHECK(has(message, missing));
    CHECK(has(message, "No such file or directory"));
  }
  CHECK(has(complaint_of([&] { read_file(folder.path()); }), "directory"));
  CHECK(has(complaint_of([&] { sync_directory(missing); }), missing));
  const std::string file = folder.write("file", "");
  CHECK(has(complaint_of([&] { require_writable_directory(file); }), file));
}

TEST_CASE("files: a full disk is told, not passed over") {
  if (!std::filesystem::exists("/dev/full")) return;
  CHECK(has(complaint_of([] { write_file_synced("/dev/full", "x"); }), "No space left"));
}

TEST_CASE("require_writable_directory: makes all levels and leaves no trial behind") {
  const TemporaryFolder folder;
  require_writable_directory(folder.path() + "/a/b");
  CHECK(std::filesystem::is_empty(folder.path() + "/a/b"));
}

TEST_CASE("DirectoryLock: one holder, whose process is named, until it lets go") {
  const TemporaryFolder folder;
  {
    const DirectoryLock lock(folder.path());
    const std::string message = complaint_of([&] { const DirectoryLock second(folder.path()); });
    CHECK(has(message, folder.path()));
    CHECK(has(message, "process " + std::to_string(getpid())));
  }
  CHECK(complaint_of([&] { const DirectoryLock again(folder.path()); }) == "");
}

TEST_CASE("DirectoryLock: dies with its process") {
  const TemporaryFolder folder;
  int ready[2];
  REQUIRE(pipe(ready) == 0);
  const pid_t child = fork();
  if (child == 0) {
    const DirectoryLock lock(folder.path());
    if (write(ready[1], "x", 1) == 1) pause();
    _exit(1);
  }
  char byte;
  REQUIRE(read(ready[0], &byte, 1) == 1);
  const std::string message = complaint_of([&] { const DirectoryLock lock(folder.path()); });
  CHECK(has(message, "process " + std::to_string(child)));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  CHECK(complaint_of([&] { const DirectoryLock lock(folder.path()); }) == "");
  close(ready[0]);
  close(ready[1]);
}
